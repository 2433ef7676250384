"""Kernel parameters of namespaces."""

import pytest

from tests.oci.runtime import Runtime


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv4.ip_unprivileged_port_start", "80"),
        ("net.core.somaxconn", "333"),
        ("kernel.shmmax", "12345678"),
        ("kernel.msgmax", "4444"),
        ("fs.mqueue.msg_max", "9"),
        ("kernel.domainname", "example"),
    ],
)
def test_a_parameter_of_a_namespace(oci: Runtime, name: str, value: str) -> None:
    bundle = oci.bundle("cat", f"/proc/sys/{name.replace('.', '/')}")
    bundle.linux["sysctl"] = {name: value}
    assert oci.run(bundle).out == f"{value}\n"


def test_the_hosts_stays(oci: Runtime) -> None:
    with open("/proc/sys/kernel/msgmax") as f:
        before = f.read()
    bundle = oci.bundle("cat", "/proc/sys/kernel/msgmax")
    bundle.linux["sysctl"] = {"kernel.msgmax": "4444"}
    assert oci.run(bundle).out == "4444\n"
    with open("/proc/sys/kernel/msgmax") as f:
        assert f.read() == before


def test_several(oci: Runtime) -> None:
    bundle = oci.bundle("cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/msgmax")
    bundle.linux["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "4444"}
    assert oci.run(bundle).out == "1\n4444\n"


@pytest.mark.parametrize("name", ["vm.swappiness", "kernel.pid_max", "fs.file-max", "kernel.core_pattern"])
def test_a_parameter_of_the_whole_host_is_refused(oci: Runtime, name: str) -> None:
    bundle = oci.bundle()
    bundle.linux["sysctl"] = {name: "10"}
    assert name in oci.refuses(bundle)


def test_an_unknown_parameter_is_refused(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.linux["sysctl"] = {"net.nosuch": "1"}
    oci.refuses(bundle)


def test_a_value_that_is_none_is_refused(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.linux["sysctl"] = {"net.ipv4.ip_forward": "maybe"}
    oci.refuses(bundle)


def test_a_parameter_of_the_hosts_network_is_refused(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.linux["namespaces"] = [one for one in bundle.linux["namespaces"] if one["type"] != "network"]
    bundle.linux["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "1024"}
    oci.refuses(bundle)


def test_a_path_for_a_name_is_refused(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.linux["sysctl"] = {"net/../vm/swappiness": "10"}
    oci.refuses(bundle)


def test_they_are_not_to_be_changed_inside(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
    bundle.linux["readonlyPaths"] = ["/proc/sys"]
    assert "Read-only file system" in oci.run(bundle).err
