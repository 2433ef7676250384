"""A process on this host that stands for one in a guest: engines wait for its pid. See host/standin.c, docs/standin.md.

Its process holds the stdio that an engine gave; here is what hyperd says to that, over a connection that may break and
come again: bytes are counted by both.
"""

import asyncio
import logging
import struct
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from hypercontainer.agent.streams import InputStream
from hypercontainer.errors import HyperError, InvalidInput
from hypercontainer.model.record import StandInRecord
from hypercontainer.sandbox.sink import Mark, Offsets, Position

log = logging.getLogger(__name__)

KEY_BYTES, WINDOW = 32, 64 * 1024
KNOWS_END = 1  # of a HELLO's value
MAX_SIGNAL = 64
LOST = 255  # the status of a process whose guest vanished
OUT_OF_MEMORY = 0x100  # beside a status: its engine is to be told, by the stand-in's control group
LINGER_S = 10.0  # that what a process has started may go on writing after its end
_FRAME, _HELLO = struct.Struct("<BBHIQ"), struct.Struct(f"<{KEY_BYTES}s3Q")


class Kind(IntEnum):
    """Of a frame."""

    HELLO, DATA, END, ACK, SIGNAL, RESIZE, EXIT, STOP, RELEASE = range(1, 10)


class Frame(NamedTuple):
    kind: int
    stream: int
    value: int  # an offset, a signal, a size
    payload: bytes = b""

    def encode(self) -> bytes:
        return _FRAME.pack(self.kind, self.stream, 0, len(self.payload), self.value) + self.payload


class Hello(NamedTuple):
    """What a stand-in says first: which one it is, and how far each stream has got."""

    key: str
    stdin: int
    stdout: int
    stderr: int
    knows: int = 0


async def read_frame(reader: asyncio.StreamReader) -> Frame | None:
    """The next one; None at the end. InvalidInput for what no stand-in says."""
    try:
        kind, stream, _, length, value = _FRAME.unpack(await reader.readexactly(_FRAME.size))
        if length > WINDOW:
            raise InvalidInput(f"a stand-in sent {length} bytes at once: {WINDOW} at most")
        return Frame(kind, stream, value, await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def read_hello(frame: Frame | None) -> Hello:
    if frame is None or frame.kind != Kind.HELLO or len(frame.payload) != _HELLO.size:
        raise InvalidInput("a caller who is no stand-in")
    key, stdin, stdout, stderr = _HELLO.unpack(frame.payload)
    return Hello(key.decode(errors="replace"), stdin, stdout, stderr, frame.value)


def dismiss(writer: asyncio.StreamWriter, status: int) -> None:
    """End one, whatever it stood for."""
    writer.write(Frame(Kind.EXIT, 0, status).encode())


class Process(Protocol):
    """The one in the guest, as its stand-in needs it."""

    @property
    def stdin(self) -> InputStream | None:
        """None before it has started, and where it has none."""

    async def begun(self) -> None:
        """Wait until it has started. NotFound: it never will."""

    async def wait(self) -> int:
        """Its status, once all its output is taken; with OUT_OF_MEMORY, where that is why."""

    async def signal(self, number: int) -> None: ...

    async def resize(self, rows: int, columns: int) -> None: ...

    async def hang_up(self, stream: Literal[1, 2]) -> None:
        """Nobody reads that any more."""


class StandIn:
    """A Sink of both streams. `position` is the file of ours that says how far it got."""

    where = "its stand-in"

    def __init__(self, record: StandInRecord, position: Path) -> None:
        self.record = record
        self._position: Position | None = Position(position)
        self._run = 0
        self._taken = [0, 0]  # by whoever reads the stand-in's stdout and stderr
        self._given = [0, 0]  # to it, on this connection or one before
        self._ended = [False, False]  # by the process, which may run on
        self._knows = 0  # whoever is connected
        self._writer: asyncio.StreamWriter | None = None
        self._news = asyncio.Condition()
        self._closed = True
        self._released = False  # its stdin may end

    @property
    def offsets(self) -> Offsets:
        return self._taken[0], self._taken[1]

    def open(self, run: int) -> Offsets:
        self._closed = False
        mark = self._position.read() if self._position else Mark()
        self._run = run
        self._taken = list(mark.offsets) if mark.run == run else [0, 0]
        self._given = list(self._taken)
        self._ended = [False, False]
        return self.offsets

    def begin(self, run: int, offsets: Offsets) -> None:
        if self._position:
            self._position.write(Mark(run, *offsets))
        self.open(run)

    async def write(self, stream: int, data: bytes, time_ns: int) -> None:
        n, rest = stream - 1, memoryview(data)
        end = self._taken[n] + len(data)
        async with self._news:
            while self._taken[n] < end:
                if self._closed:
                    return  # nobody stands there any more
                at = self._given[n] - (end - len(data))
                room = WINDOW - (self._given[n] - self._taken[n])
                if self._writer and room > 0 and at < len(data):
                    piece = bytes(rest[at : at + room])
                    self._send(Frame(Kind.DATA, stream, self._given[n], piece))
                    self._given[n] += len(piece)
                else:
                    await self._news.wait()

    def end(self, stream: int) -> None:
        """All of a stream was written: whoever reads it there sees its end."""
        self._ended[stream - 1] = True
        self._tell_ends()

    def _tell_ends(self) -> None:
        for n, ended in enumerate(self._ended):
            if ended and self._knows & KNOWS_END and self._given[n] == self._taken[n]:
                self._send(Frame(Kind.END, n + 1, self._taken[n]))

    def close(self) -> None:
        self._closed = True
        if self._position:
            self._position.close()

    def forget(self) -> None:
        """No hyperd after us will ask how far it got."""
        if self._position:
            self._position.close()
        self._position = None

    async def give_up(self) -> None:
        """It has died: what is written from now on is lost, as with a closed pipe."""
        async with self._news:
            self._closed = True
            self._news.notify_all()

    def _send(self, frame: Frame) -> None:
        if self._writer:
            self._writer.write(frame.encode())

    # its connection

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hello: Hello, of: Process
    ) -> None:
        """Speak with it until it goes: what `of` says and is told, and in the end its status. The last connection of
        several counts."""
        if self._writer:
            self._writer.close()
        async with self._news:
            self._writer, self._knows = writer, hello.knows
            self._took(0, hello.stdout)
            self._took(1, hello.stderr)
            self._given = list(self._taken)
            self._news.notify_all()
        if self._released:
            self.release()
        self._tell_ends()
        stdin = _Stdin(self, of, hello.stdin)
        tasks = [asyncio.create_task(stdin.feed()), asyncio.create_task(self._tell_end(of))]
        try:
            while frame := await read_frame(reader):
                await self._hear(frame, of, stdin)
        finally:
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, Exception):
                    log.error("a stand-in: %r", result, exc_info=result)
            if self._writer is writer:
                self._writer = None

    async def _hear(self, frame: Frame, of: Process, stdin: "_Stdin") -> None:
        match frame.kind:
            case Kind.DATA:
                stdin.take(frame.value, frame.payload)
            case Kind.END:
                stdin.end(frame.value)
            case Kind.ACK if frame.stream in (1, 2):
                async with self._news:
                    self._took(frame.stream - 1, frame.value)
                    self._news.notify_all()
            case Kind.SIGNAL if 0 < frame.value <= MAX_SIGNAL:
                await of.signal(frame.value)
            case Kind.STOP if frame.stream in (1, 2):
                await of.hang_up(1 if frame.stream == 1 else 2)
            case Kind.RESIZE:
                await of.resize(frame.value >> 16 & 0xFFFF, frame.value & 0xFFFF)
            case _:
                raise InvalidInput(f"a stand-in sent a frame of kind {frame.kind} on stream {frame.stream}")

    def _took(self, n: int, offset: int) -> None:
        if offset > self._taken[n]:
            self._taken[n] = offset
            if self._position and not self._closed:  # its container may be removed by now, and the folder of that
                self._position.write(Mark(self._run, *self._taken))

    async def _tell_end(self, of: Process) -> None:
        try:
            await of.begun()
            status = await of.wait()
        except HyperError:
            status = LOST
        self._send(Frame(Kind.EXIT, 0, status))

    def acknowledge(self, offset: int) -> None:
        self._send(Frame(Kind.ACK, 0, offset))

    def release(self) -> None:
        """Have it let go of its stdin's other end: its last writer's end is the end."""
        self._released = True
        self._send(Frame(Kind.RELEASE, 0, 0))

    def stop_reading(self) -> None:
        self._send(Frame(Kind.STOP, 0, 0))


