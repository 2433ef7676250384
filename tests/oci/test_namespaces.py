"""Namespaces: new ones, those of others, and those that are missing."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.oci.bundle import Bundle
from tests.oci.runtime import Container, Runtime


def path(container: Container, kind: str) -> Path:
    return Path(f"/proc/{container.pid}/ns/{kind}")


@contextmanager
def netns(oci: Runtime) -> Iterator[Path]:
    """A network namespace that somebody has made, with an interface and an address."""
    name = f"{oci.name}-net"
    oci.host("ip", "netns", "add", name)
    try:
        oci.host("ip", "-n", name, "link", "add", "given0", "type", "veth", "peer", "name", "peer0")
        oci.host("ip", "-n", name, "addr", "add", "10.77.0.2/24", "dev", "given0")
        oci.host("ip", "-n", name, "link", "set", "peer0", "up")
        oci.host("ip", "-n", name, "link", "set", "given0", "up")
        yield Path("/run/netns", name)
    finally:
        oci.host("ip", "netns", "del", name)


def test_a_pid_namespace_begins_with_1(oci: Runtime) -> None:
    done = oci.run(oci.bundle("sh", "-c", "ls -d /proc/[0-9]*; echo $$"))
    assert done.out.split()[0] == "/proc/1"
    assert done.out.split()[-1] == "1"


def test_processes_of_the_host_are_not_seen(oci: Runtime) -> None:
    done = oci.run(oci.bundle("ls", "/proc"))
    assert [name for name in done.out.split() if name.isdigit()] == ["1"]


def test_the_hostname_is_the_bundles(oci: Runtime) -> None:
    assert oci.run(oci.bundle("hostname")).out == "box\n"


def test_a_hostname_of_64_letters(oci: Runtime) -> None:
    bundle = oci.bundle("hostname")
    bundle.config["hostname"] = "x" * 64
    assert oci.run(bundle).out == "x" * 64 + "\n"


def test_a_hostname_of_65_letters_is_refused(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.config["hostname"] = "x" * 65
    oci.refuses(bundle)


def test_the_hosts_hostname_stays(oci: Runtime) -> None:
    before = oci.host("uname", "-n")
    assert oci.run(oci.bundle("hostname")).out == "box\n"
    assert oci.host("uname", "-n") == before


def test_the_domainname_is_the_bundles(oci: Runtime) -> None:
    bundle = oci.bundle("cat", "/proc/sys/kernel/domainname")
    bundle.config.update(ociVersion="1.1.0", domainname="example")
    assert oci.run(bundle).out == "example\n"


def test_a_new_network_has_loopback_only(oci: Runtime) -> None:
    assert oci.run(oci.bundle("ls", "/sys/class/net")).out == "lo\n"


def test_loopback_is_up(oci: Runtime) -> None:
    assert "UP" in oci.run(oci.bundle("ip", "link", "show", "lo")).out


def test_loopback_works(oci: Runtime) -> None:
    script = "httpd -p 127.0.0.1:8080 -h /www && wget -q -O - http://127.0.0.1:8080/page"
    bundle = oci.bundle("sh", "-c", script)
    bundle.file("/www/page", "served")
    assert oci.run(bundle).out == "served"


def test_a_new_ipc_namespace_has_no_memory_of_others(oci: Runtime) -> None:
    assert len(oci.run(oci.bundle("cat", "/proc/sysvipc/shm")).out.splitlines()) == 1


def test_a_cgroup_namespace_shows_its_own_as_the_root(oci: Runtime) -> None:
    bundle = oci.bundle("cut", "-d", ":", "-f", "3", "/proc/self/cgroup")
    bundle.namespace("cgroup")
    assert set(oci.run(bundle).out.split()) == {"/"}


def test_a_time_namespace_has_offsets(oci: Runtime) -> None:
    bundle = oci.bundle("cut", "-d", ".", "-f", "1", "/proc/uptime")
    bundle.namespace("time")
    bundle.config["ociVersion"] = "1.1.0"
    bundle.linux["timeOffsets"] = {"boottime": {"secs": 100_000_000, "nanosecs": 0}}
    assert int(oci.run(bundle).out) >= 100_000_000


def test_a_user_namespace_maps_ids(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "cat /proc/self/uid_map; id -u; touch /tmp/mine; stat -c %u /tmp/mine")
    bundle.namespace("user")
    for kind in ("uidMappings", "gidMappings"):
        bundle.linux[kind] = [{"containerID": 0, "hostID": 100_000, "size": 1000}]
    assert oci.run(bundle).out.split() == ["0", "100000", "1000", "0", "0"]
    assert (bundle.rootfs / "tmp/mine").stat().st_uid == 100_000


def test_root_of_a_user_namespace_is_nobody_outside(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "cat /secret || stat -c %u /secret")
    bundle.file("/secret", "secret", 0o600)
    bundle.namespace("user")
    for kind in ("uidMappings", "gidMappings"):
        bundle.linux[kind] = [{"containerID": 0, "hostID": 100_000, "size": 1000}]
    assert oci.run(bundle).out == "65534\n"


def test_a_user_namespace_without_mappings_is_refused(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.namespace("user")
    oci.refuses(bundle)


def test_the_pid_namespace_of_another(oci: Runtime) -> None:
    first, bundle = oci.start(), oci.bundle("ls", "/proc")
    bundle.namespace("pid", path(first, "pid"))
    assert len([name for name in oci.run(bundle).out.split() if name.isdigit()]) == 2


def test_the_hostname_of_another(oci: Runtime) -> None:
    first, bundle = oci.start(), oci.bundle("hostname")
    bundle.namespace("uts", path(first, "uts"))
    del bundle.config["hostname"]
    assert oci.run(bundle).out == "box\n"


def test_the_network_of_another(oci: Runtime) -> None:
    first, bundle = oci.start(), oci.bundle("ls", "/sys/class/net")
    link = ["ip", "link", "add", "in0", "type", "veth", "peer", "name", "in1"]
    oci.host("nsenter", f"--net={path(first, 'net')}", *link)
    bundle.namespace("network", path(first, "net"))
    assert oci.run(bundle).out.split() == ["in0", "in1", "lo"]


def test_a_server_in_the_network_of_another(oci: Runtime) -> None:
    first = oci.bundle("sh", "-c", "httpd -p 127.0.0.1:8080 -h /www && echo up; exec cat")
    first.file("/www/page", "served")
    container, bundle = oci.start(first), oci.bundle("wget", "-q", "-O", "-", "http://127.0.0.1:8080/page")
    bundle.namespace("network", path(container, "net"))
    assert container.out.line() == "up\n"
    assert oci.run(bundle).out == "served"


def test_the_ipc_of_another(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.linux["sysctl"] = {"kernel.shmmni": "1234"}
    second = oci.bundle("cat", "/proc/sys/kernel/shmmni")
    second.namespace("ipc", path(oci.start(bundle), "ipc"))
    assert oci.run(second).out == "1234\n"


def test_a_network_that_was_made_before(oci: Runtime) -> None:
    with netns(oci) as given:
        bundle = oci.bundle("ip", "addr", "show", "given0")
        bundle.namespace("network", given)
        assert "10.77.0.2/24" in oci.run(bundle).out


def test_a_network_that_was_made_before_stays(oci: Runtime) -> None:
    with netns(oci) as given:
        bundle = oci.bundle("true")
        bundle.namespace("network", given)
        assert oci.run(bundle).status == 0
        assert "10.77.0.2/24" in oci.host("ip", "-n", given.name, "addr", "show", "given0")


def test_an_interface_that_comes_between_create_and_start(oci: Runtime) -> None:
    with netns(oci) as given:
        bundle = oci.bundle("ls", "/sys/class/net")
        bundle.namespace("network", given)
        container = oci.create(bundle)
        oci.host("ip", "-n", given.name, "link", "add", "late0", "type", "veth", "peer", "name", "late1")
        assert "late0" in container.start().out.rest().split()


def test_the_network_of_the_pid_can_be_filled_in(oci: Runtime) -> None:
    container = oci.create(oci.bundle("ls", "/sys/class/net"))
    oci.host(
        "nsenter", f"--net={path(container, 'net')}", "ip", "link", "add", "in0", "type", "veth", "peer", "name", "in1"
    )
    assert "in0" in container.start().out.rest().split()


@pytest.mark.parametrize("kind", ["network", "pid", "ipc", "uts"])
def test_a_path_where_nothing_is_is_refused(oci: Runtime, kind: str) -> None:
    bundle = oci.bundle()
    bundle.namespace(kind, oci.path())
    if kind == "uts":
        del bundle.config["hostname"]
    assert "o such file" in oci.refuses(bundle)


def test_a_path_of_another_kind_is_refused(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.namespace("network", f"/proc/{os.getpid()}/ns/ipc")
    oci.refuses(bundle)


def test_a_path_that_is_a_file_is_refused(oci: Runtime) -> None:
    bundle, file = oci.bundle(), oci.path()
    file.touch()
    bundle.namespace("network", file)
    oci.refuses(bundle)


def test_a_relative_path_is_refused(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.namespace("network", "netns")
    oci.refuses(bundle)


def test_a_namespace_that_has_gone_is_refused(oci: Runtime) -> None:
    first = oci.start()
    first.end()
    bundle = oci.bundle()
    bundle.namespace("network", path(first, "net"))
    oci.refuses(bundle)


def test_a_kind_twice_is_refused(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.linux["namespaces"].append({"type": "pid"})
    oci.refuses(bundle)


def test_an_unknown_kind_is_refused(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.linux["namespaces"].append({"type": "nosuch"})
    oci.refuses(bundle)


def test_a_hostname_without_a_namespace_for_it_is_refused(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.linux["namespaces"] = [one for one in bundle.linux["namespaces"] if one["type"] != "uts"]
    oci.refuses(bundle)


def mapped(bundle: Bundle) -> Bundle:
    """In a user namespace whose root is 100000 outside."""
    bundle.namespace("user")
    for kind in ("uidMappings", "gidMappings"):
        bundle.linux[kind] = [{"containerID": 0, "hostID": 100_000, "size": 1000}]
    return bundle


def test_root_of_a_user_namespace_has_its_tmpfs(oci: Runtime) -> None:
    bundle = mapped(oci.bundle("sh", "-c", "stat -c '%u %g' /dev/shm /run; touch /run/x /dev/x; stat -c %u /run/x"))
    (bundle.rootfs / "run").mkdir(exist_ok=True)  # who is nobody outside could not make it
    bundle.mount("/run", "tmpfs", "mode=755", type="tmpfs")
    assert oci.run(bundle) == (0, "0 0\n0 0\n0\n", "")


def test_an_exec_is_in_the_user_namespace(oci: Runtime) -> None:
    container = oci.start(mapped(oci.bundle()))
    assert container.exec("sh", "-c", "id -u; cat /proc/self/uid_map").out.split() == ["0", "0", "100000", "1000"]


def test_another_user_of_a_user_namespace(oci: Runtime) -> None:
    bundle = mapped(oci.bundle("sh", "-c", "id -u; touch /tmp/mine"))
    bundle.process["user"] = {"uid": 7, "gid": 7}
    assert oci.run(bundle).out == "7\n"
    assert (bundle.rootfs / "tmp/mine").stat().st_uid == 100_007
