"""/_ping, /version, /info, /system/df, /auth; and what a daemon without swarm and plugins says of those."""

from collections.abc import Sequence
from typing import Any, Literal

from hypercontainer.hyperd.docker import inspect, networks, refused, versions
from hypercontainer.hyperd.docker.call import Body, Nothing, Query
from hypercontainer.hyperd.docker.errors import NoSwarm
from hypercontainer.hyperd.docker.images import list_entry
from hypercontainer.hyperd.docker.inspect import Document
from hypercontainer.hyperd.docker.volumes import volume
from hypercontainer.hyperd.http.call import Answer, Call
from hypercontainer.model import documents as doc
from hypercontainer.model.api import Credentials
from hypercontainer.model.arch import ARCHES

HUB, LOOPBACK = "docker.io", ["::1/128", "127.0.0.0/8"]
INDEX = "https://index.docker.io/v1/"
PING = {
    "Builder-Version": "1",  # 2 would be BuildKit
    "Swarm": "inactive",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
}
LIMITS = {  # what a container can be held to; the kernel that does it is the guest's
    **dict.fromkeys(("MemoryLimit", "CpuCfsPeriod", "CpuCfsQuota", "CPUShares", "PidsLimit"), True),
    **dict.fromkeys(("SwapLimit", "KernelMemory", "KernelMemoryTCP", "CPUSet", "OomKillDisable"), False),
}
OF_NETWORKS = dict.fromkeys(("IPv4Forwarding", "BridgeNfIptables", "BridgeNfIp6tables"), True)
LACKING = [f"No {what} support" for what in dict.fromkeys(refused.LACKING.values())]


async def ping(call: Call[Nothing, None]) -> Answer:
    await call.engine.system.ping()
    return Answer(content=b"OK", headers=PING, media_type="text/plain; charset=utf-8")


async def options(call: Call[Nothing, bytes]) -> Answer:
    """Of any path: for browsers, which docker lets ask."""
    return Answer(status=200)


async def version(call: Call[Nothing, None]) -> Document:
    said = await call.engine.system.version()
    engine = {
        "Version": said.version,
        "ApiVersion": str(versions.NEWEST),
        "MinAPIVersion": str(versions.OLDEST),
        "Os": said.os,
        "Arch": architecture(said.arch),
        "KernelVersion": said.kernel_version,
        "GitCommit": "",
        "GoVersion": "",
        "BuildTime": "",
        "Experimental": False,
    }
    details = {key: str(value) for key, value in engine.items() if key != "Version"} | {"Experimental": "false"}
    component = {"Name": "Engine", "Version": said.version, "Details": details}
    return {**engine, "Platform": {"Name": "HyperContainer"}, "Components": [component]}


def architecture(machine: str) -> str:
    """The host's, in Go's words."""
    return ARCHES[machine].docker if machine in ARCHES else machine


