"""What containers of frakti's pods are shown of this host, and what they may: by crictl, in machines that boot."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.test_frakti import IMAGE, WAITS, Kubelet, kubelet, pytestmark  # noqa: F401  fixtures

LOCALHOST = 2  # whose a seccomp profile is


def waiting(kubelet: Kubelet, pod: str = "", name: str = "one", **described: Any) -> str:  # noqa: F811
    """A container that runs, in a pod of its own if none is said."""
    container = kubelet.made(pod or kubelet.pod(), name, *WAITS, **described)
    kubelet.ok("start", container)
    return container


def said(kubelet: Kubelet, container: str, line: str) -> str:  # noqa: F811
    return kubelet.ok("exec", "-s", container, "sh", "-c", line)


def refused(kubelet: Kubelet, pod: str, words: str, **described: Any) -> None:  # noqa: F811
    usual = {"metadata": {"name": "refused"}, "image": {"image": IMAGE}, "command": WAITS}
    file = kubelet._file("refused", {**usual, **described})
    done = kubelet("create", pod, file, str(kubelet.folder / "pod.json"))
    assert done.status != 0 and words in done.err, done


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A folder of this host with a file system of its own below it."""
    folder = tmp_path / "mounted"
    (folder / "sub").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder / "sub"], check=True)
    yield folder
    if (folder / "sub").is_mount():
        subprocess.run(["umount", folder / "sub"], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    """A block device of this host, of 1 MiB."""
    file = tmp_path / "disk"
    file.write_bytes(b"of the host" + bytes((1 << 20) - 11))
    made = subprocess.run(["losetup", "--find", "--show", file], check=True, capture_output=True, text=True)
    yield made.stdout.strip()
    subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True)


def test_a_seccomp_profile_of_this_host(kubelet: Kubelet, tmp_path: Path) -> None:  # noqa: F811
    profile = tmp_path / "profile.json"
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}  # EOPNOTSUPP
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    security = {"seccomp": {"profile_type": LOCALHOST, "localhost_ref": str(profile)}}
    pod = kubelet.pod()
    one = waiting(kubelet, pod, linux={"security_context": security})
    assert "not supported" in said(kubelet, one, "mkdir /x 2>&1 || true")
    assert said(kubelet, one, "grep Seccomp: /proc/1/status").split() == ["Seccomp:", "2"]
    profile.unlink()
    refused(kubelet, pod, "cannot read seccomp profile", linux={"security_context": security})


def test_ambient_capabilities(kubelet: Kubelet) -> None:  # noqa: F811
    security = {"run_as_user": {"value": 1000}, "capabilities": {"add_ambient_capabilities": ["CHOWN"]}}
    one = waiting(kubelet, linux={"security_context": security})
    assert said(kubelet, one, "grep CapAmb /proc/self/status").split() == ["CapAmb:", "0000000000000001"]
    assert said(kubelet, one, "touch /tmp/f && chown 5:6 /tmp/f && stat -c %u:%g /tmp/f") == "5:6"


def test_what_is_read_only_is_so_with_all_below(kubelet: Kubelet, mounted: Path) -> None:  # noqa: F811
    described = {"container_path": "/m", "host_path": str(mounted), "readonly": True, "recursive_read_only": True}
    pod = kubelet.pod()
    one = waiting(kubelet, pod, mounts=[described])
    assert said(kubelet, one, "touch /m/sub/f 2>/dev/null || touch /m/f 2>/dev/null || echo refused") == "refused"
    refused(kubelet, pod, "it is not read-only", mounts=[{**described, "readonly": False}])
    info = json.loads(kubelet.ok("info"))
    assert all(each["features"]["recursive_read_only_mounts"] for each in info["runtimeHandlers"])


