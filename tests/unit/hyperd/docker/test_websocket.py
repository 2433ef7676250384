"""A container's streams over a websocket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from msgspec.structs import replace

from hypercontainer.errors import NotFound, Unavailable
from hypercontainer.hyperd.http import websocket
from hypercontainer.model import documents as doc
from tests.unit.hyperd.docker.conftest import Server, message
from tests.unit.hyperd.docker.documents import CONTAINER, TERMINAL
from tests.unit.hyperd.fake import FakeSession, some

HANDSHAKE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ALL = "stream=1&stdin=1&stdout=1&stderr=1"


@asynccontextmanager
async def attached(
    server: Server, query: str = ALL, version: str = ""
) -> AsyncIterator[tuple[aiohttp.ClientWebSocketResponse, FakeSession]]:
    session = server.engine.session = FakeSession()
    async with asyncio.timeout(60):
        async with server.http.ws_connect(f"http://docker{version}/containers/web/attach/ws?{query}") as socket:
            yield socket, session


def open_stdin(server: Server, of: doc.Container = CONTAINER, *, once: bool = False) -> None:
    config = replace(of.config, open_stdin=True, stdin_once=once)
    server.engine.answers["containers.inspect"] = replace(of, config=config)


async def test_output_comes_without_frames(server: Server) -> None:
    open_stdin(server)
    async with attached(server) as (socket, session):
        await session.say(b"out\xff")
        await session.say(b"err", 2)
        assert await socket.receive_bytes() + await socket.receive_bytes() == b"out\xfferr"
        await session.end(3)
        last = await socket.receive()
        assert (last.type, last.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.OK)
    await session.detached.wait()
    name, args, named = server.engine.calls[-1]
    assert (name, args[0]) == ("containers.attach", CONTAINER.id)
    assert (named["stdin"], named["stdout"], named["stderr"]) == (True, True, True)


async def test_what_is_typed_reaches_stdin(server: Server) -> None:
    open_stdin(server)
    async with attached(server) as (socket, session):
        await socket.send_bytes(b"raw\xff")
        await socket.ping()
        await socket.send_str("tëxt")
        await socket.close()
    await session.detached.wait()
    assert bytes(session.stdin) == b"raw\xff" + "tëxt".encode()


@pytest.mark.parametrize(("version", "both"), [("/v1.41", True), ("/v1.42", False)])
async def test_all_streams_were_attached_before_1_42(server: Server, version: str, both: bool) -> None:
    async with attached(server, "stream=1&stdout=1", version) as (_, session):
        await session.end()
    assert server.engine.calls[-1][2]["stderr"] is both


@pytest.mark.parametrize("once", [False, True])
async def test_a_client_that_goes_ends_stdin_of_one_that_takes_one_client_s(server: Server, once: bool) -> None:
    open_stdin(server, once=once)
    async with attached(server) as (socket, session):
        await socket.close()
    await session.detached.wait()
    assert session.stdin_closed.is_set() is once


async def test_detach_keys_of_a_terminal(server: Server) -> None:
    open_stdin(server, TERMINAL)
    async with attached(server, f"{ALL}&detachKeys=ctrl-a") as (socket, session):
        await socket.send_bytes(b"ls\x01")
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
    await session.detached.wait()
    assert bytes(session.stdin) == b"ls"


async def test_a_client_that_reads_nothing_stalls_the_session(server: Server) -> None:
    async with attached(server) as (socket, session):
        chunk, said = bytes(1 << 16), 0
        while said < 1000:
            saying = asyncio.create_task(session.say(chunk))
            for _ in range(20):
                await asyncio.sleep(0)
            if not saying.done():
                break
            said += 1
        assert session.taken < 8 << 20
        _, total = await asyncio.gather(session.end(), read(socket))
        assert total == (said + 1) * len(chunk)


async def read(socket: aiohttp.ClientWebSocketResponse) -> int:
    """How many bytes come until the end."""
    total = 0
    async for piece in socket:
        total += len(piece.data)
    return total


async def test_ten_megabytes_reach_a_slow_reader_whole(server: Server) -> None:
    open_stdin(server)
    async with attached(server) as (socket, session):
        session.reads_stdin.clear()
        data = bytes(range(256)) * 256

        async def send() -> None:
            for _ in range(160):
                await socket.send_bytes(data)
            await socket.close()

        sending = asyncio.create_task(send())
        for _ in range(200):
            await asyncio.sleep(0)
        assert not sending.done()  # it stalls instead of filling our memory
        session.reads_stdin.set()
        await sending
        await session.detached.wait()
        assert bytes(session.stdin) == data * 160


async def test_what_was_written_until_now(server: Server) -> None:
    async def logs(*_: object, **__: object) -> AsyncIterator[doc.LogEntry]:
        return some(doc.LogEntry(stream=1, time_ns=1, data=b"before"))

    server.engine.answers["containers.logs"] = logs
    async with attached(server, "logs=1&stdout=1&stderr=1") as (socket, _):
        assert await socket.receive_bytes() == b"before"
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE


async def test_an_error_is_the_last_message(server: Server) -> None:
    async with attached(server) as (socket, session):
        await session.output.put(Unavailable("the machine is gone"))
        assert await socket.receive_bytes() == b"the machine is gone\r\n"
        last = await socket.receive()
        assert (last.type, last.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.INTERNAL_ERROR)


async def test_an_end_of_hyperd_is_said(server: Server) -> None:
    async with attached(server) as (socket, session):
        await session.say(b"x")
        assert await socket.receive_bytes() == b"x"
        await server.dispatcher.stop(timeout_s=5)
        assert b"hyperd is shutting down" in await socket.receive_bytes()
        last = await socket.receive()
        assert (last.type, last.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.GOING_AWAY)
    assert session.detached.is_set()


async def test_a_message_has_a_bound(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "MAX_MESSAGE", 1000)
    open_stdin(server)
    async with attached(server) as (socket, session):
        await socket.send_bytes(bytes(1001))
        last = await socket.receive()
        assert (last.type, last.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.MESSAGE_TOO_BIG)
    await session.detached.wait()
    assert session.stdin == b""


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Connection": "Upgrade", "Upgrade": "tcp"},
        {**HANDSHAKE},
        {**HANDSHAKE, "Sec-WebSocket-Key": "short"},
        {**HANDSHAKE, "Sec-WebSocket-Key": "é"},
        {**HANDSHAKE, "Sec-WebSocket-Version": "99", "Sec-WebSocket-Key": KEY},
    ],
)
async def test_what_is_no_handshake_attaches_nobody(server: Server, headers: dict[str, str]) -> None:
    status, words = message(await server.ask("GET", f"/containers/web/attach/ws?{ALL}", headers=headers))
    assert (status, words.startswith("cannot go on as a websocket")) == (400, True)
    assert "containers.attach" not in [name for name, *_ in server.engine.calls]


async def test_a_container_that_there_is_not_has_a_status(server: Server) -> None:
    server.engine.answers["containers.inspect"] = NotFound("container", "web")
    headers = {**HANDSHAKE, "Sec-WebSocket-Key": KEY}
    assert message(await server.ask("GET", "/containers/web/attach/ws", headers=headers)) == (
        404,
        "No such container: web",
    )
