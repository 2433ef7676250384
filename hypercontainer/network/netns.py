"""A network namespace that somebody else made, an engine or CNI: its interfaces are the pod's."""

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from hypercontainer.errors import HyperError, InUse, InvalidInput, NotFound
from hypercontainer.lib import netns
from hypercontainer.lib.netlink import Netlink
from hypercontainer.model.record import NicRecord, PortRecord
from hypercontainer.model.spec import ANY, EndpointSpec, PortMapping
from hypercontainer.network import interfaces, redirect, rtnetlink, tap


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
        self.left_out: list[str] = []  # what the last plan has nothing of, in words

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
            with _telling(f"read network namespace {self._path}"):
                found = await netns.within(fd, rtnetlink.look)
            self.left_out = interfaces.left_out(found)
            return [
                NicRecord(
                    number=number + n,
                    tap=tap.name(pod_id, number + n),
                    mac=interface.mac,
                    name=interface.name,
                    addresses=interface.addresses,
                    routes=interface.routes,
                    rules=interface.rules,
                    neighbours=interface.neighbours,
                    mtu=interface.mtu,
                    netns=self._path,
                    netns_inode=netns.identity(fd),
                )
                for n, interface in enumerate(interfaces.find(found))
            ]

    def assign(
        self, mappings: Sequence[PortMapping], used: Sequence[NicRecord], owners: Mapping[str, str] | None = None
    ) -> list[PortRecord]:
        if mappings:
            raise InvalidInput(f"cannot publish ports: the network of {self._path} is not hyperd's")
        return []

    async def create(self, nic: NicRecord) -> None:
        """InUse when somebody takes what comes in already."""
        with netns.opened(nic.netns) as fd, _telling(f"use network interface {nic.name} of {nic.netns}"):
            _check_same(fd, nic)
            await netns.within(fd, lambda: _check_free(nic))

    async def plug(self, nic: NicRecord) -> None:
        with netns.opened(nic.netns) as fd, _telling(f"plug network interface {nic.tap}"):
            _check_same(fd, nic)
            await netns.within(fd, lambda: _plug(nic))

    async def is_plugged(self, nic: NicRecord) -> bool:
        """Whether what comes in by its interface is led to its tap: not by another one that has the name since."""
        with netns.opened(nic.netns) as fd, _telling(f"look at network interface {nic.name} of {nic.netns}"):
            return netns.identity(fd) == nic.netns_inode and await netns.within(fd, lambda: _is_plugged(nic))

    async def resize(self, nic: NicRecord, mtu: int) -> None:
        """Have its tap take packets of that size."""
        with netns.opened(nic.netns) as fd, _telling(f"set the MTU of network interface {nic.tap}"):
            await netns.within(fd, lambda: tap.up(nic.tap, mtu))

    async def remove(self, nic: NicRecord) -> None:
        try:
            with netns.opened(nic.netns) as fd, _telling(f"give network interface {nic.name} of {nic.netns} back"):
                if netns.identity(fd) == nic.netns_inode:
                    await netns.within(fd, lambda: _give_back(nic))
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


@contextmanager
def _telling(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise HyperError(f"cannot {doing}: {e.strerror or e}") from e


def _check_same(fd: int, nic: NicRecord) -> None:
    if netns.identity(fd) != nic.netns_inode:
        raise NotFound("network namespace", nic.netns, "there is another one in its place")


# What is below happens in the namespace; OSError.


def _plug(nic: NicRecord) -> None:
    there = _check_free(nic)
    outside, inside = socket.if_nametoindex(nic.name), socket.if_nametoindex(nic.tap)
    with Netlink() as kernel:
        redirect.add_ingress(kernel, inside)
        redirect.lead(kernel, inside, outside, _cookie(nic))
        if not there:
            redirect.add_ingress(kernel, outside)
        redirect.mirror(kernel, outside, inside, _cookie(nic))
        redirect.lead(kernel, outside, inside, _cookie(nic))
    tap.up(nic.tap, nic.mtu)


def _cookie(nic: NicRecord) -> bytes:
    """What a filter of ours is known by; its tap may be gone."""
    return nic.tap.encode()


def _ingress(nic: NicRecord) -> redirect.Ingress | None:
    """What is done with what its interface receives. None: there is no such interface."""
    if not tap.exists(nic.name):
        return None
    with Netlink() as kernel:
        return redirect.ingress(kernel, socket.if_nametoindex(nic.name))


def _is_plugged(nic: NicRecord) -> bool:
    found = _ingress(nic)
    return found is not None and redirect.Filter(redirect.PREFERENCE, _cookie(nic)) in found.filters


def _check_free(nic: NicRecord) -> bool:
    """Whether its interface has a discipline that can be used, without a filter; NotFound, InUse."""
    found = _ingress(nic)
    if found is None:
        raise NotFound("network interface", f"{nic.name} in {nic.netns}")
    if found.kind == "clsact" or found.filters:
        whose = "another virtual machine" if any(each.cookie for each in found.filters) else "somebody else"
        words = f"cannot use network interface {nic.name} of {nic.netns}: {whose} takes what it receives"
        raise InUse(words, "network interface", nic.name, [whose])
    return bool(found.kind)


def _give_back(nic: NicRecord) -> None:
    """Leave its interface as it was found. One without any filter was left so by us: it does nothing."""
    tap.cut(nic.tap)
    found = _ingress(nic)
    if found is None or not found.kind:
        return
    index = socket.if_nametoindex(nic.name)
    ours = [each.preference for each in found.filters if each.cookie == _cookie(nic)]
    with Netlink() as kernel:
        if found.kind == "ingress" and len(ours) == len(found.filters):
            redirect.remove_ingress(kernel, index)
            return
        for preference in ours:  # somebody has added his own since, or has all that is there
            redirect.remove_filter(kernel, index, preference)
