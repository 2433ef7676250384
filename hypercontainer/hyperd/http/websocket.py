"""Sessions over a websocket: each of its messages is a piece of a stream, whatever its length and its kind."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Literal

from aiohttp import WSCloseCode, WSMsgType, web

from hypercontainer.errors import HyperError, InvalidInput
from hypercontainer.hyperd.http.call import Upgrade
from hypercontainer.hyperd.http.carry import Vanished, attend
from hypercontainer.hyperd.http.connection import LOOK_EVERY_S, gone
from hypercontainer.hyperd.http.framing import Control, Framing
from hypercontainer.hyperd.http.inbox import WINDOW, Inbox
from hypercontainer.model.api import Session

MAX_MESSAGE = 1 << 20
CLOSE_S = 1.0  # for the client's word that it has heard of the end


def check(request: web.Request, protocols: Iterable[str] = ()) -> None:
    """InvalidInput for a request that asks for no websocket, or in no way that can be answered."""
    try:
        ready = bool(web.WebSocketResponse(protocols=protocols).can_prepare(request))
    except ValueError:  # a key of other letters
        ready = False
    if not ready:
        raise InvalidInput("cannot go on as a websocket: the request is no opening handshake (RFC 6455, section 4)")


def response(protocols: Iterable[str] = ()) -> web.WebSocketResponse:
    """A websocket to answer with, in one of `protocols` if the client has asked for one."""
    return web.WebSocketResponse(max_msg_size=MAX_MESSAGE, compress=False, timeout=CLOSE_S, protocols=protocols)


async def serve(request: web.Request, upgrade: Upgrade) -> web.StreamResponse:
    """Carry `upgrade.session` over a websocket to its end. The session is let go whatever happens."""
    socket = response()
    try:
        await socket.prepare(request)
        async with heard(request, socket, upgrade.framing) as client:
            await attend(client, upgrade.session, stdin=True)
    finally:
        await upgrade.session.detach()
    return socket


class SocketClient:
    """The client's end of a websocket: see carry.Client. `failed`: with what the websocket is closed then."""

    def __init__(
        self, request: web.Request, socket: web.WebSocketResponse, framing: Framing, failed: int | None = None
    ) -> None:
        self._request, self._socket, self._framing, self._failed = request, socket, framing, failed
        self._inbox = Inbox(self._taken)
        self._room = asyncio.Event()
        self._listening = asyncio.create_task(self._listen())

    async def deafen(self) -> None:
        """Hear nothing more. It comes before the last words: while one task reads, aiohttp has another that closes the
        websocket not wait for the client's answer, which finds nobody then."""
        self._listening.cancel()
        await asyncio.wait([self._listening])

    async def _listen(self) -> None:
        """Hear the client until it is gone. Pings are answered meanwhile, up to a window of words that nobody takes."""
        try:
            async for message in self._socket:
                if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                    break
                data = message.data.encode() if message.type is WSMsgType.TEXT else message.data
                for word in self._framing.read(data):
                    self._inbox.put(word)
                await self._hold()
        except InvalidInput as e:
            self._inbox.end(e)
        finally:
            self._inbox.end(Vanished())

    async def begin(self, session: Session) -> None:
        if words := self._framing.begin(session):
            await self._socket.send_bytes(words)

    async def output(self, stream: Literal[1, 2], data: bytes) -> None:
        await self._socket.send_bytes(self._framing.output(stream, data))

    async def next_stdin(self) -> bytes | None:
        return await self._inbox.next_stdin()

    async def next_control(self) -> Control:
        return await self._inbox.next_control()

    async def end(self, status: int, reason: str) -> None:
        await self.deafen()
        await say(self._socket, self._framing.end(status, reason), WSCloseCode.OK)

    async def fail(self, error: HyperError) -> None:
        task = asyncio.current_task()
        await self.deafen()
        usual = WSCloseCode.GOING_AWAY if task and task.cancelling() else WSCloseCode.INTERNAL_ERROR
        await say(self._socket, self._framing.error(error), usual if self._failed is None else self._failed)

    async def _hold(self) -> None:
        """Wait while too much waits; and look whether the client is still there, for nobody tells."""
        while self._inbox.waiting > WINDOW:
            self._room.clear()
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._room.wait()
            except TimeoutError:
                transport = self._request.transport
                if transport is None or gone(transport):
                    self._inbox.end(Vanished())
                    return

    def _taken(self, size: int) -> None:
        if self._inbox.waiting <= WINDOW // 2:
            self._room.set()


@asynccontextmanager
async def heard(
    request: web.Request, socket: web.WebSocketResponse, framing: Framing, *, failed: int | None = None
) -> AsyncIterator[SocketClient]:
    """The client of a websocket that was opened, for the block; then it is closed."""
    client = SocketClient(request, socket, framing, failed)
    try:
        yield client
    finally:
        await client.deafen()
        await say(socket, b"", WSCloseCode.OK)


async def say(socket: web.WebSocketResponse, words: bytes, code: int) -> None:
    """The last words, for a client that is there. A websocket that was closed stays as it is."""
    if socket.closed:
        return
    try:
        async with asyncio.timeout(CLOSE_S):
            if words:
                await socket.send_bytes(words)
            await socket.close(code=code)
    except (ConnectionError, TimeoutError, RuntimeError):
        pass
