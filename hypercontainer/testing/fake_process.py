"""Processes of a FakeAgent: coroutines of the test, with the guest's end of their streams."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from hypercontainer.agent import messages as m
from hypercontainer.agent.streams import InputStream, Owner, Sender
from hypercontainer.agent.wire import WINDOW, Frame, Kind, encode


class Refused(Exception):
    """What a program or an answer of a test raises to refuse a request."""

    def __init__(self, number: int, message: str = "", *, exec: bool = False) -> None:
        super().__init__(message or os.strerror(number))
        self.errno, self.exec = number, exec


class Stdin:
    """The guest's end of a stream from the host: what came and was not read yet is forgotten at HELLO."""

    def __init__(self, agent: Owner, number: int) -> None:
        self.number, self._agent = number, agent
        self.consumed = self._acknowledged = 0
        self.eof_consumed = self.stopped = False
        self._kept = bytearray()
        self._eof = False
        self._due = False
        self._news = asyncio.Event()

    async def read(self, limit: int = 65536) -> bytes:
        """Up to `limit` bytes, consumed by reading them; b"" at EOF."""
        while not self._kept and not self._eof:
            self._news.clear()
            await self._news.wait()
        data = bytes(self._kept[:limit])
        del self._kept[:limit]
        self.consumed += len(data)
        self.eof_consumed |= not data
        if not self._kept or self.consumed - self._acknowledged >= WINDOW // 4:
            self.announce()
        return data

    def take(self, frame: Frame) -> None:
        """A frame that is out of order or beyond the window is ignored, as the guest does."""
        if self.stopped or self.eof_consumed:
            return
        received = self.consumed + len(self._kept)
        if frame.kind == Kind.EOF:
            self._eof |= frame.offset == received
        elif frame.offset <= received and frame.offset + len(frame.payload) <= self._acknowledged + WINDOW:
            self._kept += frame.payload[received - frame.offset :]
        self._news.set()

    def begin_anew(self) -> None:
        self._kept.clear()
        self._eof = self.eof_consumed
        self.announce()

    def announce(self) -> None:
        self._due = True
        self._agent.ready(self)

    def stop(self) -> None:
        """Its reader is gone."""
        self.stopped = not self.eof_consumed
        self.announce()

    def next_frame(self) -> bytes | None:
        if not self._due:
            return None
        self._due = False
        if self.stopped:
            return encode(Kind.STOP, self.number, 0)
        self._acknowledged = self.consumed
        return encode(Kind.ACK, self.number, self.consumed + self.eof_consumed)


class Streams(Owner, Protocol):
    """What a process needs of its agent."""

    def open_input(self, number: int) -> "Stdin": ...

    def open_output(self, number: int) -> Sender: ...


class FakeProcess:
    """What a program of a test sees."""

    def __init__(self, agent: Streams, name: str, container: str, args: list[str], streams: m.StreamSet) -> None:
        self.id, self.container, self.args, self.streams = name, container, args, streams
        self.env: list[str] = []
        self.tty = False
        self.size = (0, 0)  # rows, columns: the last resize
        self.pid = 0
        self.status: int | None = None
        self.oom = False
        self.traps: set[int] = set()  # signals that end up in `signals` instead of ending it
        self.signals: asyncio.Queue[int] = asyncio.Queue()
        self.stdin = agent.open_input(streams.stdin) if streams.stdin else None
        self.senders = [agent.open_output(number) if number else None for number in (streams.stdout, streams.stderr)]
        self._outputs = [InputStream(sender) if sender else None for sender in self.senders]
        self.task: asyncio.Task[None] | None = None
        self.release: asyncio.Future[None] | None = None  # it is held until then

    async def read(self, limit: int = 65536) -> bytes:
        return await self.stdin.read(limit) if self.stdin else b""

    async def write(self, data: bytes, *, to: int = 1) -> None:
        """Write to stdout (1) or stderr (2); waits while the host does not consume. BrokenPipeError after STOP."""
        if stream := self._outputs[to - 1]:
            await stream.write(data)

    def listed(self) -> m.ListedProcess:
        return m.ListedProcess(
            id=self.id,
            container=self.container,
            pid=self.pid,
            running=self.status is None,
            status=self.status or 0,
            oom=self.oom,
            tty=self.tty,
            held=bool(self.release and not self.release.done()),
            streams=self.streams,
        )


Program = Callable[[FakeProcess], Awaitable[int]]


async def _cat(process: FakeProcess) -> int:
    while data := await process.read():
        await process.write(data)
    return 0


async def _echo(process: FakeProcess) -> int:
    await process.write(" ".join(process.args[1:]).encode() + b"\n")
    return 0


async def _exit(process: FakeProcess) -> int:
    return int(process.args[1])


async def _eat(process: FakeProcess) -> int:
    """eat STATUS: end so, the guest having run out of memory."""
    process.oom = True
    return int(process.args[1])


async def _sleep(process: FakeProcess) -> int:
    await asyncio.Event().wait()
    return 0


async def _spew(process: FakeProcess) -> int:
    """spew COUNT [ERR_COUNT [STATUS]]: so many bytes of `pattern` to stdout and stderr."""
    await process.write(pattern(int(process.args[1])))
    await process.write(pattern(int((process.args[2:] or ["0"])[0])), to=2)
    return int((process.args[3:] or ["0"])[0])


async def _true(process: FakeProcess) -> int:
    return 0


async def _false(process: FakeProcess) -> int:
    return 1


def pattern(size: int) -> bytes:
    """`size` bytes in which every place can be told from its neighbours."""
    words = b"".join(n.to_bytes(4, "big") for n in range(size // 4 + 1))
    return words[:size]


PROGRAMS: Mapping[str, Program] = {
    "cat": _cat, "eat": _eat, "echo": _echo, "exit": _exit, "sleep": _sleep, "spew": _spew, "true": _true,
    "false": _false, "hyperstart": _true,
}  # fmt: skip
