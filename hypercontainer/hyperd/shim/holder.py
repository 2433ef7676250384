"""Outputs of a task that is being made, kept open by its shim: whoever reads a fifo takes the death of its last writer
for the end, and that may be ours."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hypercontainer.errors import Unavailable
from hypercontainer.lib import ttrpc

HOLD = 4  # a kind of frame: see docs/shim.md
ANSWER_S = 10.0


class Holder:
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        """`writer` leads to the shim."""
        self._writer = writer
        self._asked: deque[asyncio.Future[None]] = deque()
        self._users = 0

    @asynccontextmanager
    async def held(self, *paths: str) -> AsyncIterator[None]:
        """For the block, and beyond our death until a hyperd after us says otherwise. Unavailable when the shim does
        not answer."""
        fifos = [path for path in paths if path and "://" not in path]
        self._users += 1
        try:
            if fifos:
                await self._ask(b"".join(path.encode() + b"\0" for path in fifos))
            yield
        finally:
            self._users -= 1
            if fifos and not self._users:
                self._say(b"")

    async def _ask(self, message: bytes) -> None:
        asked = self._say(message)
        try:
            async with asyncio.timeout(ANSWER_S):
                await asked
        except TimeoutError as e:
            raise Unavailable("the shim does not answer: it keeps no output open") from e

    def _say(self, message: bytes) -> "asyncio.Future[None]":
        asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        self._writer.write(ttrpc.Frame(0, HOLD, 0, message).encode())
        return asked

    def answered(self) -> None:
        """The shim has done what it was asked first of all that it has not answered."""
        if self._asked and not (asked := self._asked.popleft()).done():
            asked.set_result(None)
