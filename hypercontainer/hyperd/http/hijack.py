"""Connections that are taken over from HTTP: from a request to its session and back.

The HTTP protocol leaves the transport to a `Connection`, which hears the client's words and holds it back while the
session is slow; `serve` carries bytes between the two until the session ends, the client detaches or vanishes.
"""

import asyncio
import fcntl
import termios
from collections.abc import Mapping

from aiohttp import web

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.http.call import Upgrade
from hypercontainer.hyperd.http.connection import WINDOW, Connection, Vanished
from hypercontainer.hyperd.http.errors import ours
from hypercontainer.hyperd.http.framing import Framing, Resize, Signal
from hypercontainer.hyperd.http.server import Handler
from hypercontainer.model.api import Session

HEAD_S, LOOK_S = 1.0, 0.001


class Detached(Exception):
    """The client has said that it goes."""


def wanted(headers: Mapping[str, str]) -> str:
    """The protocol that the client asks to go on with, or ""."""
    connection = {word.strip().lower() for word in headers.get("Connection", "").split(",")}
    return headers.get("Upgrade", "").strip().lower() if "upgrade" in connection else ""


class Hijacked(web.StreamResponse):
    """Tells aiohttp that everything has been answered; it closes the connection."""

    def __init__(self) -> None:
        super().__init__(status=101)

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


def take_over(request: web.Request, framing: Framing) -> Connection:
    """Answer with the head of `framing` and take the transport from the HTTP protocol.

    That one hears of its end once `on_lost` is set."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError
    connection = Connection(transport, framing)
    connection.writable.set()
    transport.set_protocol(connection)
    transport.set_write_buffer_limits(high=WINDOW)
    transport.write(framing.head)
    if not transport.is_reading():
        transport.resume_reading()
    if isinstance(request.protocol, Handler) and request.protocol.half_closed and not connection.eof_received():
        transport.close()  # it was the HTTP protocol that heard of the end
    return connection


async def read_by_client(connection: Connection) -> None:
    """Wait until the client has read all that was written, `HEAD_S` at most. No event tells of that."""
    deadline = asyncio.get_running_loop().time() + HEAD_S
    sock = connection.transport.get_extra_info("socket")
    unread = bytearray(4)
    while not connection.lost and asyncio.get_running_loop().time() < deadline:
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, unread)
        if not any(unread):
            return
        await asyncio.sleep(LOOK_S)


async def serve(request: web.Request, upgrade: Upgrade) -> web.StreamResponse:
    """Carry `upgrade.session` over the connection of `request` to its end. The session is let go whatever happens."""
    session = upgrade.session
    http = request.protocol
    connection: Connection | None = None
    try:
        connection = take_over(request, upgrade.framing)
        if upgrade.framing.head_alone:
            await read_by_client(connection)
        last = await _carry(connection, session, stdin=upgrade.stdin)
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


async def _carry(connection: Connection, session: Session, *, stdin: bool) -> bytes:
    """Run the three pumps; the last words to send, or nothing when the client has left."""
    framing = connection.framing
    try:
        async with asyncio.TaskGroup() as group:
            steering = group.create_task(_steer(connection, session))
            feeding = group.create_task(_feed(connection, session, stdin=stdin))
            await connection.send(framing.begin(session))
            async for stream, data in session:
                await connection.send(framing.output(stream, data))
            status = await session.wait()
            steering.cancel()
            feeding.cancel()
        return framing.end(status, session.reason)
    except asyncio.CancelledError as e:
        if not connection.lost:
            connection.transport.write(framing.error(ours(e)))
        raise
    except BaseExceptionGroup as e:
        cause = _first(e)
        if isinstance(cause, Vanished | Detached | ConnectionError):
            return b""
        return framing.error(ours(cause))


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
        word = await connection.next_control()
        if isinstance(word, Resize):
            await session.resize(word.rows, word.columns)
        elif isinstance(word, Signal):
            await session.signal(word.number)
        else:
            raise Detached
