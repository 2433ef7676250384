"""Sessions over a websocket: each of its messages is a piece of a stream, whatever its length and its kind."""

import asyncio

from aiohttp import WSCloseCode, WSMsgType, web

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.http.call import Upgrade
from hypercontainer.hyperd.http.errors import ours
from hypercontainer.hyperd.http.framing import Detach, Framing
from hypercontainer.model.api import Session

MAX_MESSAGE = 1 << 20
CLOSE_S = 1.0  # for the client's word that it has heard of the end


class _Left(Exception):
    """The client has gone, or has said that it goes."""


def check(request: web.Request) -> None:
    """InvalidInput for a request that asks for no websocket, or in no way that can be answered."""
    try:
        ready = bool(web.WebSocketResponse().can_prepare(request))
    except ValueError:  # a key of other letters
        ready = False
    if not ready:
        raise InvalidInput("cannot go on as a websocket: the request is no opening handshake (RFC 6455, section 4)")


async def serve(request: web.Request, upgrade: Upgrade) -> web.StreamResponse:
    """Carry `upgrade.session` over a websocket to its end. The session is let go whatever happens."""
    session, framing = upgrade.session, upgrade.framing
    socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, compress=False, timeout=CLOSE_S)
    try:
        await socket.prepare(request)
        try:
            last, code = await _carry(socket, session, framing), WSCloseCode.OK
        except asyncio.CancelledError as e:
            await _say(socket, framing.error(ours(e)), WSCloseCode.GOING_AWAY)
            raise
        except BaseExceptionGroup as e:
            left = e.subgroup((_Left, ConnectionError))
            last, code = (b"", WSCloseCode.OK) if left else (framing.error(ours(_first(e))), WSCloseCode.INTERNAL_ERROR)
        await _say(socket, last, code)
    finally:
        await session.detach()
    return socket


async def _carry(socket: web.WebSocketResponse, session: Session, framing: Framing) -> bytes:
    """Run both pumps to the end of the process; the last words to send."""
    async with asyncio.TaskGroup() as group:
        listening = group.create_task(_listen(socket, session, framing))
        async for stream, data in session:
            await socket.send_bytes(framing.output(stream, data))
        status = await session.wait()
        listening.cancel()
    return framing.end(status, session.reason)


async def _listen(socket: web.WebSocketResponse, session: Session, framing: Framing) -> None:
    """Client to stdin. A process that reads no more loses the rest, as it would behind a pipe."""
    listening = True
    async for message in socket:
        if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
            break
        data = message.data.encode() if message.type is WSMsgType.TEXT else message.data
        for word in framing.read(data):
            if isinstance(word, Detach):
                raise _Left
            try:
                if listening and isinstance(word, bytes):
                    await session.write(word)
            except BrokenPipeError:
                listening = False
    raise _Left


async def _say(socket: web.WebSocketResponse, words: bytes, code: int) -> None:
    """The last words, for a client that is there."""
    try:
        async with asyncio.timeout(CLOSE_S):
            if words:
                await socket.send_bytes(words)
            await socket.close(code=code)
    except (ConnectionError, TimeoutError, RuntimeError):
        pass


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
