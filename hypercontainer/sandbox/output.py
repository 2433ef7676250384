"""A container's output on its way out: guest -> its sinks. Acknowledged only when all have it."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import Literal

from hypercontainer.agent.streams import OutputStream
from hypercontainer.lib import clock
from hypercontainer.sandbox.log import Log
from hypercontainer.sandbox.sink import Offsets, Sink

log = logging.getLogger(__name__)

BACKLOG = 8  # chunks (of 256 KiB at most) that an attached client may lag before the container's output waits
RETRY_S = 1.0  # while a sink takes nothing, as a log on a full disk


Piece = tuple[Literal[1, 2], bytes]


class Listener:
    """One attached client, a Sink. Iterate it for (1|2, bytes); it ends when the run has ended."""

    where = "an attached client"
    offsets = None

    def __init__(self, streams: set[int]) -> None:
        self.streams = streams
        self._chunks: deque[Piece | None] = deque()
        self._some, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()
        self._left = self._last_words = False

    def open(self, run: int) -> None:
        pass

    def begin(self, run: int, offsets: Offsets) -> None:
        pass

    async def write(self, stream: int, data: bytes, time_ns: int) -> None:
        """Hand over a chunk, waiting while the client is behind; one that left takes everything."""
        if stream not in self.streams:
            return
        await self._room.wait()
        if self._left:
            return
        self._chunks.append((1 if stream == 1 else 2, data))
        self._some.set()
        if len(self._chunks) >= BACKLOG and not self._last_words:
            self._room.clear()

    def expect_last_words(self) -> None:
        """The process has ended: what is still to come is bounded by the window, so a slow client stalls it no more."""
        self._last_words = True
        self._room.set()

    def close(self) -> None:
        """The run has ended: the client reads what is left, then its end."""
        self._chunks.append(None)
        self._some.set()

    def leave(self) -> None:
        """The client goes, whatever is left."""
        self._left = True
        self._chunks.clear()
        self._room.set()
        self.close()

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
    """The output of one container, over all its runs. `progress` is notified after each chunk in the log.

    The log is the sink that every container has; `others` are those that its caller asked for."""

    def __init__(self, log_: Log, *others: Sink) -> None:
        self.log = log_
        self.sinks: tuple[Sink, ...] = (log_, *others)
        self.listeners: set[Listener] = set()
        self.progress = asyncio.Condition()
        self._stuck: list[Sink] = []
        self._pumps: list[asyncio.Task[None]] = []

    @property
    def stalled(self) -> str:
        """Which sink takes nothing, as a log on a full disk, so that the container waits; "" if none."""
        return self._stuck[0].where if self._stuck else ""

    def listen(self, streams: set[int]) -> Listener:
        listener = Listener(streams)
        self.listeners.add(listener)
        return listener

    def forget(self, listener: Listener) -> None:
        self.listeners.discard(listener)
        listener.leave()

    def open(self, run: int) -> Offsets:
        """Have the sinks ready for start number `run`. From where its streams are needed: all before is in each."""
        had = [offsets for sink in self.sinks if (offsets := sink.open(run))]
        return min(out for out, _ in had), min(err for _, err in had)

    def go_on(self, run: int, offsets: Offsets) -> None:
        """Start number `run` goes on with streams of which so much was handed to somebody else."""
        for sink in self.sinks:
            sink.begin(run, offsets)

    def begin(self, stdout: OutputStream | None, stderr: OutputStream | None) -> None:
        """Pump the streams of the run from now on. They begin where `open` said."""
        kinds: list[tuple[Literal[1, 2], OutputStream | None]] = [(1, stdout), (2, stderr)]
        self._pumps = [
            asyncio.create_task(self._pump(kind, stream), name=f"output-{kind}")
            for kind, stream in kinds
            if stream is not None
        ]

    async def _pump(self, kind: Literal[1, 2], stream: OutputStream) -> None:
        while data := await stream.read():
            at, now = stream.offset, clock.now_ns()
            new = data[_had(self.log, kind, at) :]
            for sink in self.sinks:
                await self._write(sink, kind, data[_had(sink, kind, at) :], now)
            for listener in list(self.listeners) if new else ():
                await listener.write(kind, new, now)
            stream.consumed(len(data))
            async with self.progress:
                self.progress.notify_all()

    async def _write(self, sink: Sink, kind: Literal[1, 2], data: bytes, time_ns: int) -> None:
        """Into a sink; while it takes nothing the container waits, as with any pipe that nobody empties."""
        while data:
            before = _had(sink, kind, 0)
            try:
                await sink.write(kind, data, time_ns)
                data = b""
            except OSError as e:
                data = data[_had(sink, kind, before) :]
                if sink not in self._stuck:
                    log.error("cannot write %s: %s: the container's output waits", sink.where, e)
                    self._stuck.append(sink)
                await asyncio.sleep(RETRY_S)
        if sink in self._stuck:
            self._stuck.remove(sink)

    async def drained(self) -> None:
        """After the process has ended: wait until its streams have ended and all sinks have all of them."""
        for listener in self.listeners:
            listener.expect_last_words()
        if self._pumps:
            await asyncio.wait(self._pumps)  # whoever gives up waiting does not end them

    async def end(self) -> None:
        """The run is over: attached clients read what is left, then their end. Followers of the log are told."""
        for listener in self.listeners:
            listener.close()
        self.listeners.clear()
        self.close()
        async with self.progress:
            self.progress.notify_all()

    def cut(self) -> None:
        """The guest is gone: no byte will come."""
        for pump in self._pumps:
            pump.cancel()
        self._stuck.clear()

    def close(self) -> None:
        """Let go of the sinks' files."""
        for sink in self.sinks:
            sink.close()


def _had(sink: Sink, kind: Literal[1, 2], at: int) -> int:
    """How many of the bytes from offset `at` on a sink has already."""
    return max(0, sink.offsets[kind - 1] - at) if sink.offsets else 0
