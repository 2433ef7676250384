"""An engine's resolver is asked in the namespace that the engine made, and nowhere else."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.agent.client import Connection
from hypercontainer.lib import netns
from hypercontainer.model.record import NicRecord
from hypercontainer.sandbox import resolver
from hypercontainer.sandbox.resolver import Resolver
from tests.interop.netns import namespace
from tests.unit.sandbox.lonely import Lot

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")


@pytest.fixture
def there() -> Iterator[Resolver]:
    """A namespace, nobody in it."""
    with namespace("hynames") as name, netns.opened(f"/run/netns/{name}") as fd:
        yield Resolver(f"/run/netns/{name}", netns.identity(fd))


def listening(there: Resolver, kind: socket.SocketKind) -> socket.socket:
    def make() -> socket.socket:
        made = socket.socket(type=kind)
        made.bind(resolver.PLACE)
        if kind == socket.SOCK_STREAM:
            made.listen()
        return made

    with netns.opened(there.netns) as fd:
        return netns.inside(fd, make)


async def test_it_is_reached_in_its_namespace(there: Resolver) -> None:
    with listening(there, socket.SOCK_DGRAM) as server, await there.dial("udp") as client:
        client.send(b"question")
        assert server.recv(100) == b"question"
    with listening(there, socket.SOCK_STREAM) as server, await there.dial("tcp") as client:
        accepted, address = server.accept()
        accepted.close()
        assert address == client.getsockname()


async def test_nobody_and_another_namespace_are_errors(there: Resolver) -> None:
    with pytest.raises(ConnectionRefusedError):
        await there.dial("tcp")
    with pytest.raises(OSError, match="there is another network namespace at"):
        await there._replace(inode=there.inode + 1).dial("udp")
    with pytest.raises(OSError, match="nosuch"):
        await there._replace(netns="/run/netns/nosuch").dial("udp")


class Guest:
    """What is said of a connection, and to it."""

    def __init__(self, *said: bytes) -> None:
        self.said, self.heard, self.closed = list(said), b"", False
        self.connection = Connection(1, self, self)  # type: ignore[arg-type]

    async def read(self) -> bytes:
        return self.said.pop(0) if self.said else b""

    def consumed(self, count: int) -> None:
        pass

    async def write(self, data: bytes) -> None:
        self.heard += data

    def close(self) -> None:
        self.closed = True

    async def over(self) -> bool:
        return True


async def test_a_question_in_pieces_is_one_datagram() -> None:
    here, server = socket.socketpair(type=socket.SOCK_DGRAM)
    here.setblocking(False)
    guest = Guest(b"\0", b"\3as", b"k")
    with here, server:
        asking = asyncio.create_task(resolver.ask(guest.connection, here))
        assert await asyncio.to_thread(server.recv, 100) == b"ask"
        server.send(b"answer")
        await asking
    assert (guest.heard, guest.closed) == (b"\0\6answer", True)


@pytest.mark.parametrize("said", [[], [b"\0"], [b"\0\4ask"], [b"\0\2ask"], [b"\xff\xff" + b"x" * 40_000] * 3])
async def test_what_is_no_question_is_not_sent(said: list[bytes]) -> None:
    here, server = socket.socketpair(type=socket.SOCK_DGRAM)
    here.setblocking(False)
    server.setblocking(False)
    guest = Guest(*said)
    with here, server:
        await resolver.ask(guest.connection, here)
        with pytest.raises(BlockingIOError):
            server.recv(100)
    assert guest.heard == b""


def test_a_namespace_has_one_with_or_without_interfaces(tmp_path: Path) -> None:
    pod = Lot(tmp_path).pod("true").record
    pod.nics = [NicRecord(number=0, tap="t", mac="02:00:00:00:00:01", addresses=[])]
    assert resolver.of(pod, tmp_path) is None
    pod.netns, pod.nics = "/proc/1/ns/net", []
    assert resolver.of(pod, tmp_path) == Resolver(str(tmp_path), tmp_path.stat().st_ino)
    assert resolver.of(pod, tmp_path / "gone") is None
    pod.nics = [NicRecord(number=0, tap="t", mac="02:00:00:00:00:01", addresses=[], netns="/n", netns_inode=7)]
    assert resolver.of(pod, tmp_path) == Resolver("/n", 7)
