"""NDJSON and tars: slow readers, vanished readers, errors half way, bodies with back-pressure."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

import aiohttp
import msgspec
import pytest

from hypercontainer.errors import Unavailable
from hypercontainer.hyperd.rest import streams
from hypercontainer.model import documents as doc
from tests.unit.hyperd.conftest import Server
from tests.unit.hyperd.fake import EVENT, IMAGE, SAMPLE
from tests.unit.hyperd.raw import Raw


class Source:
    """A generator that can be watched."""

    def __init__(self, *items: Any, endless: bool = False) -> None:
        self.items, self.endless = items, endless
        self.given = 0
        self.closed = asyncio.Event()

    async def __call__(self, *_: object, **__: object) -> AsyncGenerator[Any, None]:
        return self._run()

    async def _run(self) -> AsyncGenerator[Any, None]:
        try:
            while True:
                for item in self.items:
                    if isinstance(item, Exception):
                        raise item
                    self.given += 1
                    yield item
                    await asyncio.sleep(0)
                if not self.endless:
                    await asyncio.Event().wait()
        finally:
            self.closed.set()


async def lines(response: aiohttp.ClientResponse) -> list[Any]:
    return [msgspec.json.decode(line) for line in (await response.read()).splitlines()]


async def test_lines_come_as_they_are_made(server: Server) -> None:
    source = server.engine.answers["system.events"] = Source(EVENT)
    async with server.http.get("http://hyper/v1/events") as response:
        assert msgspec.json.decode(await response.content.readline(), type=doc.Event) == EVENT
        assert not source.closed.is_set()
    await source.closed.wait()  # the client left


async def test_headers_come_before_the_first_line(server: Server) -> None:
    server.engine.answers["system.events"] = Source()
    async with server.http.get("http://hyper/v1/events") as response:
        assert response.status == 200


async def test_a_slow_client_stalls_the_source(server: Server) -> None:
    entry = doc.LogEntry(stream=1, time_ns=1, data=b"x" * 4096)
    source = server.engine.answers["containers.logs"] = Source(entry, endless=True)
    raw = Raw(*await asyncio.open_unix_connection(server.path))
    await raw.request("GET", "/v1/containers/web/logs?follow=1")
    raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
    before = -1
    while source.given != before:
        before = source.given
        for _ in range(50):
            await asyncio.sleep(0)
    assert 0 < source.given * 4096 < 4 << 20
    await raw.close()
    await source.closed.wait()


async def test_an_error_half_way_is_the_last_line(server: Server) -> None:
    server.engine.answers["system.events"] = Source(EVENT, Unavailable("the registry is gone"))
    async with server.http.get("http://hyper/v1/events") as response:
        first, last = await lines(response)
    assert first["Action"] == "start"
    assert last == {"error": {"message": "the registry is gone", "kind": "unavailable"}}


async def test_an_error_at_once_has_a_status(server: Server) -> None:
    server.engine.answers["images.pull"] = Unavailable("no route to the registry")
    assert (await server.ask("POST", "/v1/images/pull", json={"name": "x"}))[0] == 503


async def test_a_daemon_that_stops_says_so(server: Server) -> None:
    source = server.engine.answers["system.events"] = Source(EVENT)
    async with server.http.get("http://hyper/v1/events") as response:
        await response.content.readline()
        await server.dispatcher.stop(timeout_s=1)
        last = msgspec.json.decode(await response.content.readline())
    assert last["error"]["kind"] == "unavailable"
    assert source.closed.is_set()
    assert (await server.ask("GET", "/v1/ping"))[0] == 503


async def test_progress_never_stalls_a_load_whose_client_reads_nothing(server: Server) -> None:
    async def load(chunks: AsyncIterator[bytes], platforms: Sequence[str] = ()) -> AsyncGenerator[Any, None]:
        async def run() -> AsyncGenerator[Any, None]:
            async for data in chunks:
                for _ in range(200):
                    yield doc.Progress(id="x" * 50, action="unpack", current=len(data))
            yield doc.ImagesDone(images=[IMAGE])

        return run()

    server.engine.images.load = load  # type: ignore[method-assign]
    raw = Raw(*await asyncio.open_unix_connection(server.path))
    raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await raw.request("POST", "/v1/images/load", b"x" * (64 << 20))  # returns once it has been taken
    raw.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert (await raw.head())[0] == 200
    last = b""
    while not last.endswith(b"\r\n0\r\n\r\n"):
        last = last[-500:] + await raw.reader.read(65536)
    assert b"busybox:latest" in last
    await raw.close()


async def test_a_body_is_read_no_faster_than_the_engine_asks(server: Server) -> None:
    ask = asyncio.Event()

    async def put(c: str, path: str, chunks: AsyncIterator[bytes], **named: Any) -> None:
        await ask.wait()
        async for data in chunks:
            server.engine.received += data

    server.engine.containers.archive_put = put  # type: ignore[method-assign]
    raw = Raw(*await asyncio.open_unix_connection(server.path))
    sending = asyncio.create_task(raw.request("PUT", "/v1/containers/web/archive?path=/", b"x" * (16 << 20)))
    for _ in range(300):
        await asyncio.sleep(0)
    assert not sending.done()
    ask.set()
    await sending
    assert (await raw.head())[0] == 204
    assert len(server.engine.received) == 16 << 20
    await raw.close()


async def test_a_client_that_vanishes_within_its_body_ends_the_call(server: Server) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def put(c: str, path: str, chunks: AsyncIterator[bytes], **named: Any) -> None:
        try:
            async for _ in chunks:
                began.set()
        finally:
            ended.set()

    server.engine.containers.archive_put = put  # type: ignore[method-assign]
    raw = Raw(*await asyncio.open_unix_connection(server.path))
    raw.writer.write(b"PUT /v1/containers/web/archive?path=/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
    await began.wait()
    await raw.close()
    await ended.wait()


async def test_a_tar_that_fails_half_way_does_not_look_whole(server: Server) -> None:
    server.engine.answers["images.save"] = Source(b"first", Unavailable("a layer is gone"))
    async with server.http.get("http://hyper/v1/images/save?name=x") as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientError):
            await response.read()


async def test_a_tar_that_fails_at_once_has_a_status(server: Server) -> None:
    server.engine.answers["containers.archive_get"] = Source(Unavailable("gone"))
    async with server.http.get("http://hyper/v1/containers/web/archive?path=/x") as response:
        assert (response.status, (await response.json())["message"]) == (503, "gone")


async def test_stats_stream_until_the_client_leaves(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SAMPLE_EVERY_S", 0.0)
    async with server.http.get("http://hyper/v1/containers/web/stats?stream=1") as response:
        for _ in range(3):
            assert msgspec.json.decode(await response.content.readline(), type=doc.Stats) == SAMPLE
