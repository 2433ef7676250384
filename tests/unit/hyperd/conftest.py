import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from hypercontainer.hyperd.http.dispatch import Dispatcher
from hypercontainer.hyperd.http.principal import local
from hypercontainer.hyperd.rest.dialect import Rest
from hypercontainer.model.principal import Role
from tests.unit.hyperd.fake import FakeEngine
from tests.unit.hyperd.raw import Raw


class Server:
    """hyperd's HTTP side over a fake engine, on a unix socket."""

    def __init__(self, engine: FakeEngine, dispatcher: Dispatcher, path: Path, http: aiohttp.ClientSession) -> None:
        self.engine, self.dispatcher, self.path, self.http = engine, dispatcher, path, http

    async def ask(self, method: str, target: str, **named: object) -> tuple[int, object]:
        """Status and JSON document (None for 204) of a call."""
        async with self.http.request(method, f"http://hyper{target}", **named) as response:  # type: ignore[arg-type]
            return response.status, (None if response.status == 204 else await response.json(content_type=None))

    async def upgrade(self, target: str, body: bytes = b"") -> Raw:
        raw = Raw(*await asyncio.open_unix_connection(self.path))
        await raw.request("POST", target, body, upgrade=True)
        return raw


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    engine = FakeEngine()
    dispatcher = Dispatcher(engine, Rest(), local(Role.ADMIN))
    runner = dispatcher.runner()
    await runner.setup()
    path = tmp_path / "hyper.sock"
    await web.UnixSite(runner, path).start()
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as http:
        yield Server(engine, dispatcher, path, http)
    await dispatcher.stop(timeout_s=1)
    await runner.cleanup()
