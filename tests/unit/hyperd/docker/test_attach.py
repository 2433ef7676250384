"""Clients at the streams of a container."""

import asyncio
import socket

from hypercontainer.hyperd.docker.streams import frame
from tests.unit.hyperd.docker.conftest import Server
from tests.unit.hyperd.docker.documents import TERMINAL
from tests.unit.hyperd.fake import FakeSession


async def test_an_attached_client(server: Server) -> None:
    reader, writer, head = await server.hijack("/v1.51/containers/web/attach?stream=1&stdin=1&stdout=1&stderr=1")
    assert head.startswith("HTTP/1.1 101 UPGRADED") and "docker.multiplexed-stream" in head
    session = server.engine.session
    assert session
    writer.write(b"all of it")
    writer.write_eof()
    await session.stdin_closed.wait()
    assert session.stdin == b"all of it"
    await session.say(b"answer", 2)
    await session.end(3)
    assert await reader.read() == frame(2, b"answer")
    writer.close()


async def test_a_client_without_an_upgrade_has_the_stream_all_the_same(server: Server) -> None:
    reader, writer, head = await server.hijack("/containers/web/attach?stream=1&stdout=1", b"{}", upgrade=False)
    assert head.startswith("HTTP/1.1 200 OK")
    session = server.engine.session
    assert session
    writer.write_eof()
    await session.say(b"out")
    await session.end()
    assert await reader.read() == frame(1, b"out")
    assert not session.stdin
    writer.close()


async def test_a_terminal_outlives_its_client_s_input(server: Server) -> None:
    server.engine.answers["containers.inspect"] = TERMINAL
    reader, writer, head = await server.hijack("/containers/web/attach?stream=1&stdin=1&stdout=1")
    assert "docker.raw-stream" in head
    session = server.engine.session
    assert session
    writer.write(b"ls\n\x10\x11")
    assert await reader.read() == b""
    await session.detached.wait()
    assert (bytes(session.stdin), session.stdin_closed.is_set()) == (b"ls\n", False)
    writer.close()


async def test_stdin_ends_with_the_client_that_it_is_for(server: Server) -> None:
    _, writer, _ = await server.hijack("/containers/web/attach?stream=1&stdin=1&stdout=1")
    session = server.engine.session
    assert session
    writer.close()
    await session.stdin_closed.wait()


async def test_what_was_written_and_no_more(server: Server) -> None:
    reader, writer, _ = await server.hijack("/containers/web/attach?logs=1&stdout=1&stderr=1")
    assert await reader.read() == frame(1, b"hello\n") + frame(2, b"\xff")
    writer.close()
    assert server.engine.session is None


async def test_nothing_follows_the_head_before_it_is_read(server: Server) -> None:
    """docker-py reads the head with a buffer, which it throws away with whatever else is in it."""
    session = server.engine.session = FakeSession()
    await session.say(b"at once")
    await session.end()
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        await loop.sock_connect(client, str(server.path))
        request = b"POST /containers/web/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\n"
        await loop.sock_sendall(client, request + b"Upgrade: tcp\r\n\r\n")
        for _ in range(1000):
            await asyncio.sleep(0)
        assert (await loop.sock_recv(client, 65536)).endswith(b"\r\n\r\n")
        assert await loop.sock_recv(client, 65536) == frame(1, b"at once")