class _Stdin:
    """What comes in, on its way to the process."""

    def __init__(self, stand_in: StandIn, of: Process, offset: int) -> None:
        self._stand_in, self._of = stand_in, of
        self._at = offset  # of the first byte that is kept
        self._kept = bytearray()
        self._ended = False
        self._news = asyncio.Event()

    def take(self, offset: int, data: bytes) -> None:
        if offset != self._at + len(self._kept) or len(self._kept) + len(data) > WINDOW:
            raise InvalidInput("a stand-in sent bytes of stdin out of order, or too many")
        self._kept += data
        self._news.set()

    def end(self, offset: int) -> None:
        if offset != self._at + len(self._kept):
            raise InvalidInput("a stand-in ended stdin before its end")
        self._ended = True
        self._news.set()

    async def feed(self) -> None:
        await self._of.begun()
        stdin = self._of.stdin
        if stdin is None:
            return self._stand_in.stop_reading()
        acks = asyncio.create_task(self._acknowledge(stdin))
        try:
            with suppress(BrokenPipeError, HyperError):
                await self._feed(stdin)
                return await acks
            self._stand_in.stop_reading()
        finally:
            acks.cancel()
        return None

    async def _feed(self, stdin: InputStream) -> None:
        while True:
            had = min(max(0, stdin.length - self._at), len(self._kept))  # a hyperd before us was given it
            data = bytes(self._kept)
            self._at += len(data)
            self._kept.clear()
            if data[had:]:
                await stdin.write(data[had:])
            if self._kept:
                continue
            if self._ended:
                return stdin.close()
            self._news.clear()
            await self._news.wait()

    async def _acknowledge(self, stdin: InputStream) -> None:
        told = 0
        while await stdin.moved(told):
            told = stdin.consumed
            self._stand_in.acknowledge(told)
