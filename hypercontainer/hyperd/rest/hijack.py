"""Upgraded connections (`Upgrade: hyper-stream`): frames both ways between a client and a session. See docs/api.md.

The HTTP protocol leaves the transport to `Connection`, which reads frames and holds the client back while the session
is slow; `serve` carries bytes between the two until the session ends, the client detaches or vanishes.
"""

import asyncio
import select
import struct
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
from aiohttp import web

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.rest.call import Body, Cells, Upgrade
from hypercontainer.model.api import Session
from hypercontainer.model.signals import HIGHEST

STDIN, STDOUT, STDERR, EXIT, INFO, STDIN_END, RESIZE, SIGNAL, DETACH, ERROR = range(10)
HEADER = struct.Struct(">B3xI")  # kind, length of the payload
HEAD = struct.Struct(">BBBBI")  # the same, its padding read as well
MAX_PAYLOAD = 65536
MAX_CONTROL = 1024  # payload of what is no stdin
WINDOW = 1 << 18  # bytes each way that wait for a slow end
CONTROL_COST = 1024  # what a frame that is no stdin counts for in the window
LOOK_EVERY_S = 1.0  # at a client that is not read from
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: hyper-stream\r\n\r\n"


class ResizeFrame(Body, frozen=True, kw_only=True):
    rows: Cells
    columns: Cells


class SignalFrame(Body, frozen=True, kw_only=True):
    signal: Annotated[int, msgspec.Meta(ge=1, le=HIGHEST)]


class Vanished(Exception):
    """The client has gone."""


class Detached(Exception):
    """The client has said that it goes."""


def wanted(headers: Mapping[str, str]) -> bool:
    """Does the client ask for a stream?"""
    connection = {word.strip().lower() for word in headers.get("Connection", "").split(",")}
    return "upgrade" in connection and headers.get("Upgrade", "").strip().lower() == "hyper-stream"


