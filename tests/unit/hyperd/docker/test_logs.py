"""What a container wrote."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from msgspec.structs import replace

from hypercontainer.hyperd.docker import logs
from hypercontainer.hyperd.docker.streams import frame
from hypercontainer.lib import clock
from hypercontainer.model import documents as doc
from tests.unit.hyperd.docker.conftest import Server, message
from tests.unit.hyperd.docker.documents import CONTAINER
from tests.unit.hyperd.fake import some


async def test_logs_come_in_frames(server: Server) -> None:
    async with server.http.get("http://docker/containers/web/logs?stdout=1&stderr=1&until=0") as response:
        assert response.content_type == "application/vnd.docker.multiplexed-stream"
        assert await response.read() == frame(1, b"hello\n") + frame(2, b"\xff")
    assert server.engine.calls[-1][2]["until_ns"] is None
    assert message(await server.ask("GET", "/containers/web/logs"))[0] == 400


async def test_no_frame_has_more_than_a_line(server: Server) -> None:
    """Clients that follow a log take each for one."""

    async def tell(*_: object, **__: object) -> AsyncGenerator[doc.LogEntry, None]:
        return some(doc.LogEntry(stream=1, time_ns=1, data=b"a\nb\nc"))

    server.engine.answers["containers.logs"] = tell
    async with server.http.get("http://docker/containers/web/logs?stdout=1") as response:
        assert await response.read() == frame(1, b"a\n") + frame(1, b"b\n") + frame(1, b"c")


@pytest.mark.parametrize(("age_s", "read"), [(0, frame(1, b"words")), (2000, b"")])
async def test_the_first_words_are_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch, age_s: int, read: bytes
) -> None:
    """A start is answered before a short program has said anything, and clients read its log at once."""
    monkeypatch.setattr(logs, "FIRST_WORDS_S", 1000.0)
    began = clock.rfc3339(clock.now_ns() - age_s * 1_000_000_000)
    young = replace(CONTAINER, state=replace(CONTAINER.state, started_at=began))
    server.engine.answers["containers.inspect"] = young
    said: list[doc.LogEntry] = []

    async def tell(*_: object, follow: bool, **__: object) -> AsyncGenerator[doc.LogEntry, None]:
        async def entries() -> AsyncGenerator[doc.LogEntry, None]:
            if follow:
                said.append(doc.LogEntry(stream=1, time_ns=1, data=b"words"))
            for each in said:
                yield each

        return entries()

    server.engine.answers["containers.logs"] = tell
    async with server.http.get("http://docker/containers/web/logs?stdout=1") as response:
        assert await response.read() == read


async def test_the_head_of_a_log_comes_before_its_first_line(server: Server) -> None:
    written = asyncio.Event()

    async def tell(*_: object, **__: object) -> AsyncGenerator[doc.LogEntry, None]:
        async def entries() -> AsyncGenerator[doc.LogEntry, None]:
            await written.wait()
            yield doc.LogEntry(stream=1, time_ns=1, data=b"late")

        return entries()

    server.engine.answers["containers.logs"] = tell
    async with server.http.get("http://docker/containers/web/logs?stdout=1&follow=1") as response:
        written.set()
        assert await response.read() == frame(1, b"late")
