"""Links, as docker has them: a name of another container that one alone knows.

On a network that somebody made the nameserver answers to it (engine/dns.py), whoever is called so at that moment. On
the usual network, which has no names, a link is to one container: it is in /etc/hosts of the one that has the link, and
in the environment of its processes, with the ports and the environment of the other. Pure.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from hypercontainer.engine import describe
from hypercontainer.engine.store import PodIndex
from hypercontainer.errors import InvalidInput, NotFound, WrongState
from hypercontainer.model import ids
from hypercontainer.model.record import ContainerRecord, NicRecord, PodRecord
from hypercontainer.model.spec import DEFAULT, EndpointSpec, PodSpec
from hypercontainer.sandbox.container import RUNNING

MOST_LINKS = 64
ROUTINE = ("HOME", "PATH")  # what the environment of a linked container says of itself alone


class Link(NamedTuple):
    """From a container to another one on the usual network."""

    alias: str
    pod: PodRecord
    container: ContainerRecord

    @property
    def nic(self) -> NicRecord | None:
        """Where it is reached, once it is."""
        runs = self.container.state in RUNNING
        return next((nic for nic in self.pod.nics if nic.network == DEFAULT), None) if runs else None


def parse(link: str) -> tuple[str, str]:
    """Of "NAME", "NAME:ALIAS", or "/NAME:/OWN/ALIAS", as inspections have it: the name and the alias."""
    name, found, alias = link.partition(":")
    if link.startswith("/"):
        name, alias = name[1:], alias.rpartition("/")[2]
    alias = alias if found else name
    if not ids.NAME.fullmatch(name) or ":" in alias:
        raise InvalidInput(f"bad format for links: {link[:140]}")
    ids.check_name("alias", alias)
    return name, alias


def check(endpoint: EndpointSpec) -> None:
    """InvalidInput for what can never be had."""
    if len(endpoint.links) > MOST_LINKS:
        raise InvalidInput(f"cannot have {len(endpoint.links)} links: {MOST_LINKS} at most")
    for link in endpoint.links:
        parse(link)


def resolved(index: PodIndex, spec: PodSpec) -> PodSpec:
    """`spec`, its links on the usual network by the ids of their containers, whatever those are called later.

    NotFound when there is none of the name."""
    networks = [_resolved(index, each) if each.network == DEFAULT else each for each in spec.networks]
    return msgspec.structs.replace(spec, networks=networks)


def _resolved(index: PodIndex, endpoint: EndpointSpec) -> EndpointSpec:
    found = []
    for name, alias in map(parse, endpoint.links):
        try:
            found.append(f"{index.find_container(name)[1].id}:{alias}")
        except NotFound as e:
            raise NotFound("container", name, f"could not get container for {name}") from e
    return msgspec.structs.replace(endpoint, links=found)


def of(index: PodIndex, pod: PodRecord) -> Iterator[Link]:
    """Those on the usual network, but for those to containers that are removed by now."""
    for endpoint in [endpoint for endpoint in pod.spec.networks if endpoint.network == DEFAULT and endpoint.links]:
        for id, alias in map(parse, endpoint.links):
            there = next((found for found in index.containers() if found[1].id == id), None)
            if there:
                yield Link(alias, *there)


def names(index: PodIndex) -> dict[str, list[str]]:
    """By the ids of containers: what links of others call them, docker's way."""
    found: dict[str, list[str]] = {}
    for pod, container in index.containers():
        for link in _own(index, pod, container):
            found.setdefault(link.container.id, []).append(f"/{container.name}/{link.alias}")
    return found


def leads(index: PodIndex, pod: PodRecord, to: PodRecord) -> bool:
    return any(link.pod is to for link in of(index, pod))


def shown(index: PodIndex, pod: PodRecord, container: ContainerRecord) -> list[str]:
    """Docker's Links of a HostConfig."""
    return [f"/{link.container.name}:/{container.name}/{link.alias}" for link in _own(index, pod, container)]


