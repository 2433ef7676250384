"""What a container wrote."""

import asyncio
from collections.abc import AsyncGenerator

from hypercontainer.hyperd.docker.streams import frame
from hypercontainer.model import documents as doc
from tests.unit.hyperd.docker.conftest import Server, message
from tests.unit.hyperd.fake import some


async def test_logs_come_in_frames(server: Server) -> None:
    async with server.http.get("http://docker/containers/web/logs?stdout=1&stderr=1&until=0") as response:
        assert response.content_type == "application/vnd.docker.multiplexed-stream"
        assert await response.read() == frame(1, b"hello\n") + frame(2, b"\xff")
    assert server.engine.calls[-1][2]["until_ns"] is None
    assert message(await server.ask("GET", "/containers/web/logs"))[0] == 400


async def test_no_frame_has_more_than_a_line(server: Server) -> None:
    """Clients that follow a log take each for one."""

    async def logs(*_: object, **__: object) -> AsyncGenerator[doc.LogEntry, None]:
        return some(doc.LogEntry(stream=1, time_ns=1, data=b"a\nb\nc"))

    server.engine.answers["containers.logs"] = logs
    async with server.http.get("http://docker/containers/web/logs?stdout=1") as response:
        assert await response.read() == frame(1, b"a\n") + frame(1, b"b\n") + frame(1, b"c")


async def test_the_head_of_a_log_comes_before_its_first_line(server: Server) -> None:
    written = asyncio.Event()

    async def logs(*_: object, **__: object) -> AsyncGenerator[doc.LogEntry, None]:
        async def entries() -> AsyncGenerator[doc.LogEntry, None]:
            await written.wait()
            yield doc.LogEntry(stream=1, time_ns=1, data=b"late")

        return entries()

    server.engine.answers["containers.logs"] = logs
    async with server.http.get("http://docker/containers/web/logs?stdout=1&follow=1") as response:
        written.set()
        assert await response.read() == frame(1, b"late")
