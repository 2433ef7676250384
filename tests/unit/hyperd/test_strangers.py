"""Those who ask nothing, half of something, or what is no HTTP."""
# ruff: noqa: E501

import asyncio
import json
import re
import select
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web

from hypercontainer.client.http import Client
from hypercontainer.hyperd.docker.dialect import Docker
from hypercontainer.hyperd.http.dialect import Dialect
from hypercontainer.hyperd.http.dispatch import Dispatcher
from hypercontainer.hyperd.http.principal import local
from hypercontainer.hyperd.rest.dialect import Rest
from hypercontainer.model import documents as doc
from hypercontainer.model.principal import Role
from tests.unit.hyperd.conftest import Server
from tests.unit.hyperd.docker.documents import CONTAINER
from tests.unit.hyperd.fake import EVENT, FakeEngine, FakeSession


async def until(true: Callable[[], object]) -> None:
    while not true():  # noqa: ASYNC110  of what tells nobody
        await asyncio.sleep(0)


def coming_to(server: Server) -> asyncio.Queue[doc.Event]:
    """Where events come from that its callers wait for."""
    told: asyncio.Queue[doc.Event] = asyncio.Queue()

    async def events(*_: object) -> AsyncIterator[doc.Event]:
        async def coming() -> AsyncIterator[doc.Event]:
            while True:
                yield await told.get()

        return coming()

    server.engine.answers["system.events"] = events
    return told


async def test_half_a_question_is_not_waited_for(tmp_path: Path) -> None:
    """Nor one that is never asked; a client that asks on gets its answer however long it pauses."""
    dispatcher = Dispatcher(FakeEngine(), Rest(), local(Role.ADMIN))
    runner = dispatcher.runner(idle_s=0.05)
    await runner.setup()
    path = tmp_path / "hyper.sock"
    await web.UnixSite(runner, path).start()
    for sent in (
        b"",
        b"GET /v1/ping HTT",
        b"GET /v1/ping HTTP/1.1\r\nHost: a\r\nX: ",
        b"GET /v1/ping HTTP/1.1\r\nHost: a\r\n\r\nGET /",
    ):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(sent)
        answer = await reader.read()  # up to its end: hyperd closed it
        assert answer.count(b"200 OK") == sent.count(b"\r\n\r\n")
        writer.close()
    with Client(str(path)) as client:
        for _ in range(2):
            assert (await asyncio.to_thread(client.get, "/v1/ping"))["Ok"]
            connection = client._connection
            assert connection
            await asyncio.to_thread(select.select, [connection.socket], [], [])  # its end
            await asyncio.to_thread(client.post, "/v1/containers/c/start")
    await runner.cleanup()


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 tls\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"GET /v1/ping HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"GET /v1/ping HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/containers HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnot hexadecimal\r\n",
    ],
)  # fmt: skip
async def test_what_is_no_http_leaves_a_line_and_no_traceback(
    server: Server, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    caplog.set_level("INFO")
    reader, writer = await asyncio.open_unix_connection(server.path)
    writer.write(sent)
    answer = await reader.read()
    writer.close()
    assert answer.split(b" ")[1] == b"400"
    assert [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"] == []
    assert len(caplog.records) <= 1


async def test_who_leaves_before_the_answer_leaves_no_traceback(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    coming_to(server)
    _, writer = await asyncio.open_unix_connection(server.path)
    writer.write(b"GET /v1/events HTTP/1.1\r\nHost: a\r\n\r\n")
    await until(lambda: server.dispatcher.lasting)
    writer.close()
    await until(lambda: not server.dispatcher.lasting)
    assert [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"] == []


@pytest.mark.parametrize("asked", ["GET", "POST GET GET"])
async def test_who_says_no_more_is_answered(server: Server, asked: str) -> None:
    """As by Go's server: `nc -N` and socat shut their half down behind the last request."""
    what = {"GET": "GET /v1/ping", "POST": "POST /v1/containers/c/start"}
    reader, writer = await asyncio.open_unix_connection(server.path)
    for word in asked.split():
        writer.write(f"{what[word]} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode())
    writer.write_eof()
    assert (await reader.read()).count(b"HTTP/1.1 20") == len(asked.split())  # and then it is closed
    writer.close()


async def test_who_says_no_more_has_what_lasts_until_it_goes(server: Server) -> None:
    told = coming_to(server)
    reader, writer = await asyncio.open_unix_connection(server.path)
    writer.write(b"GET /v1/events HTTP/1.1\r\nHost: a\r\n\r\n")
    writer.write_eof()
    await until(lambda: server.dispatcher.lasting)
    told.put_nowait(EVENT)
    assert b"start" in await reader.readuntil(b"}\n")
    writer.close()
    await until(lambda: not server.dispatcher.lasting)


@pytest.mark.parametrize("body", [b"Content-Length: 9\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n1\r\n{"])
@pytest.mark.parametrize(
    ("call", "status"),
    [
        (b"POST /v1/containers HTTP/1.1\r\nContent-Type: application/json", b"400"),
        (b"PUT /v1/containers/web/archive?path=/ HTTP/1.1\r\nContent-Type: application/x-tar", b"400"),
        (b"POST /v1/images/load HTTP/1.1\r\nContent-Type: application/x-tar", b"200"),  # it had begun to answer
    ],
)
async def test_who_says_no_more_in_the_middle_is_refused(
    server: Server, caplog: pytest.LogCaptureFixture, call: bytes, status: bytes, body: bytes
) -> None:
    reader, writer = await asyncio.open_unix_connection(server.path)
    writer.write(call + b"\r\nHost: a\r\n" + body)
    writer.write_eof()
    answer = await reader.read()
    assert (answer.split(b" ")[1], b"cannot read the body: it ends before its end" in answer) == (status, True), answer
    writer.close()
    assert [record for record in caplog.records if record.exc_info] == []


async def test_who_says_no_more_before_a_stream_has_ended_stdin(tmp_path: Path) -> None:
    engine = FakeEngine()
    engine.answers["containers.inspect"] = CONTAINER
    session = engine.session = FakeSession()
    runner = Dispatcher(engine, Docker(), local(Role.ADMIN)).runner()
    await runner.setup()
    await web.UnixSite(runner, path := tmp_path / "docker.sock").start()
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"POST /containers/web/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: a\r\n\r\n")
    writer.write_eof()
    await session.stdin_closed.wait()
    await session.say(b"out")
    await session.end()
    assert (await reader.read()).endswith(b"out")
    writer.close()
    await runner.cleanup()


@pytest.mark.parametrize("dialect", [Rest(), Docker()])
async def test_what_is_no_utf8_is_shown_escaped(tmp_path: Path, dialect: Dialect) -> None:
    """Names in paths and values of headers are bytes of a caller's, and stand in what is said of them."""
    runner = Dispatcher(FakeEngine(), dialect, local(Role.ADMIN)).runner()
    await runner.setup()
    path = tmp_path / "hyper.sock"
    await web.UnixSite(runner, path).start()
    for sent in (
        b"GET /v1/containers/%9e HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /auth HTTP/1.1\r\nHost: a\r\nContent-Type: \x9e\r\nContent-Length: 2\r\n\r\n{}",
    ):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.split(b" ")[1] in (b"400", b"404"), (sent, head)
        size = int(re.findall(rb"Content-Length: (\d+)", head)[0])
        assert json.loads(await reader.readexactly(size))["message"]
        writer.close()
    await runner.cleanup()
