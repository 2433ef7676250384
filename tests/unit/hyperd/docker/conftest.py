import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from hypercontainer.hyperd.docker.dialect import Docker
from hypercontainer.hyperd.http.dispatch import Dispatcher
from hypercontainer.hyperd.http.principal import local
from hypercontainer.model.principal import Role
from tests.unit.hyperd.docker.documents import CONTAINER, IMAGE
from tests.unit.hyperd.fake import FakeEngine


class Server:
    """docker's API over a fake engine, on a unix socket."""

    def __init__(self, engine: FakeEngine, dispatcher: Dispatcher, path: Path, http: aiohttp.ClientSession) -> None:
        self.engine, self.dispatcher, self.path, self.http = engine, dispatcher, path, http

    async def ask(self, method: str, target: str, **named: object) -> tuple[int, object]:
        """Status and document (None without a body) of a call."""
        async with self.http.request(method, f"http://docker{target}", **named) as response:  # type: ignore[arg-type]
            data = await response.read()
            return response.status, (await response.json(content_type=None) if data else None)

    async def hijack(
        self, target: str, body: bytes = b"", *, upgrade: bool = True
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
        """A connection that has been taken over, and the head of the answer."""
        reader, writer = await asyncio.open_unix_connection(self.path)
        words = [f"POST {target} HTTP/1.1", "Host: docker", f"Content-Length: {len(body)}"]
        words += ["Content-Type: application/json"] if body else []
        words += ["Connection: Upgrade", "Upgrade: tcp"] if upgrade else []
        writer.write("\r\n".join([*words, "", ""]).encode() + body)
        return reader, writer, (await reader.readuntil(b"\r\n\r\n")).decode()


def message(answer: tuple[int, object]) -> tuple[int, str]:
    """Status and text of a refusal."""
    status, document = answer
    assert isinstance(document, dict) and set(document) == {"message"}
    return status, document["message"]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    engine = FakeEngine()
    engine.answers |= {"containers.inspect": CONTAINER, "images.inspect": IMAGE}
    dispatcher = Dispatcher(engine, Docker(), local(Role.ADMIN))
    runner = dispatcher.runner()
    await runner.setup()
    path = tmp_path / "docker.sock"
    await web.UnixSite(runner, path).start()
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as http:
        yield Server(engine, dispatcher, path, http)
    await dispatcher.stop(timeout_s=1)
    await runner.cleanup()
