import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hypercontainer.errors import GuestError
from hypercontainer.hyperd.cri.streaming.forward import Forward
from hypercontainer.hyperd.cri.streaming.remote import Remote
from hypercontainer.hyperd.cri.streaming.server import StreamingServer
from hypercontainer.model.api import Session
from tests.unit.hyperd.fake import FakeSession


class Place:
    """A server of streams, over sessions in memory and sockets whose other ends are here."""

    def __init__(self, server: StreamingServer) -> None:
        self.server = server
        self.session = FakeSession()
        self.failure: Exception | None = None
        self.started = asyncio.Event()
        self.sockets: asyncio.Queue[tuple[int, socket.socket]] = asyncio.Queue()

    async def _start(self) -> Session:
        if self.failure:
            raise self.failure
        self.started.set()
        return self.session

    def remote(self, verb: str = "exec", **streams: bool) -> str:
        wanted: dict[str, Any] = {"stdin": False, "stdout": True, "stderr": True, "tty": False, **streams}
        return self.server.remote(Remote(verb=verb, start=self._start, **wanted))

    async def _connect(self, port: int) -> socket.socket:
        if port == 81:
            raise GuestError("cannot connect to port 81: Connection refused")
        ours, theirs = socket.socketpair()
        for each in (ours, theirs):
            each.setblocking(False)
        await self.sockets.put((port, theirs))
        return ours

    def forward(self, *ports: int) -> str:
        return self.server.forward(Forward(connect=self._connect, ports=ports))


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    server = StreamingServer("tcp://127.0.0.1:0")
    await server.open()
    yield Place(server)
    await server.close()
