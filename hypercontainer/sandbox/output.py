"""A container's output on its way out: guest -> its sinks. Acknowledged only when all have it."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from hypercontainer.agent.streams import OutputStream
from hypercontainer.errors import HyperError, reason
from hypercontainer.lib import clock, files
from hypercontainer.model.record import CriSinkRecord, LogSinkRecord, RawSinkRecord, SinkRecord, StandInRecord
from hypercontainer.sandbox.cri_log import CriLog
from hypercontainer.sandbox.log import Log
from hypercontainer.sandbox.raw import Raw
from hypercontainer.sandbox.sink import UNWANTED, Offsets, Sink
from hypercontainer.sandbox.site import Limits
from hypercontainer.sandbox.stand_in import StandIn

log = logging.getLogger(__name__)

BACKLOG = 8  # chunks (of 256 KiB at most) that an attached client may lag before the container's output waits
RETRY_S = 1.0  # while a sink takes nothing, as a log on a full disk


Kind = Literal[1, 2]
Piece = tuple[Kind, bytes]


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
    """The output of one container, over all its runs. `progress` is notified after each chunk that the sinks have.

    `stuck`: the sinks that take nothing, as a log on a full disk, and why; the container waits for them."""

    def __init__(self, *sinks: Sink) -> None:
        self.sinks = sinks
        self.log = next((sink for sink in sinks if isinstance(sink, Log)), None)
        self._others = [sink for sink in sinks if sink is not self.log]
        self.listeners: set[Listener] = set()
        self.progress = asyncio.Condition()
        self.stuck: dict[Sink, OSError] = {}
        self._given_up: set[Sink] = set()  # for the rest of the run
        self._giving: dict[Kind, Sink] = {}  # which is given what the pump of a stream has
        self._streams: dict[Kind, OutputStream] = {}
        self._pumps: list[asyncio.Task[None]] = []

    @property
    def stalled(self) -> str:
        """Which sink cannot take anything until there is room on its disk, or its disk is well again; "" if none."""
        return next((sink.where for sink in self.stuck if self._stalls(sink)), "")

    def _stalls(self, sink: Sink) -> bool:
        return sink in self.stuck and (sink is self.log or self.stuck[sink].errno in files.FULL)

    @property
    def taken(self) -> list[Offsets | None]:
        """How far each sink is: another value after some time, if there is progress."""
        return [sink.offsets for sink in self.sinks]

    @property
    def offsets(self) -> Offsets:
        """How much of each stream of the run that goes on is kept: in the log, or where there is none in the sink that
        has most of it; what nobody keeps is gone when it was heard."""
        return self._kept(1), self._kept(2)

    def _kept(self, kind: Kind) -> int:
        if self.log:
            return self.log.offsets[kind - 1]
        had = [offsets[kind - 1] for sink in self.sinks if (offsets := sink.offsets)]
        consumed = self._streams[kind].offset if kind in self._streams else 0
        return max([offset for offset in had if offset != UNWANTED], default=consumed)

    def listen(self, streams: set[int]) -> Listener:
        listener = Listener(streams)
        self.listeners.add(listener)
        return listener

    def forget(self, listener: Listener) -> None:
        self.listeners.discard(listener)
        listener.leave()

    def open(self, run: int) -> Offsets:
        """Have the sinks ready for start number `run`. From where its streams are needed: all before is in each."""
        self._given_up.clear()
        had = [offsets for sink in self.sinks if (offsets := sink.open(run))]
        return _least(out for out, _ in had), _least(err for _, err in had)

    def go_on(self, run: int, offsets: Offsets) -> None:
        """Start number `run` goes on with streams of which so much was handed to somebody else."""
        for sink in self.sinks:
            sink.begin(run, offsets)

    def begin(self, stdout: OutputStream | None, stderr: OutputStream | None) -> None:
        """Pump the streams of the run from now on. They begin where `open` said."""
        kinds: list[tuple[Kind, OutputStream | None]] = [(1, stdout), (2, stderr)]
        self._streams = {kind: stream for kind, stream in kinds if stream is not None}
        self._pumps = [
            asyncio.create_task(self._pump(kind, stream), name=f"output-{kind}")
            for kind, stream in self._streams.items()
        ]

    async def _pump(self, kind: Kind, stream: OutputStream) -> None:
        with suppress(HyperError):  # the guest is gone, which whoever waits for the end is told
            await self._carry(kind, stream)

    async def _carry(self, kind: Kind, stream: OutputStream) -> None:
        while data := await stream.read():
            at, now = stream.offset, clock.now_ns()
            new = data[max(0, self._kept(kind) - at) :]
            if self.log:
                await self._write(self.log, kind, data[_had(self.log, kind, at) :], now)
            listeners = list(self.listeners) if new else ()  # whoever comes later reads it in the log
            for sink in self._others:
                await self._write(sink, kind, data[_had(sink, kind, at) :], now)
            for listener in listeners:
                await listener.write(kind, new, now)
            stream.consumed(len(data))
            async with self.progress:
                self.progress.notify_all()
        for sink in self.sinks:
            if isinstance(sink, StandIn):
                sink.end(kind)

    async def _write(self, sink: Sink, kind: Kind, data: bytes, time_ns: int) -> None:
        """Into a sink; while it takes nothing the container waits, as with any pipe that nobody empties."""
        self._giving[kind] = sink
        while data and sink not in self._given_up:
            before = _had(sink, kind, 0)
            try:
                await sink.write(kind, data, time_ns)
                data = b""
            except OSError as e:
                if sink in self._given_up:
                    break
                data = data[_had(sink, kind, before) :]
                if sink not in self.stuck:
                    log.error("cannot write %s: %s: the container's output waits", sink.where, reason(e))
                self.stuck[sink] = e
                await asyncio.sleep(RETRY_S)
        self.stuck.pop(sink, None)
        self._giving.pop(kind, None)

    def give_up(self) -> bool:
        """The process has ended: sinks that take nothing have no more of this run, so that the others have the rest;
        not so those that are stalled. Returns whether there were any."""
        slow = {sink for sink in self._giving.values() if sink not in self._given_up and not self._stalls(sink)}
        for sink in slow:
            log.error("%s takes nothing: the rest of the output of a container that has ended is not in it", sink.where)
            self._given_up.add(sink)
            sink.close()
        return bool(slow)

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
        self.stuck.clear()
        self._giving.clear()

    def reopen(self) -> bool:
        """Have logs in Kubernetes' format go on in a new file. OSError: in the one so far. Whether there is one."""
        logs = [sink for sink in self.sinks if isinstance(sink, CriLog)]
        for log_ in logs:
            log_.reopen()
        return bool(logs)

    def close(self) -> None:
        """Let go of the sinks' files."""
        for sink in self.sinks:
            sink.close()


def of(records: Sequence[SinkRecord], folder: Path, limits: Limits) -> Output:
    """The output of a container that has these sinks. What we have to keep of them is in its `folder`."""
    return Output(*(_sink(record, folder, folder / "sinks" / str(n), limits) for n, record in enumerate(records)))


def _sink(record: SinkRecord, folder: Path, position: Path, limits: Limits) -> Sink:
    match record:
        case LogSinkRecord():
            max_bytes = record.max_bytes or limits.log_max_mib << 20
            return Log(folder / "log", max_bytes=max_bytes, files=record.files or limits.log_files)
        case RawSinkRecord():
            return Raw(record, position)
        case CriSinkRecord():
            return CriLog(Path(record.path), position)
        case StandInRecord():
            return StandIn(record, position)


def _least(offsets: Iterable[int]) -> int:
    """Of a stream that no sink wants, from where the guest has it."""
    least = min(offsets, default=UNWANTED)
    return 0 if least == UNWANTED else least


def _had(sink: Sink, kind: Kind, at: int) -> int:
    """How many of the bytes from offset `at` on a sink has already."""
    return max(0, sink.offsets[kind - 1] - at) if sink.offsets else 0
