"""Each field of docker's API 1.51 that a container is created with does something, is refused or is warned of; what is
passed over is named here."""

from typing import Any

import msgspec
import pytest

from hypercontainer.errors import HyperError
from hypercontainer.hyperd.docker import call, config, inspect, spec, versions
from hypercontainer.model.spec import ContainerSpec, Healthcheck
from tests.unit.hyperd.docker.documents import made, running

RATE = [{"Path": "/dev/sda", "Rate": 1}]
# A value of each that is not its default. A VolumeDriver is looked for when there are volumes: test_spec.py has that.
OF_CONTAINER: dict[str, Any] = {
    "ArgsEscaped": True,
    "AttachStderr": True,
    "AttachStdin": True,
    "AttachStdout": True,
    "Cmd": ["a"],
    "Domainname": "d",
    "Entrypoint": ["e"],
    "Env": ["A=b"],
    "ExposedPorts": {"80/tcp": {}},
    "Healthcheck": {"Retries": 1},
    "Hostname": "h",
    "Image": "i",
    "Labels": {"a": "b"},
    "MacAddress": "02:00:00:00:00:01",
    "NetworkDisabled": True,
    "OnBuild": ["RUN x"],
    "OpenStdin": True,
    "Shell": ["/bin/bash", "-c"],
    "StdinOnce": True,
    "StopSignal": "SIGINT",
    "StopTimeout": 3,
    "Tty": True,
    "User": "u",
    "Volumes": {"/v": {}},
    "WorkingDir": "/w",
}
OF_HOST: dict[str, Any] = {
    "Annotations": {"a": "b"},
    "AutoRemove": True,
    "Binds": ["/a:/b"],
    "BlkioDeviceReadBps": RATE,
    "BlkioDeviceReadIOps": RATE,
    "BlkioDeviceWriteBps": RATE,
    "BlkioDeviceWriteIOps": RATE,
    "BlkioWeight": 10,
    "BlkioWeightDevice": RATE,
    "CapAdd": ["NET_ADMIN"],
    "CapDrop": ["CHOWN"],
    "Cgroup": "x",
    "CgroupParent": "x",
    "CgroupnsMode": "host",
    "ConsoleSize": [24, 80],
    "ContainerIDFile": "/x",
    "CpuCount": 1,
    "CpuPercent": 1,
    "CpuPeriod": 1000,
    "CpuQuota": 1000,
    "CpuRealtimePeriod": 1,
    "CpuRealtimeRuntime": 1,
    "CpuShares": 5,
    "CpusetCpus": "0",
    "CpusetMems": "0",
    "DeviceCgroupRules": ["c 1:3 r"],
    "DeviceRequests": [{"Driver": "nvidia"}],
    "Devices": [{"PathOnHost": "/dev/sda"}],
    "Dns": ["192.0.2.1"],
    "DnsOptions": ["ndots:1"],
    "DnsSearch": ["x"],
    "ExtraHosts": ["a:192.0.2.1"],
    "GroupAdd": ["1"],
    "IOMaximumBandwidth": 1,
    "IOMaximumIOps": 1,
    "Init": True,
    "IpcMode": "host",
    "Isolation": "hyperv",
    "KernelMemory": 1 << 28,
    "KernelMemoryTCP": 1 << 28,
    "Links": ["a:b"],
    "LogConfig": {"Type": "none"},
    "MaskedPaths": ["/proc/a"],
    "Memory": 1 << 28,
    "MemoryReservation": 1 << 28,
    "MemorySwap": 1 << 28,
    "MemorySwappiness": 5,
    "Mounts": [{"Type": "tmpfs", "Target": "/x"}],
    "NanoCpus": 10**9,
    "NetworkMode": "none",
    "OomKillDisable": True,
    "OomScoreAdj": 5,
    "PidMode": "host",
    "PidsLimit": 5,
    "PortBindings": {"80/tcp": [{"HostPort": "8080"}]},
    "Privileged": True,
    "PublishAllPorts": True,
    "ReadonlyPaths": ["/proc/a"],
    "ReadonlyRootfs": True,
    "RestartPolicy": {"Name": "always"},
    "Runtime": "runc",
    "SecurityOpt": ["no-new-privileges"],
    "ShmSize": 1 << 27,
    "StorageOpt": {"size": "1g"},
    "Sysctls": {"net.core.somaxconn": "1"},
    "Tmpfs": {"/t": ""},
    "UTSMode": "host",
    "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 1}],
    "UsernsMode": "host",
    "VolumesFrom": ["x"],
}
OF_ENDPOINT: dict[str, Any] = {
    "Aliases": ["a"],
    "DNSNames": ["a"],
    "DriverOpts": {"a": "b"},
    "EndpointID": "x",
    "Gateway": "192.0.2.1",
    "GlobalIPv6Address": "2001:db8::1",
    "GlobalIPv6PrefixLen": 64,
    "GwPriority": 1,
    "IPAMConfig": {"IPv4Address": "192.0.2.1"},
    "IPAddress": "192.0.2.1",
    "IPPrefixLen": 24,
    "IPv6Gateway": "2001:db8::1",
    "Links": ["a:b"],
    "MacAddress": "02:00:00:00:00:01",
    "NetworkID": "x",
}
OF_ADDRESSES = {"IPv4Address": "192.0.2.1", "IPv6Address": "2001:db8::1", "LinkLocalIPs": ["169.254.0.1"]}
OF_MOUNT: dict[str, Any] = {
    "BindOptions": {"CreateMountpoint": True},
    "ClusterOptions": {"a": "b"},
    "Consistency": "cached",
    "ImageOptions": {"Subpath": "x"},
    "ReadOnly": True,
    "TmpfsOptions": {"SizeBytes": 1 << 20},
    "VolumeOptions": {"NoCopy": True},
}
# The client's own, Windows', what a daemon says of an endpoint, and a period without a quota: no processor is less.
PASSED_OVER = {
    "ArgsEscaped",
    "AttachStderr",
    "AttachStdin",
    "AttachStdout",
    "Consistency",
    "ContainerIDFile",
    "CpuPeriod",
    "DNSNames",
    "EndpointID",
    "Gateway",
    "GlobalIPv6Address",
    "GlobalIPv6PrefixLen",
    "IPAddress",
    "IPPrefixLen",
    "IPv6Gateway",
    "NetworkID",
}


