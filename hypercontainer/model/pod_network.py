"""What a pod of Kubernetes asks of its network, and what it is given. Frozen values."""

from typing import NamedTuple

import msgspec

from hypercontainer.model.spec import Dns


class HostPort(NamedTuple):
    host_port: int
    container_port: int
    protocol: str = "tcp"  # "tcp", "udp", "sctp"
    host_ip: str = ""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """`id` is the pod's for plugins of CNI: no other pod has it, now or later."""

    id: str
    name: str = ""
    namespace: str = ""
    uid: str = ""
    annotations: dict[str, str] = {}
    ports: list[HostPort] = []
    dns: Dns = Dns()
    ips: list[str] = []  # addresses that it is to have
    mac: str = ""


class Attached(NamedTuple):
    """What a pod has of its network."""

    netns: str  # path of its namespace, for PodRecord.netns
    network: str
    addresses: list[str]  # the first is the pod's, others are further ones; without prefixes
    dns: Dns | None  # what the network says of nameservers; None: nothing