def without(index: PodIndex, pod: PodRecord, container: ContainerRecord, alias: str) -> PodSpec:
    """The pod's spec, that link removed. NotFound: there is none."""
    link = next((link for link in _own(index, pod, container) if link.alias == alias), None)
    if link is None:
        raise NotFound("link", f"{container.name}/{alias}")
    gone = f"{link.container.id}:{alias}"
    networks = [
        msgspec.structs.replace(each, links=[said for said in each.links if said != gone])
        if each.network == DEFAULT
        else each
        for each in pod.spec.networks
    ]
    return msgspec.structs.replace(pod.spec, networks=networks)


def check_running(index: PodIndex, pod: PodRecord, container: ContainerRecord) -> None:
    """WrongState, in docker's words, when a container cannot be started for those that it is linked to."""
    for link in _own(index, pod, container):
        other = link.container
        if other.state not in RUNNING:
            words = f"Cannot link to a non running container: /{other.name} AS /{container.name}/{link.alias}"
        elif link.nic is None:
            words = f"Cannot link to /{other.name}, as it does not belong to the default network"
        else:
            continue
        raise WrongState("start", container.name, container.state, words)


def hosts(index: PodIndex, pod: PodRecord) -> list[list[str]]:
    """Rows of /etc/hosts: the alias, the host's name and the container's of each that runs."""
    return [
        [link.nic.address.partition("/")[0], *dict.fromkeys([link.alias, hostname(link), link.container.name])]
        for link in of(index, pod)
        if link.nic
    ]


def hostname(link: Link) -> str:
    return link.container.spec.hostname or link.pod.spec.hostname or link.container.id[:12]


def environment(index: PodIndex, pod: PodRecord, container: ContainerRecord) -> list[str]:
    """What its processes are told of those that it is linked to and that run; its own entries come before it."""
    return [
        entry for link in _own(index, pod, container) if link.nic for entry in _told(link, link.nic, container.name)
    ]


def _own(index: PodIndex, pod: PodRecord, container: ContainerRecord) -> list[Link]:
    return [] if container.joined else list(of(index, pod))


def _told(link: Link, nic: NicRecord, own: str) -> Iterator[str]:
    address, word = nic.address.partition("/")[0], link.alias.upper().replace("-", "_")
    ports = _sorted(describe.exposed(link.pod, link.container))
    for number, protocol in ports[:1]:
        yield f"{word}_PORT={protocol}://{address}:{number}"
    begin = 0
    while begin < len(ports):
        end = _last_of_range(ports, begin)
        if end > begin + 1:
            yield from _range(f"{word}_PORT", address, ports[begin], ports[end])
        begin = end + 1 if end > begin + 1 else begin + 1
    for number, protocol in ports:
        name = f"{word}_PORT_{number}_{protocol.upper()}"
        yield f"{name}={protocol}://{address}:{number}"
        yield from (f"{name}_ADDR={address}", f"{name}_PORT={number}", f"{name}_PROTO={protocol}")
    yield f"{word}_NAME=/{own}/{link.alias}"
    for entry in link.container.config.process.env:
        name, equals, value = entry.partition("=")
        if equals and name not in ROUTINE:
            yield f"{word}_ENV_{name}={value}"


Port = tuple[int, str]


def _sorted(exposed: Sequence[str]) -> list[Port]:
    """By number, TCP first."""
    ports = [(int(number), protocol) for number, _, protocol in (port.partition("/") for port in exposed)]
    return sorted(ports, key=lambda port: (port[0], port[1] != "tcp", port[1]))


def _last_of_range(ports: Sequence[Port], begin: int) -> int:
    """The index of the last of the ports that follow on that at `begin` without a gap."""
    end = begin
    while end + 1 < len(ports) and ports[end + 1][0] <= ports[begin][0] + (end + 1 - begin):
        end += 1
    return end


def _range(word: str, address: str, first: Port, last: Port) -> Iterator[str]:
    (low, protocol), (high, last_protocol) = first, last
    name = f"{word}_{low}_{protocol.upper()}"
    yield f"{name}_START={protocol}://{address}:{low}"
    yield from (f"{name}_ADDR={address}", f"{name}_PROTO={protocol}", f"{name}_PORT_START={low}")
    yield f"{word}_{low}_{last_protocol.upper()}_END={last_protocol}://{address}:{high}"
    yield f"{word}_{low}_{last_protocol.upper()}_PORT_END={high}"
