"""Where the bytes of a SPDY connection flow: in the connection of an HTTP request that was upgraded, or in the binary
messages of a websocket."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from aiohttp import WSMsgType, web

from hypercontainer.errors import HyperError
from hypercontainer.hyperd.http.carry import Vanished
from hypercontainer.hyperd.http.connection import Connection
from hypercontainer.hyperd.http.framing import Word
from hypercontainer.model.api import Session

SPDY = "SPDY/3.1"


class Wire(Protocol):
    async def read(self) -> bytes:
        """What came. Vanished once the client is gone."""

    async def send(self, data: bytes) -> None:
        """Waits while the client is slow. Vanished, or ConnectionError, when it is gone."""


class Plain:
    """The framing of a connection whose bytes are told apart later. `headers` are those of the answer."""

    head_alone = False
    half_closes = False

    def __init__(self, headers: Mapping[str, str]) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.head = (
            f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {SPDY}\r\n{lines}\r\n".encode()
        )

    def read(self, data: bytes) -> Iterator[Word]:
        yield data

    def begin(self, session: Session) -> bytes:
        return b""

    def output(self, stream: int, data: bytes) -> bytes:
        return data

    def end(self, status: int, reason: str) -> bytes:
        return b""

    def error(self, error: HyperError) -> bytes:
        return b""


class Upgraded:
    """The wire of an HTTP connection that was taken over."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self) -> bytes:
        data = await self._connection.next_stdin()
        if data is None:
            raise Vanished
        return data

    async def send(self, data: bytes) -> None:
        await self._connection.send(data)


class Tunnel:
    """The wire in a websocket, whose messages are pieces of any length."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        while True:
            message = await self._socket.receive()
            if message.type is not WSMsgType.BINARY:
                raise Vanished
            if message.data:
                return bytes(message.data)

    async def send(self, data: bytes) -> None:
        await self._socket.send_bytes(data)
