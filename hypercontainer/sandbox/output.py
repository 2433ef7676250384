"""A container's output on its way out: guest -> log -> whoever is attached. Acknowledged only when all have it."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import Literal

from hypercontainer.agent.streams import OutputStream
from hypercontainer.lib import clock
from hypercontainer.sandbox.log import Log

log = logging.getLogger(__name__)

BACKLOG = 8  # chunks (of 256 KiB at most) that an attached client may lag before the container's output waits
RETRY_S = 1.0  # while the log's disk is full


Piece = tuple[Literal[1, 2], bytes]


class Listener:
    """One attached client. Iterate it for (1|2, bytes); it ends when the run has ended."""

    def __init__(self, streams: set[int]) -> None:
        self.streams = streams
        self._chunks: deque[Piece | None] = deque()
        self._some, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()
        self._left = self._last_words = False

    async def put(self, chunk: Piece | None) -> None:
        """Hand over a chunk, waiting while the client is behind; one that left takes everything."""
        if chunk and chunk[0] not in self.streams:
            return
        await self._room.wait()
        if self._left:
            return
        self._chunks.append(chunk)
        self._some.set()
        if len(self._chunks) >= BACKLOG and not self._last_words:
            self._room.clear()

    def expect_last_words(self) -> None:
        """The process has ended: what is still to come is bounded by the window, so a slow client stalls it no more."""
        self._last_words = True
        self._room.set()

    def leave(self) -> None:
        self._left = True
        self._chunks.clear()
        self._chunks.append(None)
        self._some.set()
        self._room.set()

    async def __aiter__(self) -> AsyncIterator[Piece]:
        while True:
            while not self._chunks:
                self._some.clear()
                await self._some.wait()
            chunk = self._chunks.popleft()
            if not self._left and len(self._chunks) < BACKLOG:
                self._room.set()
            if chunk is None:
                return
            yield chunk


class Output:
    """The output of one container, over all its runs. `progress` is notified after each chunk in the log."""

    def __init__(self, log_: Log) -> None:
        self.log = log_
        self.listeners: set[Listener] = set()
        self.progress = asyncio.Condition()
        self.stalled = False  # by the log's disk
        self._pumps: list[asyncio.Task[None]] = []

    def listen(self, streams: set[int]) -> Listener:
        listener = Listener(streams)
        self.listeners.add(listener)
        return listener

    def forget(self, listener: Listener) -> None:
        self.listeners.discard(listener)
        listener.leave()

    def begin(self, run: int, stdout: OutputStream | None, stderr: OutputStream | None) -> None:
        """Pump this run's streams from now on. They begin where `log.open(run)` said that the log ends."""
        kinds: list[tuple[Literal[1, 2], OutputStream | None]] = [(1, stdout), (2, stderr)]
        self._pumps = [
            asyncio.create_task(self._pump(run, kind, stream), name=f"output-{kind}")
            for kind, stream in kinds
            if stream is not None
        ]

    async def _pump(self, run: int, kind: Literal[1, 2], stream: OutputStream) -> None:
        while data := await stream.read():
            await self._write(run, kind, data)
            for listener in list(self.listeners):
                await listener.put((kind, data))
            stream.consumed(len(data))
            async with self.progress:
                self.progress.notify_all()

    async def _write(self, run: int, kind: int, data: bytes) -> None:
        """Into the log; while its disk is full the container waits, as with any pipe that nobody empties."""
        while True:
            try:
                self.log.append(run, kind, data, clock.now_ns())
                self.stalled = False
                return
            except OSError as e:
                if not self.stalled:
                    log.error("cannot write %s: %s: the container's output waits", self.log.path, e)
                    self.stalled = True
            await asyncio.sleep(RETRY_S)

    async def drained(self) -> None:
        """After the process has ended: wait until its streams have ended and all of them is in the log."""
        for listener in self.listeners:
            listener.expect_last_words()
        if self._pumps:
            await asyncio.wait(self._pumps)  # whoever gives up waiting does not end them

    async def end(self) -> None:
        """The run is over: attached clients read what is left, then their end. Followers of the log are told."""
        for listener in list(self.listeners):
            await listener.put(None)
            self.listeners.discard(listener)
        self.log.close()
        async with self.progress:
            self.progress.notify_all()

    def cut(self) -> None:
        """The guest is gone: no byte will come."""
        for pump in self._pumps:
            pump.cancel()
        self.stalled = False
