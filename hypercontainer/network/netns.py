"""A network namespace that somebody else made, an engine or CNI: its interfaces are the pod's."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hypercontainer.errors import HyperError, InUse, InvalidInput, NotFound
from hypercontainer.lib import netns
from hypercontainer.model.record import NicRecord, PortRecord
from hypercontainer.model.spec import ANY, EndpointSpec, PortMapping
from hypercontainer.network import interfaces, tap

REDIRECTED = 26745  # preference of our filters, 0x6879: for all that no other of ours takes
# What the namespace's kernel gets, too: so its own programs, as docker's resolver, can ask a nameserver.
MIRRORED = {
    REDIRECTED - 2: "protocol arp u32 match u32 0 0",
    REDIRECTED - 1: "protocol ip u32 match ip protocol 17 0xff match ip sport 53 0xffff",
}


class NetnsNetwork:
    """The network of one pod; see network.base.Network. The tap of each of its interfaces is beside that one, in the
    namespace at `path`, and whatever comes by one of both leaves by the other (tc-mirred(8)).

    The interface keeps its addresses, as whoever made it expects to find them: but a frame is taken where it comes in,
    before the namespace's kernel has looked at it, which therefore answers to nothing. So the guest can have the same
    addresses, and the same MAC. What nameservers of IPv4 answer by UDP, and ARP, comes to both.
    """

    nameserver = None

    def __init__(self, path: str) -> None:
        """`path` may be that of a descriptor or of a process's namespace: below /proc. What was made in it can be
        removed for as long as it leads there."""
        self._path = path

    async def ensure(self) -> None:
        with netns.opened(self._path):
            pass

    async def plan(
        self,
        pod_id: str,
        mappings: Sequence[PortMapping],
        used: Sequence[NicRecord],
        owners: Mapping[str, str] | None = None,
        *,
        endpoint: EndpointSpec = ANY,
        number: int = 0,
    ) -> list[NicRecord]:
        """What is there now, in the order of names. InvalidInput for the host's own: no machine takes that over."""
        self.assign(mappings, used, owners)
        with netns.opened(self._path) as fd:
            if netns.is_ours(fd):
                raise InvalidInput(f"cannot use {self._path}: it is this host's own network; give the pod another")
            found = interfaces.find(*await _look(fd))
            return [
                NicRecord(
                    number=number + n,
                    tap=tap.name(pod_id, number + n),
                    mac=interface.mac,
                    name=interface.name,
                    addresses=interface.addresses,
                    routes=interface.routes,
                    mtu=interface.mtu,
                    netns=self._path,
                    netns_inode=netns.identity(fd),
                )
                for n, interface in enumerate(found)
            ]

    def assign(
        self, mappings: Sequence[PortMapping], used: Sequence[NicRecord], owners: Mapping[str, str] | None = None
    ) -> list[PortRecord]:
        if mappings:
            raise InvalidInput(f"cannot publish ports: the network of {self._path} is not hyperd's")
        return []

    async def create(self, nic: NicRecord) -> None:
        """InUse when somebody takes what comes in already."""
        with netns.opened(nic.netns) as fd:
            await _check_free(fd, nic)

    async def plug(self, nic: NicRecord) -> None:
        with netns.opened(nic.netns) as fd:
            there = await _check_free(fd, nic)
            lines = [
                f"qdisc add dev {nic.tap} ingress",
                _redirect(nic, nic.tap, nic.name),
                *([] if there else [f"qdisc add dev {nic.name} ingress"]),
                *_mirrors(nic),
                _redirect(nic, nic.name, nic.tap),
            ]
            await netns.run(fd, ["tc", "-batch", "-"], stdin="\n".join([*lines, ""]).encode())
            try:
                netns.inside(fd, lambda: tap.up(nic.tap, nic.mtu))
            except OSError as e:
                raise HyperError(f"cannot plug network interface {nic.tap}: {e.strerror}") from e

    async def is_plugged(self, nic: NicRecord) -> bool:
        """Whether what comes in by its interface is led to its tap: not by another one that has the name since."""
        with netns.opened(nic.netns) as fd:
            if netns.identity(fd) != nic.netns_inode or not netns.inside(fd, lambda: tap.exists(nic.name)):
                return False
            _, filters = await _ingress(fd, nic.name)
            return (REDIRECTED, _cookie(nic)) in filters

    async def resize(self, nic: NicRecord, mtu: int) -> None:
        """Have its tap take packets of that size."""
        with netns.opened(nic.netns) as fd:
            try:
                netns.inside(fd, lambda: tap.up(nic.tap, mtu))
            except OSError as e:
                raise HyperError(f"cannot set the MTU of network interface {nic.tap}: {e.strerror}") from e

    async def remove(self, nic: NicRecord) -> None:
        try:
            with netns.opened(nic.netns) as fd:
                if netns.identity(fd) == nic.netns_inode:
                    netns.inside(fd, lambda: tap.cut(nic.tap))
                    await _give_back(fd, nic)
        except NotFound:
            pass  # and so is all that was in it, but what its VMM holds

    async def withdraw(self, nic: NicRecord, ports: Sequence[PortRecord]) -> None:
        """Nothing: ports are published by whoever made the namespace."""

    async def destroy(self) -> None:
        """Nothing: the namespace is somebody else's."""

    def take_up(self, nics: Sequence[NicRecord]) -> list[str]:
        """Nothing: what is there stays there without us."""
        return []

    async def sweep(self, keep: Callable[[], Sequence[NicRecord]]) -> None:
        """Nothing: what a pod of before has left here is in its record."""

    def close(self) -> None:
        pass


