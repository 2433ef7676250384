"""Answers pods that ask for names: those of their networks from what is known of them, all others by asking on.

Who asks is told by the address that a question comes from, which the rules of a bridge let nobody but its pod have; a
server hears what comes by its bridge, and nothing else. What pods may have of us is bounded, each and all together.
"""

import asyncio
import logging
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast

from hypercontainer.network import answers
from hypercontainer.network.answers import Malformed
from hypercontainer.network.base import Place

log = logging.getLogger(__name__)

PORT = 5311  # not 53: that is whose who publishes it, or has a server for all of the host's interfaces
ASKED_PORT = 53
ANSWER_S = 4.0  # of one server that is asked, docker's
IDLE_S = 10.0  # of a connection on which nothing is asked
MOST_ANSWER = 65535
A_SECOND = 1000  # questions of a pod; more are dropped unread
UNDER_WAY, POD_UNDER_WAY = 1024, 64  # questions that were passed on
POD_CONNECTIONS = 16


class Asker(answers.Asker, Protocol):
    """A pod that asks."""

    @property
    def id(self) -> str: ...

    def servers(self) -> Sequence[str]:
        """Whom to ask what its networks do not know; []: nobody, for nothing leads out of them."""


class Nameserver:
    """One of a hyperd, at any number of bridges. `asker` knows by its address who asks; None: nobody's."""

    def __init__(
        self,
        asker: Callable[[str], Asker | None],
        *,
        port: int = PORT,
        asked_port: int = ASKED_PORT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._asker, self.port, self._asked_port, self._clock = asker, port, asked_port, clock
        self._doors: dict[str, _Door] = {}  # by bridge
        self._opening = asyncio.Lock()
        self._troubles: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._second, self._asked = 0, Counter[str]()  # questions, in this second
        self._passed_on, self._connections = Counter[str](), Counter[str]()

    def place(self, address: str) -> Place:
        return Place(address, self.port)

    def troubles(self) -> list[str]:
        """Where it does not answer, and why."""
        return list(self._troubles.values())

    async def listen(self, bridge: str, address: str) -> None:
        """Answer who asks at `address` by `bridge`, which is there. Again = no change; one that was made anew, with its
        address, is listened at anew. What keeps it from that is one of the `troubles`."""
        async with self._opening:
            try:
                await self._listen(bridge, address)
            except OSError as e:
                words = f"names do not resolve at bridge {bridge}: cannot listen at {address}:{self.port}: {e.strerror}"
                if self._troubles.get(bridge) != words:
                    log.error("%s", words)
                self._troubles[bridge] = words

    async def _listen(self, bridge: str, address: str) -> None:
        number, door = socket.if_nametoindex(bridge), self._doors.get(bridge)
        if door is None or door.at != (number, address):
            self.leave(bridge)
            self._doors[bridge] = await _Door.open(self, bridge, number, address)
        self._troubles.pop(bridge, None)

    def leave(self, bridge: str) -> None:
        """Safe any number of times."""
        self._troubles.pop(bridge, None)
        if door := self._doors.pop(bridge, None):
            door.close()

    async def close(self) -> None:
        for bridge in list(self._doors):
            self.leave(bridge)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # questions

    def heard(self, data: bytes, sender: tuple[str, int], door: asyncio.DatagramTransport) -> None:
        """A datagram from whoever sends some."""
        pod = self._admitted(sender[0])
        if pod is None:
            return
        try:
            said = answers.answer(data, pod, most=answers.MOST_UDP)
        except Malformed:
            return
        if said is not None:
            door.sendto(said, sender)
        else:
            self._spawn(self._answer_later(data, pod, sender, door))

    async def _answer_later(
        self, data: bytes, pod: Asker, sender: tuple[str, int], door: asyncio.DatagramTransport
    ) -> None:
        said = await self._pass_on(data, pod, _ask_udp)
        if not door.is_closing():
            door.sendto(said, sender)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection from whoever makes one: question after question, until it ends."""
        task = cast(asyncio.Task[None], asyncio.current_task())
        self._tasks.add(task)
        try:
            pod = self._admitted(address := writer.get_extra_info("peername")[0])
            if pod and self._connections[pod.id] < POD_CONNECTIONS:
                with _counted(self._connections, pod.id):
                    await self._converse(reader, writer, address)
        except (OSError, EOFError, TimeoutError, Malformed):
            pass  # it has ended, or has said what is no question
        finally:
            self._tasks.discard(task)
            writer.transport.abort() if task.cancelling() else writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> None:
        while True:
            async with asyncio.timeout(IDLE_S):
                data = await _read(reader, answers.MOST_QUESTION)
            pod = self._admitted(address)  # it may have ended meanwhile, and another one have its address
            if pod is None:
                return
            said = answers.answer(data, pod, most=MOST_ANSWER)
            if said is None:
                said = await self._pass_on(data, pod, _ask_tcp)
            writer.write(len(said).to_bytes(2) + said)
            async with asyncio.timeout(IDLE_S):
                await writer.drain()

    def _admitted(self, address: str) -> Asker | None:
        """Who asks, if it has not asked too much."""
        if (second := int(self._clock())) != self._second:
            self._second = second
            self._asked.clear()
        self._asked[address] += 1
        return self._asker(address) if self._asked[address] <= A_SECOND else None

    async def _pass_on(self, data: bytes, pod: Asker, ask: "Ask") -> bytes:
        """What the first server says that says anything."""
        if self._passed_on.total() >= UNDER_WAY or self._passed_on[pod.id] >= POD_UNDER_WAY:
            return answers.refusal(data, answers.REFUSED)
        with _counted(self._passed_on, pod.id):
            for server in pod.servers():
                try:
                    async with asyncio.timeout(ANSWER_S):
                        return await ask(data, (server, self._asked_port))
                except (OSError, EOFError, TimeoutError):
                    continue
        return answers.refusal(data, answers.SERVFAIL)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a question for names: %s", error, exc_info=error)


class _Door(asyncio.DatagramProtocol):
    """Where a nameserver is asked at one bridge."""

    def __init__(self, nameserver: Nameserver, at: tuple[int, str]) -> None:
        self._nameserver, self.at = nameserver, at
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None

    @classmethod
    async def open(cls, nameserver: Nameserver, bridge: str, number: int, address: str) -> "_Door":
        loop, door = asyncio.get_running_loop(), cls(nameserver, (number, address))
        stream = _socket(socket.SOCK_STREAM, bridge, (address, nameserver.port))
        try:
            at = stream.getsockname()  # the same port of both, where any will do
            datagrams = _socket(socket.SOCK_DGRAM, bridge, at)
        except BaseException:
            stream.close()
            raise
        door._transport, _ = await loop.create_datagram_endpoint(lambda: door, sock=datagrams)
        door._server = await asyncio.start_server(nameserver.connected, sock=stream, limit=answers.MOST_QUESTION)
        nameserver.port = at[1]
        return door

    def datagram_received(self, data: bytes, sender: tuple[str | Any, int]) -> None:
        if self._transport:
            self._nameserver.heard(data, sender, self._transport)

    def close(self) -> None:
        if self._transport:
            self._transport.close()
        if self._server:
            self._server.close()


def _socket(kind: socket.SocketKind, bridge: str, address: tuple[str, int]) -> socket.socket:
    s = socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, bridge.encode())
        if kind == socket.SOCK_STREAM:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of before may linger
        s.bind(address)
        if kind == socket.SOCK_STREAM:
            s.listen(64)
    except BaseException:
        s.close()
        raise
    return s


@contextmanager
def _counted(counter: Counter[str], key: str) -> Iterator[None]:
    counter[key] += 1
    try:
        yield
    finally:
        counter[key] -= 1
        if not counter[key]:
            del counter[key]


Ask = Callable[[bytes, tuple[str, int]], Coroutine[Any, Any, bytes]]


async def _ask_udp(data: bytes, server: tuple[str, int]) -> bytes:
    """One datagram with a number that nobody knows, from a port that nobody knows; answers of others are none."""
    loop, number = asyncio.get_running_loop(), secrets.token_bytes(2)
    family, _, _, _, address = socket.getaddrinfo(*server, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV)[0]
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as s:
        s.connect(address)
        await loop.sock_sendall(s, number + data[2:])
        while True:
            said = await loop.sock_recv(s, MOST_ANSWER)
            if _answers(said, number):
                return data[:2] + said[2:]


async def _ask_tcp(data: bytes, server: tuple[str, int]) -> bytes:
    number = secrets.token_bytes(2)
    reader, writer = await asyncio.open_connection(*server, limit=MOST_ANSWER)
    try:
        writer.write(len(data).to_bytes(2) + number + data[2:])
        said = await _read(reader, MOST_ANSWER)
    finally:
        writer.transport.abort()
    if not _answers(said, number):
        raise EOFError
    return data[:2] + said[2:]


def _answers(said: bytes, number: bytes) -> bool:
    return len(said) >= answers.HEADER.size and said[:2] == number and bool(said[2] & 0x80)


async def _read(reader: asyncio.StreamReader, most: int) -> bytes:
    """The next message of a stream. EOFError, Malformed."""
    length = int.from_bytes(await reader.readexactly(2))
    if length > most:
        raise Malformed
    return await reader.readexactly(length)