def changes(**fields: Any) -> bool:
    """Whether it is refused, warned of, or another container for these. What is only told again is not."""
    try:
        pod, warnings = spec.pod(call.body(msgspec.json.encode(fields), config.ContainerConfig, "application/json"), "")
    except HyperError:
        return True
    told = ("Annotations", "UsernsMode")  # which is all that there is to do
    [container] = pod.containers
    asked = {key: value for key, value in container.as_asked.items() if key in told}
    container = msgspec.structs.replace(container, as_asked=asked)
    usual, _ = spec.pod(config.ContainerConfig(), "")
    return bool(warnings) or msgspec.structs.replace(pod, containers=[container]) != usual


@pytest.mark.parametrize("field", OF_CONTAINER)
def test_of_a_container(field: str) -> None:
    assert changes(**{field: OF_CONTAINER[field]}) is (field not in PASSED_OVER)


@pytest.mark.parametrize("field", OF_HOST)
def test_of_its_host(field: str) -> None:
    assert changes(HostConfig={field: OF_HOST[field]}) is (field not in PASSED_OVER)


def at(**endpoint: Any) -> dict[str, Any]:
    return {"NetworkingConfig": {"EndpointsConfig": {"default": endpoint}}}


@pytest.mark.parametrize("field", OF_ENDPOINT)
def test_of_its_place_in_a_network(field: str) -> None:
    assert changes(**at(**{field: OF_ENDPOINT[field]})) is (field not in PASSED_OVER)


@pytest.mark.parametrize("field", OF_ADDRESSES)
def test_of_its_addresses(field: str) -> None:
    assert changes(**at(IPAMConfig={field: OF_ADDRESSES[field]}))


@pytest.mark.parametrize("kind", ["bind", "volume", "tmpfs"])
@pytest.mark.parametrize("field", OF_MOUNT)
def test_of_a_mount(kind: str, field: str) -> None:
    """Options of another type are refused."""
    mount = {"Type": kind, "Target": "/t", **({} if kind == "tmpfs" else {"Source": "/a"})}
    bare, _ = spec.pod(asked(mount), "")
    try:
        other, _ = spec.pod(asked(mount | {field: OF_MOUNT[field]}), "")
    except HyperError:
        return
    assert (other.containers[0].mounts != bare.containers[0].mounts) is (field not in PASSED_OVER)


def asked(*mounts: dict[str, Any]) -> config.ContainerConfig:
    body = msgspec.json.encode({"Image": "busybox", "HostConfig": {"Mounts": mounts}})
    return call.body(body, config.ContainerConfig, "application/json")


def test_of_a_probe() -> None:
    ns = {"Interval": 10**9, "Timeout": 10**9, "StartPeriod": 10**9, "StartInterval": 10**9, "Retries": 3}
    for field, value in {"Test": ["CMD", "true"], **ns}.items():
        assert changes(Healthcheck={field: value}), field


@pytest.mark.parametrize(
    "asked",
    [
        ContainerSpec(image="busybox"),
        ContainerSpec(image="busybox", privileged=True),
        ContainerSpec(image="busybox", tty=True, rows=24, columns=80, masked_paths=[], readonly_paths=["/proc/sys"]),
        ContainerSpec(image="busybox", shell=["/bin/bash", "-c"], healthcheck=Healthcheck(test=["CMD-SHELL", "true"])),
    ],
)
def test_what_an_inspection_says_makes_the_same_container(asked: ContainerSpec) -> None:
    """As watchtower does it, which sends all of it back."""
    found = inspect.container(running(made(asked)), versions.NEWEST, {})
    networks = {"EndpointsConfig": found["NetworkSettings"]["Networks"]}
    sent = found["Config"] | {"HostConfig": found["HostConfig"], "NetworkingConfig": networks}
    pod, warnings = spec.pod(call.body(msgspec.json.encode(sent), config.ContainerConfig, "application/json"), "web")
    again = inspect.container(running(made(pod.containers[0])), versions.NEWEST, {})
    assert (warnings, again["Config"], again["HostConfig"]) == ([], found["Config"], found["HostConfig"])
