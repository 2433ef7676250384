"""A network namespace that somebody else made, an engine or CNI: its interfaces are the pod's."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from hypercontainer.errors import HyperError, InvalidInput, NotFound
from hypercontainer.lib import netns
from hypercontainer.model.record import Model, NicRecord, PortRecord
from hypercontainer.model.spec import ANY, EndpointSpec, PortMapping
from hypercontainer.network import interfaces, macvtap, rtnetlink, tap, tcfilter


class Way(Protocol):
    """How frames get from an interface of the namespace to the tap of a machine, and back: a module. In the namespace;
    OSError."""

    def create(self, nic: NicRecord) -> None: ...

    def plug(self, nic: NicRecord) -> None: ...

    def is_plugged(self, nic: NicRecord) -> bool: ...

    def resize(self, nic: NicRecord, mtu: int) -> None: ...

    def give_back(self, nic: NicRecord) -> None:
        """Leave its interface as it was found. Safe any number of times."""


MODELS: Mapping[Model, Way] = {"tcfilter": tcfilter, "macvtap": macvtap}


class NetnsNetwork:
    """The network of one pod; see network.base.Network. The tap of each of its interfaces is beside that one, or on it,
    in the namespace at `path`; how a frame gets from one to the other is said by the model of its record."""

    nameserver = None

    def __init__(self, path: str, model: Model = "tcfilter") -> None:
        """`path` may be that of a descriptor or of a process's namespace: below /proc. What was made in it can be
        removed for as long as it leads there. `model` is for what is planned."""
        self._path, self._model = path, model
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
                    model=self._model,
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
        """InUse when somebody takes what comes in already, Unavailable when its model is not for such an interface."""
        with netns.opened(nic.netns) as fd, _telling(f"use network interface {nic.name} of {nic.netns}"):
            _check_same(fd, nic)
            await netns.within(fd, lambda: MODELS[nic.model].create(nic))

    async def plug(self, nic: NicRecord) -> None:
        with netns.opened(nic.netns) as fd, _telling(f"plug network interface {nic.tap}"):
            _check_same(fd, nic)
            await netns.within(fd, lambda: MODELS[nic.model].plug(nic))

    async def is_plugged(self, nic: NicRecord) -> bool:
        """Whether what comes in by its interface gets to its tap: not by another one that has the name since."""
        with netns.opened(nic.netns) as fd, _telling(f"look at network interface {nic.name} of {nic.netns}"):
            return netns.identity(fd) == nic.netns_inode and await netns.within(
                fd, lambda: MODELS[nic.model].is_plugged(nic)
            )

    async def resize(self, nic: NicRecord, mtu: int) -> None:
        """Have its tap take packets of that size."""
        with netns.opened(nic.netns) as fd, _telling(f"set the MTU of network interface {nic.tap}"):
            await netns.within(fd, lambda: MODELS[nic.model].resize(nic, mtu))

    async def remove(self, nic: NicRecord) -> None:
        try:
            with netns.opened(nic.netns) as fd, _telling(f"give network interface {nic.name} of {nic.netns} back"):
                if netns.identity(fd) == nic.netns_inode:
                    await netns.within(fd, lambda: MODELS[nic.model].give_back(nic))
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
