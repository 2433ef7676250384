"""Upgraded connections (`Upgrade: hyper-stream`): from a request to its session and back. See docs/api.md.

The HTTP protocol leaves the transport to a `Connection`, which reads frames and holds the client back while the session
is slow; `serve` carries bytes between the two until the session ends, the client detaches or vanishes.
"""

import asyncio
from collections.abc import Callable, Mapping

from aiohttp import web

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.rest.call import Upgrade
from hypercontainer.hyperd.rest.connection import WINDOW, Connection, Vanished
from hypercontainer.hyperd.rest.frames import (
    ERROR,
    EXIT,
    INFO,
    RESIZE,
    SIGNAL,
    ResizeFrame,
    SignalFrame,
    document,
    pieces,
)
from hypercontainer.lib.document import decode
from hypercontainer.model.api import Session

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: hyper-stream\r\n\r\n"


class Detached(Exception):
    """The client has said that it goes."""


def wanted(headers: Mapping[str, str]) -> bool:
    """Does the client ask for a stream?"""
    connection = {word.strip().lower() for word in headers.get("Connection", "").split(",")}
    return "upgrade" in connection and headers.get("Upgrade", "").strip().lower() == "hyper-stream"


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
        reason = {"error": session.reason} if session.reason else {}
        return document(EXIT, {"status": status, **reason})
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
        what = f"a frame of kind {kind}"
        if kind == RESIZE:
            size = decode(payload, ResizeFrame, what, error=InvalidInput)
            await session.resize(size.rows, size.columns)
        elif kind == SIGNAL:
            await session.signal(decode(payload, SignalFrame, what, error=InvalidInput).signal)
        else:
            raise Detached
