"""Devices: those that are always there, those of the bundle, and who may use them."""

import stat
from typing import Any

import pytest

from tests.oci.bundle import Bundle
from tests.oci.runtime import Runtime


def with_device(bundle: Bundle, path: str, access: str | None = "rwm", **device: Any) -> Bundle:
    bundle.linux.setdefault("devices", []).append({"path": path, "type": "c", "major": 1, "minor": 3, **device})
    if access:
        kind, major, minor = (bundle.linux["devices"][-1].get(key) for key in ("type", "major", "minor"))
        rule = {"allow": True, "type": kind, "major": major, "minor": minor, "access": access}
        bundle.linux["resources"]["devices"].append(rule)
    return bundle


@pytest.mark.parametrize(
    ("name", "numbers"),
    [("null", "1 3"), ("zero", "1 5"), ("full", "1 7"), ("random", "1 8"), ("urandom", "1 9"), ("tty", "5 0")],
)
def test_a_device_that_is_always_there(oci: Runtime, name: str, numbers: str) -> None:
    done = oci.run(oci.bundle("stat", "-c", "%F %t %T %a", f"/dev/{name}"))
    assert done.out == f"character special file {numbers} 666\n"


@pytest.mark.parametrize(
    ("script", "out"),
    [
        ("echo lost >/dev/null; cat /dev/null", ""),
        ("head -c 3 /dev/zero | od -An -tx1", " 00 00 00\n"),
        ("echo x 2>/dev/null >/dev/full || echo full", "full\n"),
        ("head -c 8 /dev/urandom | wc -c", "8\n"),
        ("head -c 8 /dev/random | wc -c", "8\n"),
    ],
    ids=["null", "zero", "full", "urandom", "random"],
)
def test_it_does_what_it_does(oci: Runtime, script: str, out: str) -> None:
    assert oci.run(oci.bundle("sh", "-c", script)).out == out


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ],
)
def test_a_link_that_is_always_there(oci: Runtime, link: str, target: str) -> None:
    assert oci.run(oci.bundle("readlink", f"/dev/{link}")).out == f"{target}\n"


def test_another_user_may_use_them(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "echo x >/dev/null && head -c 1 /dev/zero | wc -c")
    bundle.process["user"] = {"uid": 1234, "gid": 1234}
    assert oci.run(bundle).out == "1\n"


def test_a_device_of_the_bundle(oci: Runtime) -> None:
    bundle = with_device(oci.bundle("stat", "-c", "%F %t %T", "/dev/mine"), "/dev/mine", major=10, minor=229)
    assert oci.run(bundle).out == "character special file a e5\n"


def test_a_block_device(oci: Runtime) -> None:
    bundle = with_device(oci.bundle("stat", "-c", "%F %t %T", "/dev/disk0"), "/dev/disk0", type="b", major=7, minor=9)
    assert oci.run(bundle).out == "block special file 7 9\n"


def test_a_fifo(oci: Runtime) -> None:
    bundle = oci.bundle("stat", "-c", "%F", "/dev/fifo")
    bundle.linux["devices"] = [{"path": "/dev/fifo", "type": "p"}]
    assert oci.run(bundle).out == "fifo\n"


def test_its_mode_and_owner(oci: Runtime) -> None:
    bundle = oci.bundle("stat", "-c", "%a %u %g", "/dev/mine")
    with_device(bundle, "/dev/mine", fileMode=0o640, uid=12, gid=34)
    assert oci.run(bundle).out == "640 12 34\n"


def test_it_works(oci: Runtime) -> None:
    bundle = with_device(oci.bundle("sh", "-c", "head -c 2 /dev/mine | od -An -tx1"), "/dev/mine", minor=5)
    assert oci.run(bundle).out == " 00 00\n"


def test_a_device_in_a_folder_of_its_own(oci: Runtime) -> None:
    bundle = with_device(oci.bundle("stat", "-c", "%F", "/dev/a/b"), "/dev/a/b")
    assert oci.run(bundle).out == "character special file\n"


def test_a_device_outside_of_dev(oci: Runtime) -> None:
    bundle = with_device(oci.bundle("sh", "-c", "echo lost >/opt/null; cat /opt/null"), "/opt/null")
    done = oci.run(bundle)
    assert (done.status, done.out) == (0, "")
    assert not stat.S_ISREG((bundle.rootfs / "opt/null").stat().st_mode)


def test_a_device_that_no_rule_allows(oci: Runtime) -> None:
    bundle = with_device(oci.bundle("cat", "/dev/mine"), "/dev/mine", None, type="b", major=7, minor=9)
    assert "Operation not permitted" in oci.run(bundle).err


def test_a_device_that_may_be_read_only(oci: Runtime) -> None:
    script = ": </dev/log0 && echo readable; : >/dev/log0 && echo writable"
    bundle = with_device(oci.bundle("sh", "-c", script), "/dev/log0", "r", minor=11)
    for kind in bundle.process["capabilities"]:
        bundle.process["capabilities"][kind] = ["CAP_SYSLOG"]
    done = oci.run(bundle)
    assert done.out == "readable\n"
    assert "Operation not permitted" in done.err


def test_nobody_makes_a_device_that_no_rule_allows(oci: Runtime) -> None:
    done = oci.run(oci.bundle("sh", "-c", "mknod /tmp/mem c 1 1 && cat /tmp/mem"))
    assert "Operation not permitted" in done.err


def test_without_the_capability_nobody_makes_devices(oci: Runtime) -> None:
    bundle = oci.bundle("mknod", "/tmp/null", "c", "1", "3")
    bundle.process["capabilities"] = {}
    assert "Operation not permitted" in oci.run(bundle).err


def test_an_exec_may_not_more(oci: Runtime) -> None:
    container = oci.start(with_device(oci.bundle(), "/dev/mine", None, type="b", major=7, minor=9))
    assert "Operation not permitted" in container.exec("cat", "/dev/mine").err


def test_an_unknown_type_is_refused(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.linux["devices"] = [{"path": "/dev/mine", "type": "x", "major": 1, "minor": 3}]
    oci.refuses(bundle)


def test_shared_memory(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "stat -c %a /dev/shm; echo x >/dev/shm/x; df -k /dev/shm | tail -n 1")
    mode, _, size, *_ = oci.run(bundle).out.split()
    assert (mode, size) == ("1777", "65536")
