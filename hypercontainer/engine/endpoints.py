"""What pods have of networks: judged when they are made, brought together when they start. Pure."""

from collections.abc import Sequence

import msgspec

from hypercontainer.engine import links
from hypercontainer.errors import InvalidInput
from hypercontainer.model import ids
from hypercontainer.model.record import MOST_NICS, PodRecord
from hypercontainer.model.spec import CONTAINER, NONE, Dns, EndpointSpec, PodSpec
from hypercontainer.network import ipam
from hypercontainer.network.store import NetworkStore

SHARED = "container sharing network namespace with another container or host cannot be connected to any other network"
MOST_ALIASES = 64
HOST = "a virtual machine has no part in the host's network; publish ports with -p, and reach the host at the gateway"


def resolved(networks: NetworkStore, wanted: PodSpec) -> PodSpec:
    """`wanted`, each of its networks called by its name. NotFound; InvalidInput for what can never be had."""
    spec = msgspec.structs.replace(wanted, networks=[_resolved(networks, each) for each in wanted.networks])
    names = [endpoint.network for endpoint in spec.networks]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise InvalidInput(f"cannot join network {twice} twice")
    if not names or (NONE in names and len(names) > 1):
        raise InvalidInput(f"cannot join {', '.join(names) or 'no network'}: say {NONE} alone for a pod without any")
    if len(names) > MOST_NICS:
        raise InvalidInput(f"cannot join {len(names)} networks: {MOST_NICS} at most")
    return spec


def joined(spec: PodSpec) -> str:
    """The container whose network that of `spec` is to share, and so its pod; "": nobody's. InvalidInput, in docker's
    words, for what is that one's to say."""
    named = [endpoint for endpoint in spec.networks if endpoint.network.startswith(CONTAINER)]
    if not named:
        return ""
    if any(endpoint.mac for endpoint in named):
        raise InvalidInput("conflicting options: mac-address and the network mode")
    if spec.networks != [EndpointSpec(network=named[0].network)]:
        raise InvalidInput(SHARED)
    if not (other := named[0].network.removeprefix(CONTAINER)):
        raise InvalidInput("invalid network mode: invalid container format container:<name|id>")
    for said, words in (
        (spec.hostname or spec.domainname, "hostname and the network mode"),
        (spec.dns != Dns(), "dns and the network mode"),
        (spec.extra_hosts, "custom host-to-IP mapping and the network mode"),
        (spec.ports or spec.publish_exposed, "port publishing and the container type network mode"),
        (any(each.expose for each in spec.containers), "port exposing and the container type network mode"),
    ):
        if said:
            raise InvalidInput(f"conflicting options: {words}")
    for said, word in (
        (spec.tenant, "tenant"),
        (spec.factory, "factory"),
        (spec.locks, "locks"),
        (spec.share_pid, "share_pid"),
    ):
        if said:
            raise InvalidInput(f"cannot choose {word}: its virtual machine is that of {other}")
    return other


def check_ports(networks: NetworkStore, spec: PodSpec) -> None:
    """InvalidInput when it has ports to publish, and nothing leads to it."""
    names = [endpoint.network for endpoint in spec.networks]
    if spec.ports and names == [NONE]:
        raise InvalidInput("cannot publish ports of a pod without a network")
    if spec.ports and publishing(networks, spec) is None:
        raise InvalidInput(f"cannot publish ports of a pod in {', '.join(names)}: nothing leads into internal networks")


def _resolved(networks: NetworkStore, endpoint: EndpointSpec) -> EndpointSpec:
    """What this one says is checked, beside others or not."""
    key = endpoint.network
    if key == "host":
        raise InvalidInput(f"cannot use network host: {HOST}")
    if key.startswith(CONTAINER):
        raise InvalidInput(f"cannot use network {key}: a pod has networks of its own; add the container to that pod")
    record = networks.find(key)
    if record.name == NONE and endpoint != EndpointSpec(network=key):
        raise InvalidInput("cannot have an address or an alias without a network")
    if len(endpoint.aliases) > MOST_ALIASES:
        raise InvalidInput(
            f"cannot have {len(endpoint.aliases)} aliases in network {record.name}: {MOST_ALIASES} at most"
        )
    for alias in endpoint.aliases:  # some are titles, which nobody asks for
        if not (alias.isprintable() and 0 < len(alias) <= ids.MAX_NAME):
            words = f"use 1 to {ids.MAX_NAME} printable characters"
            raise InvalidInput(f"invalid alias {alias[: ids.MAX_NAME + 1]!r}: {words}")
    links.check(endpoint)
    if record.subnets:
        ipam.check(ipam.plan(record), endpoint)
    return msgspec.structs.replace(endpoint, network=record.name)


def publishing(networks: NetworkStore, spec: PodSpec) -> EndpointSpec | None:
    """Where the pod's ports are published: the first network that leads out; None without one."""
    for endpoint in spec.networks:
        if endpoint.network != NONE and not networks.find(endpoint.network).internal:
            return endpoint
    return None


def without(spec: PodSpec, left: Sequence[EndpointSpec]) -> PodSpec:
    """`spec` in no other networks than those that are left."""
    return msgspec.structs.replace(spec, networks=list(left) or [EndpointSpec(network=NONE)])


def settled(pod: PodRecord) -> PodSpec:
    """The spec of one that runs, in the networks in which it has an interface: it was about to join or leave others
    when a hyperd before us ended."""
    there = {nic.network for nic in pod.nics}
    return pod.spec if pod.netns else without(pod.spec, [each for each in pod.spec.networks if each.network in there])
