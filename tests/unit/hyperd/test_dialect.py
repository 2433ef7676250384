"""Another dialect than ours: what serves both knows neither.

Docker's API is the pattern of this small one: errors are `message` alone, unknown parameters do not matter, nothing to
say is 200, streams are raw bytes, and their end of file is the end of stdin.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec
import pytest
from aiohttp import web

from hypercontainer.errors import HyperError, NotFound, Unavailable
from hypercontainer.hyperd.http.call import Call, Lines, Raw, Route, Upgrade
from hypercontainer.hyperd.http.dispatch import Dispatcher
from hypercontainer.hyperd.http.framing import Word
from hypercontainer.hyperd.http.principal import local
from hypercontainer.model.api import Session
from hypercontainer.model.documents import Event
from hypercontainer.model.principal import Role
from tests.unit.hyperd.fake import FakeEngine

T = TypeVar("T")


class All(msgspec.Struct):
    all: bool = False


class RawBytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: raw\r\n\r\n"
    head_alone = False
    half_closes = True

    def read(self, data: bytes) -> Iterator[Word]:
        yield data

    def begin(self, session: Session) -> bytes:
        return b""

    def output(self, stream: int, data: bytes) -> bytes:
        return data

    def end(self, status: int, reason: str) -> bytes:
        return b""

    def error(self, error: HyperError) -> bytes:
        return f"failed: {error}".encode()


async def entries(call: Call[All, None]) -> object:
    return await call.engine.containers.list(all=call.query.all, filters={})


async def start(call: Call[All, None]) -> None:
    await call.engine.containers.start(call.name("c"))


async def attach(call: Call[All, None]) -> Upgrade:
    session = await call.engine.containers.attach(
        call.name("c"), stdin=True, stdout=True, stderr=True, logs=False, start=False
    )
    return Upgrade(session, RawBytes(), stdin=True)


async def events(call: Call[All, None]) -> AsyncGenerator[Event, None]:
    return await call.engine.system.events(None, None, {})


class Small:
    routes = (
        Route(method="GET", path="/list", handler=entries, query=All, answer=list[Any], summary="", access=Role.USER),
        Route(method="POST", path="/{c}/start", handler=start, query=All, summary="", access=Role.USER),
        Route(
            method="POST",
            path="/{c}/attach",
            handler=attach,
            query=All,
            answer=Raw.STREAM,
            summary="",
            access=Role.USER,
        ),
        Route(
            method="GET", path="/events", handler=events, query=All, answer=Lines(Event), summary="", access=Role.USER
        ),
    )
    nothing = 200
    headers: Mapping[str, str] = {"Api": "small"}
    lines = "application/json"

    def query(self, pairs: Iterable[tuple[str, str]], kind: type[T]) -> T:
        return msgspec.convert(dict(pairs), kind, strict=False)

    def body(self, data: bytes, kind: type[T], media_type: str) -> T:
        return msgspec.json.decode(data, type=kind)

    def status(self, error: HyperError) -> int:
        return 404 if isinstance(error, NotFound) else 500

    def document(self, error: HyperError) -> object:
        return {"message": str(error)}

    def last_line(self, error: HyperError) -> object:
        return {"errorDetail": {"message": str(error)}}


class Server:
    def __init__(self, engine: FakeEngine, path: Path, http: aiohttp.ClientSession) -> None:
        self.engine, self.path, self.http = engine, path, http

    async def ask(self, method: str, target: str) -> tuple[int, bytes]:
        async with self.http.request(method, f"http://hyper{target}") as response:
            return response.status, await response.read()

    async def attach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(self.path)
        writer.write(b"POST /web/attach HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == RawBytes.head
        return reader, writer


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[Server]:
    engine, path = FakeEngine(), tmp_path / "small.sock"
    dispatcher = Dispatcher(engine, Small(), local(Role.ADMIN))
    runner = dispatcher.runner()
    await runner.setup()
    await web.UnixSite(runner, path).start()
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as http:
        yield Server(engine, path, http)
    await dispatcher.stop(timeout_s=1)
    await runner.cleanup()


async def test_what_it_does_not_know_it_passes_over(small: Server) -> None:
    assert await small.ask("GET", "/list?all=1&all=1&what=ever") == (200, b"[]")
    assert small.engine.calls[-1][2]["all"] is True


async def test_nothing_to_say(small: Server) -> None:
    assert await small.ask("POST", "/web/start") == (200, b"")


async def test_errors_are_its_own_wherever_they_come_from(small: Server) -> None:
    small.engine.answers["containers.start"] = NotFound("container", "web")
    assert await small.ask("POST", "/web/start") == (404, b'{"message":"no such container: web"}')
    assert await small.ask("GET", "/v1/containers") == (404, b'{"message":"no such call: GET /v1/containers"}')
    assert (await small.ask("PUT", "/list"))[0] == 405
    small.engine.answers["containers.start"] = ValueError("secret")
    status, document = await small.ask("POST", "/web/start")
    assert (status, b"secret" in document, set(msgspec.json.decode(document))) == (500, False, {"message"})


async def test_lines_end_in_its_own_last_words(small: Server) -> None:
    async def broken(*_: object) -> AsyncGenerator[Event, None]:
        async def run() -> AsyncGenerator[Event, None]:
            raise Unavailable("the store is gone")
            yield

        return run()

    small.engine.answers["system.events"] = broken
    async with small.http.get("http://hyper/events") as response:
        assert response.content_type == "application/json"
        assert await response.json() == {"errorDetail": {"message": "the store is gone"}}


async def test_the_end_of_file_is_that_of_stdin(small: Server) -> None:
    reader, writer = await small.attach()
    writer.write(b"all of it")
    writer.write_eof()
    session = small.engine.session
    assert session
    await session.stdin_closed.wait()
    assert session.stdin == b"all of it"
    await session.say(b"answer", 2)
    await session.end(3)
    assert await reader.read() == b"answer"
    writer.close()


async def test_a_client_that_goes_after_its_end_of_file_is_noticed(small: Server) -> None:
    _, writer = await small.attach()
    writer.write_eof()
    session = small.engine.session
    assert session
    await session.stdin_closed.wait()
    assert not session.detached.is_set()
    writer.close()
    await session.detached.wait()


async def test_a_session_that_fails(small: Server) -> None:
    reader, writer = await small.attach()
    session = small.engine.session
    assert session
    await session.output.put(Unavailable("the guest is gone"))
    assert await reader.read() == b"failed: the guest is gone"
    writer.close()