def test_what_is_mounted_below_may_be_written(kubelet: Kubelet, mounted: Path) -> None:  # noqa: F811
    """As on this host, where the kubelet does not ask for recursive read-only; the host has it back at once."""
    described = {"container_path": "/m", "host_path": str(mounted), "readonly": True}
    one = waiting(kubelet, mounts=[described, {**described, "container_path": "/r", "recursive_read_only": True}])
    assert said(kubelet, one, "touch /m/sub/f && ls /r/sub") == "f"
    assert said(kubelet, one, "touch /m/f 2>/dev/null || touch /r/sub/f 2>/dev/null || echo refused") == "refused"
    assert (mounted / "sub" / "f").exists()
    told = {each["containerPath"]: each["recursiveReadOnly"] for each in kubelet.status(one)["mounts"]}
    assert told == {"/m": False, "/r": True}
    subprocess.run(["umount", mounted / "sub"], check=True)
    (mounted / "sub").rmdir()


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A folder of this host, on a mount that can be followed."""
    folder = tmp_path / "shared"
    (folder / "sub").mkdir(parents=True)
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    subprocess.run(["mount", "--make-rshared", folder], check=True)
    yield folder
    subprocess.run(["umount", "-R", folder], check=True)


def test_what_is_mounted_later_is_followed(kubelet: Kubelet, shared: Path, tmp_path: Path) -> None:  # noqa: F811
    described = {"container_path": "/m", "host_path": str(shared), "propagation": 1}
    pod = kubelet.pod()
    seen = ["sh", "-c", "until test -e /m/sub/f; do :; done; echo seen; while test -e /m/sub/f; do :; done; echo gone"]
    one = kubelet.made(pod, "one", *seen, mounts=[described])
    kubelet.ok("start", one)
    two = waiting(kubelet, pod, "two", mounts=[{**described, "readonly": True}])
    assert [each["propagation"] for each in kubelet.status(two)["mounts"]] == ["PROPAGATION_HOST_TO_CONTAINER"]
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", shared / "sub"], check=True)
    assert said(kubelet, two, "touch /m/f 2>/dev/null || touch /m/sub/g && ls /m/sub") == "g"
    (shared / "sub" / "f").touch()
    process = kubelet.hyper.process
    assert process
    process.send_signal(signal.SIGKILL)
    process.wait()
    kubelet.hyper.start()
    (shared / "sub" / "h").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", shared / "sub" / "h"], check=True)
    (shared / "sub" / "h" / "i").touch()
    assert said(kubelet, two, "ls /m/sub/h") == "i"
    subprocess.run(["umount", shared / "sub" / "h", shared / "sub"], check=True)  # whoever has looked at it
    assert kubelet.until(one, "CONTAINER_EXITED")["exitCode"] == 0
    assert kubelet.log("one") == ["stdout F seen", "stdout F gone"]
    (shared / "sub").rmdir()
    assert said(kubelet, two, "ls /m") == ""
    private = tmp_path / "private"
    private.mkdir()
    subprocess.run(["mount", "--bind", "--make-private", private, private], check=True)
    try:
        refused(kubelet, pod, "make that a shared one", mounts=[{**described, "host_path": str(private)}])
    finally:
        subprocess.run(["umount", private], check=True)
    refused(kubelet, pod, "never this host's", mounts=[{**described, "propagation": 2}])


def swapped(folder: Path, version: int, content: str) -> None:
    """As a kubelet has it: all files of a configMap, secret or projected volume change with one link."""
    before = folder / "..data"
    old = before.readlink() if before.is_symlink() else None
    data = folder / f"..version{version}"
    data.mkdir()
    (data / "key").write_text(content)
    (folder / "..new").symlink_to(data.name)
    (folder / "..new").rename(before)
    if old is None:
        (folder / "key").symlink_to("..data/key")
    else:
        (folder / old / "key").unlink()
        (folder / old).rmdir()


def test_an_update_is_seen(kubelet: Kubelet, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "config"
    folder.mkdir()
    swapped(folder, 1, "old")
    one = waiting(kubelet, mounts=[{"container_path": "/m", "host_path": str(folder), "readonly": True}])
    assert said(kubelet, one, "cat /m/key") == "old"
    swapped(folder, 2, "new")
    assert said(kubelet, one, "until grep -q new /m/key; do :; done; cat /m/key") == "new"


def test_a_termination_log_and_a_subpath(kubelet: Kubelet, tmp_path: Path) -> None:  # noqa: F811
    log, volume, sub = tmp_path / "termination", tmp_path / "volume", tmp_path / "subpath"
    volume.mkdir()
    for path in (log, volume / "file", sub):
        path.touch()
    subprocess.run(["mount", "--bind", volume / "file", sub], check=True)  # as a kubelet does it for subPath
    try:
        one = kubelet.made(
            kubelet.pod(), "one", "sh", "-c", "echo why > /dev/termination-log; echo to >> /etc/sub.conf",
            mounts=[
                {"container_path": "/dev/termination-log", "host_path": str(log)},
                {"container_path": "/etc/sub.conf", "host_path": str(sub)},
            ],
        )  # fmt: skip
        kubelet.ok("start", one)
        assert kubelet.until(one, "CONTAINER_EXITED")["exitCode"] == 0
    finally:
        subprocess.run(["umount", sub], check=True)
    assert (log.read_text(), (volume / "file").read_text()) == ("why\n", "to\n")


def test_who_its_processes_are(kubelet: Kubelet) -> None:  # noqa: F811
    pod = kubelet.pod()
    for name, policy in (("merges", 0), ("strict", 1)):
        security = {
            "run_as_user": {"value": 1000},
            "run_as_group": {"value": 7},
            "supplemental_groups": [55],
            "supplemental_groups_policy": policy,
        }
        one = waiting(kubelet, pod, name, linux={"security_context": security})
        user = kubelet.status(one)["user"]["linux"]
        assert (user["uid"], user["gid"], user["supplementalGroups"]) == ("1000", "7", ["7", "55"])
        assert said(kubelet, one, "id -u; id -g; id -G").split() == ["1000", "7", "7", "55"]
    assert json.loads(kubelet.ok("info"))["features"]["supplemental_groups_policy"]


def test_shared_memory_is_the_pods(kubelet: Kubelet, tmp_path: Path) -> None:  # noqa: F811
    pod = kubelet.pod()
    one, two = (waiting(kubelet, pod, name) for name in ("one", "two"))
    said(kubelet, one, "echo there > /dev/shm/f")
    assert said(kubelet, two, "cat /dev/shm/f; df -k /dev/shm | tail -n 1 | awk '{print $2}'").split() == [
        "there",
        "65536",
    ]
    for each in (one, two):
        kubelet.ok("stop", "-t", "0", each)
        kubelet.ok("rm", each)
    assert said(kubelet, waiting(kubelet, pod, "three"), "cat /dev/shm/f") == "there"  # it is nobody's else
    own = {"container_path": "/dev/shm", "host_path": str(tmp_path)}
    assert said(kubelet, waiting(kubelet, pod, "four", mounts=[own]), "ls /dev/shm") == "\n".join(
        sorted(p.name for p in tmp_path.iterdir())
    )


def test_a_block_volume(kubelet: Kubelet, disk: str) -> None:  # noqa: F811
    pod = kubelet.pod()
    device = {"container_path": "/dev/xvda", "host_path": disk, "permissions": "mrw"}
    one = waiting(kubelet, pod, devices=[device])
    assert said(kubelet, one, "test -b /dev/xvda && head -c 11 /dev/xvda") == "of the host"
    said(kubelet, one, "printf written > /dev/xvda && sync")
    kubelet.ok("stop", "-t", "0", one)
    kubelet.ok("rm", one)
    assert Path(disk).read_bytes()[:11] == b"writtenhost"
    two = waiting(kubelet, pod, "two", devices=[{**device, "permissions": "r"}])
    assert (
        said(kubelet, two, "head -c 11 /dev/xvda; printf no 2>/dev/null > /dev/xvda || echo refused")
        == "writtenhostrefused"
    )
    refused(kubelet, pod, "no devices of the host", devices=[{"container_path": "/dev/x", "host_path": "/dev/ptmx"}])
    refused(kubelet, pod, "No such file", devices=[{"container_path": "/dev/x", "host_path": "/dev/missing"}])


def test_an_image_volume(kubelet: Kubelet) -> None:  # noqa: F811
    pod = kubelet.pod()
    whole = {"container_path": "/whole", "image": {"image": IMAGE}, "readonly": True}
    part = {"container_path": "/part/bin", "image": {"image": IMAGE}, "image_sub_path": "bin", "readonly": True}
    one = waiting(kubelet, pod, mounts=[whole, part])
    assert said(kubelet, one, "test -x /whole/bin/busybox && ls /part/bin | grep -x busybox") == "busybox"
    assert said(kubelet, one, "touch /whole/f 2>/dev/null || /part/bin/busybox echo no") == "no"
    assert [each["image"]["image"] for each in kubelet.status(one)["mounts"] if each["image"]] == [IMAGE] * 2
    kubelet.ok("stop", "-t", "0", one)
    kubelet.ok("rm", one)
    two = waiting(kubelet, pod, "two", mounts=[whole])
    assert said(kubelet, two, "ls /whole/bin | grep -x busybox") == "busybox"
    refused(kubelet, pod, "no such path", mounts=[{**part, "image_sub_path": "bin/no/such"}])
    refused(kubelet, pod, "with readonly", mounts=[{**part, "readonly": False}])
    refused(kubelet, pod, "missing", mounts=[{**whole, "image": {"image": "missing"}}])
