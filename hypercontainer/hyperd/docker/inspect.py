"""Our documents of a container -> docker's, which have more keys, and no state of ours. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from hypercontainer.hyperd.docker.versions import Version
from hypercontainer.model import documents as doc
from hypercontainer.model import spec

Document = dict[str, Any]

NAMED = Version(1, 44)  # from here on an endpoint says its DNSNames
UNSHORTENED = Version(1, 45)  # before, a container's short id is one of its aliases
NOTHING_SET: Document = {  # of HostConfig, what is refused, or void in a virtual machine
    "Annotations": None,
    "BlkioDeviceReadBps": None,
    "BlkioDeviceReadIOps": None,
    "BlkioDeviceWriteBps": None,
    "BlkioDeviceWriteIOps": None,
    "BlkioWeight": 0,
    "BlkioWeightDevice": None,
    "Cgroup": "",
    "CgroupParent": "",
    "CgroupnsMode": "private",
    "ContainerIDFile": "",
    "CpuCount": 0,
    "CpuPercent": 0,
    "CpuPeriod": 0,
    "CpuQuota": 0,
    "CpuRealtimePeriod": 0,
    "CpuRealtimeRuntime": 0,
    "CpusetCpus": "",
    "CpusetMems": "",
    "DeviceCgroupRules": None,
    "DeviceRequests": None,
    "Devices": None,
    "IOMaximumBandwidth": 0,
    "IOMaximumIOps": 0,
    "Isolation": "",
    "MemoryReservation": 0,
    "MemorySwap": 0,
    "MemorySwappiness": None,
    "OomKillDisable": False,
    "PublishAllPorts": False,
    "Runtime": "hyper",
    "StorageOpt": None,
    "UTSMode": "",
    "UsernsMode": "",
    "VolumeDriver": "",
    "VolumesFrom": None,
}
OF_A_NETWORK: Document = {
    "Bridge": "",
    "SandboxID": "",
    "SandboxKey": "",
    "HairpinMode": False,
    "LinkLocalIPv6Address": "",
    "LinkLocalIPv6PrefixLen": 0,
    "SecondaryIPAddresses": None,
    "SecondaryIPv6Addresses": None,
    "EndpointID": "",
}
MOUNTED = frozenset(("Binds", "Mounts", "Tmpfs"))  # of HostConfig, what is said of mounts
PUBLISHES = ("running", "paused", "suspended")
STATES = {"suspended": "paused"}  # the rest are docker's


def state(word: str) -> str:
    return STATES.get(word, word)


def container(found: doc.Container, version: Version, networks: Mapping[str, str]) -> Document:
    """The answer to `docker inspect`. What is ours alone stays in it: Isolation, Pod, Vm. `networks`: ids by name."""
    document: Document = msgspec.to_builtins(found)
    suspended = found.state.status == "suspended"
    document["State"] |= {"Status": state(found.state.status)}
    if suspended:
        document["State"] |= {"Running": True, "Paused": True}
    document["Config"] |= {
        "AttachStdin": found.config.open_stdin,
        "AttachStdout": True,
        "AttachStderr": True,
        "OnBuild": None,
        "Volumes": document["Config"]["Volumes"] or None,
    }
    for part, key in (
        (document["Config"], "ExposedPorts"),
        (document["Config"], "Healthcheck"),
        (document["Config"], "Shell"),
        (document["State"], "Health"),
    ):
        if not part[key]:
            del part[key]
    del document["LogAttributes"], document["Architecture"]
    asked = document.pop("AsAsked")
    if asked.keys() & MOUNTED:  # else they are of one that no client of docker's made
        asked = dict.fromkeys(MOUNTED) | asked
    document["HostConfig"] = NOTHING_SET | document["HostConfig"] | asked
    document["HostConfig"]["Links"] = found.host_config.links or None
    told = document["HostConfig"]["Tmpfs"] or {}  # and nowhere else
    document["Mounts"] = [mount for mount in document["Mounts"] if mount["Destination"] not in told]
    document["NetworkSettings"] = _network(found, version, networks)
    for key in ("SizeRw", "SizeRootFs"):
        if document[key] is None:
            del document[key]
    return document | {
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": _apparmor(found.host_config.security_opt),
        "ExecIDs": None,
        "GraphDriver": {"Name": found.driver, "Data": None},
    }


def _apparmor(options: Sequence[str]) -> str:
    """The profile that confines it; "": none."""
    return "".join(option.partition("=")[2] for option in options if option.startswith("apparmor="))


def _network(found: doc.Container, version: Version, networks: Mapping[str, str]) -> Document:
    """The flat addresses are those of the usual network, which is not always the first one."""
    usual = msgspec.to_builtins(found.network_settings.networks.get(spec.DEFAULT, doc.Endpoint()))
    flat = {key: usual[key] for key in msgspec.to_builtins(doc.Endpoint())}
    document: Document = OF_A_NETWORK | msgspec.to_builtins(found.network_settings) | flat
    del document["Interfaces"]
    runs = found.state.running
    document["Ports"] = document["Ports"] if runs else {}
    document["Networks"] = {
        name: endpoint(place, networks.get(name, "")) | _known_as(found, name, place, version)
        for name, place in found.network_settings.networks.items()
    }
    return document


def _known_as(found: doc.Container, network: str, place: doc.NamedEndpoint, version: Version) -> Document:
    """What names it in `network`."""
    short, document = found.id[:12], Document()
    if version >= NAMED:
        document["DNSNames"] = [found.name.lstrip("/"), *place.aliases, short]
    if version < UNSHORTENED and network != spec.DEFAULT and found.state.running:
        document["Aliases"] = [*place.aliases, short]
    return document


def endpoint(place: doc.NamedEndpoint, network: str) -> Document:
    """A container's place in the network with that id."""
    document: Document = msgspec.to_builtins(place)
    if document["IPAMConfig"]:
        document["IPAMConfig"] = {key: address for key, address in document["IPAMConfig"].items() if address}
    return {
        "NetworkID": network,
        "EndpointID": "",
        "GwPriority": 0,
        **document,
        "Aliases": place.aliases or None,
        "Links": place.links or None,
        "DriverOpts": place.driver_opts or None,
    }


def entry(found: doc.ContainerEntry, ids: Mapping[str, str]) -> Document:
    """A line of `docker ps`. `ids`: of networks, by name."""
    document: Document = msgspec.to_builtins(found)
    for key in ("SizeRw", "SizeRootFs"):
        if document[key] is None:
            del document[key]
    del document["Networks"], document["Owner"]
    mode, own = next(iter(found.networks), "none"), found.networks
    if mode.startswith(spec.CONTAINER):
        own = {}  # it shows no other one's
    networks = {name: endpoint(place, ids.get(name, "")) for name, place in own.items()}
    return document | {
        "State": state(found.state),
        "Status": found.status.replace("Suspended", "Paused"),
        "Ports": [port(each) for each in found.ports] if found.state in PUBLISHES else [],
        "HostConfig": {"NetworkMode": mode},
        "NetworkSettings": {"Networks": networks},
    }


def port(found: doc.Port) -> Document:
    return {"IP": found.ip, "PrivatePort": found.private_port, "PublicPort": found.public_port, "Type": found.type}