def frames(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take each whole frame off the front of `buffer`. InvalidInput for one that no client may send."""
    at = 0
    view = memoryview(buffer)
    try:
        while len(buffer) - at >= HEADER.size:
            kind, a, b, c, length = HEAD.unpack_from(buffer, at)
            if a or b or c or kind not in (STDIN, STDIN_END, RESIZE, SIGNAL, DETACH):
                raise InvalidInput(f"a stream's client sent a frame of unknown kind {kind}")
            if length > (MAX_PAYLOAD if kind == STDIN else MAX_CONTROL):
                raise InvalidInput(f"a stream's client sent a frame of {length} bytes")
            if len(buffer) - at < HEADER.size + length:
                return
            payload = bytes(view[at + HEADER.size : at + HEADER.size + length])
            at += HEADER.size + length
            yield kind, payload
    finally:
        view.release()
        del buffer[:at]


def pieces(kind: int, data: bytes) -> bytes:
    """`data` as frames of at most MAX_PAYLOAD."""
    if len(data) <= MAX_PAYLOAD:
        return HEADER.pack(kind, len(data)) + data
    cut = (data[i : i + MAX_PAYLOAD] for i in range(0, len(data), MAX_PAYLOAD))
    return b"".join(part for piece in cut for part in (HEADER.pack(kind, len(piece)), piece))


def document(kind: int, content: object) -> bytes:
    return pieces(kind, msgspec.json.encode(content)[:MAX_PAYLOAD])


@dataclass(eq=False)
class Connection(asyncio.Protocol):
    """The client's end: bytes in the order they came, back-pressure in both directions."""

    transport: asyncio.Transport
    buffer: bytearray = field(default_factory=bytearray)
    stdin: deque[bytes | None] = field(default_factory=deque)  # None: its end
    controls: deque[tuple[int, bytes]] = field(default_factory=deque)
    waiting: int = 0  # bytes in the two
    broken: Exception | None = None  # why no more will come
    lost: bool = False
    came: asyncio.Event = field(default_factory=asyncio.Event)
    steered: asyncio.Event = field(default_factory=asyncio.Event)
    writable: asyncio.Event = field(default_factory=asyncio.Event)
    on_lost: Callable[[Exception | None], None] | None = None
    _look: asyncio.TimerHandle | None = None

    # what the transport calls

    def data_received(self, data: bytes) -> None:
        if self.broken:
            return
        self.buffer += data
        try:
            for kind, payload in frames(self.buffer):
                self._take(kind, payload)
        except InvalidInput as e:
            self._end(e)
        if self.waiting > WINDOW:
            self.hold()

    def eof_received(self) -> None:
        """A client that sends no more has gone: the end of stdin has a frame of its own."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._look:
            self._look.cancel()
        self._end(Vanished())
        self.writable.set()
        if self.on_lost:
            self.on_lost(exc)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    # what `serve` calls

    async def send(self, data: bytes) -> None:
        """Write, and wait while the client is slow. Vanished when it is gone."""
        if self.lost:
            raise Vanished
        self.transport.write(data)
        if not self.writable.is_set():
            await self.writable.wait()
            if self.lost:
                raise Vanished

    async def next_stdin(self) -> bytes | None:
        """What came for stdin, small frames joined; None at its end, which comes once."""
        while not self.stdin:
            if self.broken:
                raise self.broken
            self.came.clear()
            await self.came.wait()
        if self.stdin[0] is None:
            self.stdin.popleft()
            return None
        parts = []
        while self.stdin and (part := self.stdin[0]) is not None:
            parts.append(part)
            self.stdin.popleft()
        data = b"".join(parts) if len(parts) > 1 else parts[0]
        self._took(len(data))
        return data

    async def next_control(self) -> tuple[int, bytes]:
        while not self.controls:
            if self.broken:
                raise self.broken
            self.steered.clear()
            await self.steered.wait()
        self._took(CONTROL_COST)
        return self.controls.popleft()

    def hold(self) -> None:
        """Read no more until the session has taken what came; meanwhile, look whether the client is still there."""
        if self.transport.is_reading() and not self.transport.is_closing():
            self.transport.pause_reading()
            self._look_later()

    # inside

    def _take(self, kind: int, payload: bytes) -> None:
        if kind == STDIN:
            if payload:
                self.stdin.append(payload)
                self.waiting += len(payload)
                self.came.set()
        elif kind == STDIN_END:
            if not (self.stdin and self.stdin[-1] is None):
                self.stdin.append(None)
                self.came.set()
        else:
            self.controls.append((kind, payload))
            self.waiting += CONTROL_COST
            self.steered.set()

    def _took(self, size: int) -> None:
        self.waiting -= size
        if self.waiting <= WINDOW // 2 and not self.transport.is_reading() and not self.transport.is_closing():
            self.transport.resume_reading()

    def _end(self, why: Exception) -> None:
        self.broken = self.broken or why
        self.came.set()
        self.steered.set()

    def _look_later(self) -> None:
        self._look = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look_now)

    def _look_now(self) -> None:
        """A transport that does not read hears of no hang-up: ask."""
        if self.transport.is_reading() or self.transport.is_closing():
            return
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket"), 0)  # POLLHUP and POLLERR come unasked
        if poll.poll(0):
            self.transport.abort()
        else:
            self._look_later()


class Hijacked(web.StreamResponse):
    """Tells aiohttp that everything has been answered; it closes the connection."""

    def __init__(self) -> None:
        super().__init__(status=101)

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


def take_over(request: web.Request) -> Connection:
    """Answer 101 and take the transport from the HTTP protocol, which hears of its end after `on_lost` is set."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError
    connection = Connection(transport)
    connection.writable.set()
    transport.set_protocol(connection)
    transport.set_write_buffer_limits(high=WINDOW)
    transport.write(SWITCHING)
    if not transport.is_reading():
        transport.resume_reading()
    return connection


async def serve(
    request: web.Request, upgrade: Upgrade, why: Callable[[BaseException], dict[str, object]]
) -> web.StreamResponse:
    """Carry `upgrade.session` over the connection of `request` to its end. The session is let go whatever happens."""
    session = upgrade.session
    http = request.protocol
    connection: Connection | None = None
    try:
        connection = take_over(request)
        last = await _carry(connection, session, why, stdin=upgrade.stdin)
        if last and not connection.lost:
            connection.transport.write(last)
    finally:
        try:
            await session.detach()
        finally:
            if connection:
                connection.on_lost = http.connection_lost
                if connection.lost:
                    http.connection_lost(None)
    return Hijacked()


async def _carry(
    connection: Connection, session: Session, why: Callable[[BaseException], dict[str, object]], *, stdin: bool
) -> bytes:
    """Run the three pumps; the last frame to send, or nothing when the client has left."""
    try:
        async with asyncio.TaskGroup() as group:
            steering = group.create_task(_steer(connection, session))
            feeding = group.create_task(_feed(connection, session, stdin=stdin))
            timings = [step._asdict() for step in session.timings]
            await connection.send(document(INFO, {"Id": session.id, "timings": timings}))
            async for stream, data in session:
                await connection.send(pieces(stream, data))
            status = await session.wait()
            steering.cancel()
            feeding.cancel()
        return document(EXIT, {"status": status})
    except asyncio.CancelledError as e:
        if not connection.lost:
            connection.transport.write(document(ERROR, why(e)))
        raise
    except BaseExceptionGroup as e:
        cause = _first(e)
        if isinstance(cause, Vanished | Detached | ConnectionError):
            return b""
        return document(ERROR, why(cause))


def _first(error: BaseException) -> BaseException:
    """Why a group failed: a client that left comes before what its leaving broke."""
    while isinstance(error, BaseExceptionGroup):
        gone = [e for e in error.exceptions if isinstance(e, Vanished | Detached)]
        error = (gone or error.exceptions)[0]
    return error


async def _feed(connection: Connection, session: Session, *, stdin: bool) -> None:
    """Client to stdin. A process that reads no more loses the rest, as it would behind a pipe."""
    listening = True
    while True:
        data = await connection.next_stdin()
        if not stdin:
            if data is not None:
                raise InvalidInput("bytes for stdin came, but stdin is not attached")
            continue
        try:
            if listening:
                await (session.close_stdin() if data is None else session.write(data))
        except BrokenPipeError:
            listening = False


async def _steer(connection: Connection, session: Session) -> None:
    """Resizes, signals, the wish to leave: they overtake stdin that waits."""
    while True:
        kind, payload = await connection.next_control()
        try:
            if kind == RESIZE:
                size = msgspec.json.decode(payload, type=ResizeFrame)
                await session.resize(size.rows, size.columns)
            elif kind == SIGNAL:
                await session.signal(msgspec.json.decode(payload, type=SignalFrame).signal)
            else:
                raise Detached
        except (msgspec.DecodeError, RecursionError) as e:
            raise InvalidInput(f"cannot read a frame of kind {kind}: {e}") from e
