"""Connections that are taken over from HTTP: from a request to its session and back.

The HTTP protocol leaves the transport to a `Connection`, which hears the client's words and holds it back while the
session is slow.
"""

import asyncio
import fcntl
import termios
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from aiohttp import web

from hypercontainer.hyperd.http.call import Upgrade
from hypercontainer.hyperd.http.carry import attend
from hypercontainer.hyperd.http.connection import Connection
from hypercontainer.hyperd.http.framing import Framing
from hypercontainer.hyperd.http.inbox import WINDOW
from hypercontainer.hyperd.http.server import Handler

HEAD_S, LOOK_S = 1.0, 0.001


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
    transport.set_protocol(connection)
    transport.set_write_buffer_limits(high=WINDOW)
    transport.write(framing.head)
    if not transport.is_reading():
        transport.resume_reading()
    if isinstance(request.protocol, Handler) and request.protocol.half_closed and not connection.eof_received():
        transport.close()  # it was the HTTP protocol that heard of the end
    return connection


@contextmanager
def taken_over(request: web.Request, framing: Framing) -> Iterator[Connection]:
    """The connection of `request` for the block; then the HTTP protocol has its end, and closes it."""
    http = request.protocol
    connection = take_over(request, framing)
    try:
        yield connection
    finally:
        connection.on_lost = http.connection_lost
        if connection.lost:
            http.connection_lost(None)


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
    try:
        with taken_over(request, upgrade.framing) as connection:
            if upgrade.framing.head_alone:
                await read_by_client(connection)
            await attend(connection, upgrade.session, stdin=upgrade.stdin)
    finally:
        await upgrade.session.detach()
    return Hijacked()
