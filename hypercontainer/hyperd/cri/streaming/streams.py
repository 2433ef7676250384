"""The streams of a SPDY connection that has a wire: what comes waits in inboxes, what is sent waits for room."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from hypercontainer.hyperd.cri.streaming.mux import (
    SESSION_WINDOW,
    Aborted,
    Came,
    Ended,
    Event,
    Mux,
    Opened,
    Roomier,
)
from hypercontainer.hyperd.cri.streaming.wires import Wire
from hypercontainer.hyperd.http.carry import Vanished
from hypercontainer.hyperd.http.inbox import Inbox

CHUNK = 1 << 15
LINGER_S = 5.0  # for the client to take the last words


class Hung(Vanished):
    """The client wants to hear no more of one stream; it is there."""


class Stream(NamedTuple):
    """One that the client has opened."""

    number: int
    headers: Mapping[str, str]
    inbox: Inbox  # its data, as stdin


class Streams:
    """`opened` is told of each stream; one that it does not want it refuses."""

    def __init__(self, wire: Wire, opened: Callable[[Stream], None]) -> None:
        self._wire, self._opened = wire, opened
        self._mux = Mux()
        self._streams: dict[int, Stream] = {}
        self._waiting = 0  # bytes in inboxes
        self._room, self._roomier, self._untold = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._hearing: asyncio.Task[None] | None = None
        self.over = asyncio.Event()  # the client is gone

    async def __aenter__(self) -> "Streams":
        self._hearing = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Say that this is the end. A client that was told all goes by itself, and is waited for."""
        assert self._hearing  # noqa: S101  it was entered
        try:
            with suppress(Vanished, ConnectionError):
                self._mux.go_away()
                await self._flush()
        finally:
            self._hearing.cancel()
            await asyncio.wait([self._hearing])

    async def linger(self) -> None:
        """Wait until the client has gone, `LINGER_S` at most: it goes when it was told all."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await self.over.wait()

    # what comes

    async def _run(self) -> None:
        why: Exception = Vanished()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tell())
                await self._hear()
        except BaseExceptionGroup as e:
            why = next((one for one in e.exceptions if isinstance(one, Exception)), why)
        finally:
            for stream in self._streams.values():
                stream.inbox.end(why)
            self.over.set()
            self._roomier.set()

    async def _hear(self) -> None:
        await self._flush()
        while True:
            data = await self._wire.read()
            try:
                for event in self._mux.receive(data):
                    self._take(event)
            finally:
                await self._flush()
            while self._waiting > SESSION_WINDOW:
                self._room.clear()
                await self._room.wait()

    async def _tell(self) -> None:
        """What was taken, to a client that may wait for that alone."""
        while True:
            await self._untold.wait()
            self._untold.clear()
            await self._flush()

    def _take(self, event: Event) -> None:
        match event:
            case Opened(number, headers):
                stream = Stream(number, headers, Inbox(lambda size: self._taken(number, size)))
                self._streams[number] = stream
                self._mux.reply(number)
                self._opened(stream)
            case Came(number, data):
                self._waiting += len(data)
                if found := self._streams.get(number):
                    found.inbox.put(data)
                else:
                    self._taken(number, len(data))
            case Ended(number):
                if found := self._streams.get(number):
                    found.inbox.put(None)
                    self._let_go(number)
            case Aborted(number):
                if found := self._streams.pop(number, None):
                    self._forgotten(found, Hung())
                self._roomier.set()
            case Roomier():
                self._roomier.set()

    def _taken(self, number: int, size: int) -> None:
        self._waiting -= size
        self._mux.taken(number, size)
        if self._waiting <= SESSION_WINDOW // 2:
            self._room.set()
        if self._mux.out:
            self._untold.set()

    def _forgotten(self, stream: Stream, why: Exception) -> None:
        """What waits in it is taken by nobody."""
        self._taken(stream.number, stream.inbox.waiting)
        stream.inbox.clear()
        stream.inbox.end(why)

    # what is said

    async def write(self, stream: Stream, data: bytes) -> None:
        """Vanished when the client is gone; BrokenPipeError when it wants no more of this stream."""
        while data:
            room = min(self._mux.room(stream.number), CHUNK)
            if self.over.is_set():
                raise Vanished
            if room:
                self._mux.send(stream.number, data[:room])
                data = data[room:]
                await self._flush()
            else:
                self._roomier.clear()
                await self._roomier.wait()

    async def end(self, stream: Stream) -> None:
        """Say no more in it. One that was ended, or that nobody wants: nothing happens."""
        with suppress(BrokenPipeError):
            self._mux.room(stream.number)
            self._mux.send(stream.number, b"", end=True)
            self._let_go(stream.number)
            await self._flush()

    def has(self, stream: Stream) -> bool:
        """Whether anything may still be said in it, by either end."""
        return self._mux.has(stream.number)

    def _let_go(self, number: int) -> None:
        if not self._mux.has(number):
            self._streams.pop(number, None)

    def drop(self, stream: Stream, status: int) -> None:
        """Hear no more of it, and say no more."""
        self._mux.refuse(stream.number, status)
        if self._streams.pop(stream.number, None):
            self._forgotten(stream, Hung())
        self._untold.set()

    async def _flush(self) -> None:
        if self._mux.out:
            data = bytes(self._mux.out)
            self._mux.out.clear()
            await self._wire.send(data)