async def info(call: Call[Nothing, None]) -> Document:
    said = await call.engine.system.info()
    isolation = f"{said.isolation.level} ({said.isolation.accelerator}): {said.isolation.reason}"
    return {
        "ID": said.name,
        "Name": said.name,
        "ServerVersion": said.server_version,
        "Containers": said.containers,
        "ContainersRunning": said.containers_running,
        "ContainersPaused": said.containers_paused,
        "ContainersStopped": said.containers_stopped,
        "Images": said.images,
        "Driver": "erofs",
        "DriverStatus": [
            ["Isolation", isolation],
            ["Hypervisor", f"{said.hypervisor.name} {said.hypervisor.version}"],
            ["Guest kernel", said.guest_kernel or "none"],
        ],
        "LoggingDriver": "json-file",
        "CgroupDriver": "none",
        "CgroupVersion": "2",
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "null"],
            "Authorization": None,
            "Log": ["json-file", "local"],
        },
        "KernelVersion": said.kernel_version,
        "OperatingSystem": said.operating_system,
        "OSVersion": "",
        "OSType": "linux",
        "Architecture": said.architecture,
        "NCPU": said.ncpu,
        "MemTotal": said.mem_total,
        "DockerRootDir": said.root,
        "IndexServerAddress": INDEX,
        "RegistryConfig": _registries(said.registries),
        "Labels": [],
        "Runtimes": {"hyper": {"path": "hyperd"}},
        "DefaultRuntime": "hyper",
        "Swarm": {"NodeID": "", "LocalNodeState": "inactive", "ControlAvailable": False, "RemoteManagers": None},
        "SecurityOptions": [*(["name=apparmor"] if said.apparmor else []), "name=seccomp,profile=builtin"],
        "Isolation": "",
        "LiveRestoreEnabled": True,
        "ExperimentalBuild": False,
        "Debug": False,
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "InitBinary": "",
        "ContainerdCommit": {"ID": "", "Expected": ""},
        "RuncCommit": {"ID": "", "Expected": ""},
        "InitCommit": {"ID": "", "Expected": ""},
        "Warnings": [f"WARNING: {warning}" for warning in (*said.warnings, *LACKING)],
        **LIMITS,
        **OF_NETWORKS,
    }


def _registries(said: Sequence[doc.Registry]) -> Document:
    return {
        "IndexConfigs": {
            each.name: {
                "Name": each.name,
                "Mirrors": each.mirrors,
                "Secure": not each.insecure,
                "Official": each.name == HUB,
            }
            for each in said
        },
        "InsecureRegistryCIDRs": LOOPBACK,
        "Mirrors": [mirror for each in said if each.name == HUB for mirror in each.mirrors],
    }


class DfQuery(Query, frozen=True, kw_only=True):
    type: list[Literal["container", "image", "volume", "build-cache"]] = []  # of what; [] = of all


async def df(call: Call[DfQuery, None]) -> Document:
    """null where nobody asked."""
    engine, asked = call.engine, call.query.type
    images, containers, volumes = (not asked or kind in asked for kind in ("image", "container", "volume"))
    found = await engine.images.list({}) if images else []
    users = await engine.containers.list(all=True, filters={}, size=containers) if containers or volumes else []
    owned = await engine.volumes.list({}, size=True) if volumes else []
    ids = await networks.ids(call) if containers else {}
    return {
        "LayersSize": sum(image.size for image in found),
        "Images": [_image(image, versions.of(call)) for image in found] if images else None,
        "Containers": [inspect.entry(each, ids) for each in users] if containers else None,
        "Volumes": [volume(each) | {"UsageData": _usage(each, users)} for each in owned] if volumes else None,
        "BuildCache": None,
        "BuilderSize": 0,
    }


def _image(found: doc.ImageEntry, version: versions.Version) -> Document:
    return list_entry(found, version, shared_size=True) | {"Containers": found.containers}


def _usage(each: doc.Volume, containers: Any) -> dict[str, int]:
    users = sum(any(mount.name == each.name for mount in container.mounts) for container in containers)
    return {"RefCount": users, "Size": each.size or 0}


class AuthConfig(Body, frozen=True, kw_only=True):
    username: str = ""
    password: str = ""
    serveraddress: str = ""
    identitytoken: str = ""


async def auth(call: Call[Nothing, AuthConfig]) -> dict[str, str]:
    body = call.body
    given = Credentials(username=body.username, password=body.password, identity_token=body.identitytoken)
    await call.engine.images.login(registry(body.serveraddress), given)
    return {"Status": "Login Succeeded", "IdentityToken": ""}


def registry(address: str) -> str:
    """HOST[:PORT] of what clients call a server's address: "", docker's index, an URL, or that."""
    if address in ("", INDEX):
        return HUB
    return address.removeprefix("https://").removeprefix("http://").partition("/")[0]


async def no_plugins(call: Call[Nothing, None]) -> list[object]:
    return []


async def no_swarm(call: Call[Nothing, bytes]) -> None:
    raise NoSwarm(
        'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to '
        "swarm and try again."
    )