async def _look(fd: int) -> tuple[list[Any], list[Any]]:
    """`ip -j addr`, and `ip -j route` of both families."""
    commands = (["addr"], ["-4", "route", "show", "table", "main"], ["-6", "route", "show", "table", "main"])
    links, four, six = await asyncio.gather(*(_json(fd, ["ip", "-j", *words]) for words in commands))
    return links, four + six


async def _json(fd: int, argv: Sequence[str]) -> list[Any]:
    result = await netns.run(fd, argv)
    found: list[Any] = json.loads(result.stdout.strip() or b"[]")
    return found


def _redirect(nic: NicRecord, source: str, target: str) -> str:
    return (
        f"filter add dev {source} parent ffff: pref {REDIRECTED} protocol all u32 match u32 0 0 "
        f"action mirred egress redirect dev {target} cookie {_cookie(nic)}"
    )


def _mirrors(nic: NicRecord) -> list[str]:
    return [
        f"filter add dev {nic.name} parent ffff: pref {preference} {what} "
        f"action mirred egress mirror dev {nic.tap} pass cookie {_cookie(nic)}"
        for preference, what in MIRRORED.items()
    ]


def _cookie(nic: NicRecord) -> str:
    """What a filter of ours is known by; its tap may be gone."""
    return nic.tap.encode().hex()


async def _ingress(fd: int, name: str) -> tuple[str, list[tuple[int, str]]]:
    """Of the interface `name`, the queueing discipline of what comes in ("" without one), and of each of its filters
    the preference and the cookie of what that does ("" of what has none)."""
    qdiscs = await _json(fd, ["tc", "-j", "qdisc", "show", "dev", name])
    kind = next((qdisc["kind"] for qdisc in qdiscs if qdisc["kind"] in ("ingress", "clsact")), "")
    filters = await _json(fd, ["tc", "-j", "filter", "show", "dev", name, "ingress"]) if kind else []
    # what else is told of are headings, and the tables that u32 keeps its filters in
    told = [f for f in filters if "options" in f and "ht_divisor" not in f["options"]]
    return kind, [(f["pref"], f["options"].get("actions", [{}])[0].get("cookie", "")) for f in told]


async def _check_free(fd: int, nic: NicRecord) -> bool:
    """Whether its interface has a discipline that can be used, without a filter; NotFound, InUse."""
    if netns.identity(fd) != nic.netns_inode:
        raise NotFound("network namespace", nic.netns, "there is another one in its place")
    if not netns.inside(fd, lambda: tap.exists(nic.name)):
        raise NotFound("network interface", f"{nic.name} in {nic.netns}")
    kind, filters = await _ingress(fd, nic.name)
    if kind == "clsact" or filters:
        whose = "another virtual machine" if any(cookie for _, cookie in filters) else "somebody else"
        words = f"cannot use network interface {nic.name} of {nic.netns}: {whose} takes what it receives"
        raise InUse(words, "network interface", nic.name, [whose])
    return bool(kind)


async def _give_back(fd: int, nic: NicRecord) -> None:
    """Leave its interface as it was found. One without any filter was left so by us: it does nothing."""
    if not netns.inside(fd, lambda: tap.exists(nic.name)):
        return
    kind, filters = await _ingress(fd, nic.name)
    ours = [preference for preference, cookie in filters if cookie == _cookie(nic)]
    if kind == "ingress" and len(ours) == len(filters):
        lines = [f"qdisc del dev {nic.name} ingress"]
    else:  # somebody has added his own since, or has all that is there
        lines = [f"filter del dev {nic.name} ingress pref {preference}" for preference in ours]
    await netns.run(fd, ["tc", "-batch", "-"], stdin="\n".join([*lines, ""]).encode())
