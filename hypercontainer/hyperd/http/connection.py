"""The client's end of a connection that was taken over: an asyncio protocol with back-pressure both ways."""

import asyncio
import select
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.http.framing import Control, Framing, Word

WINDOW = 1 << 18  # bytes each way that wait for a slow end
CONTROL_COST = 1024  # what a word that is no stdin counts for in the window
LOOK_EVERY_S = 1.0  # at a client that is not read from


class Vanished(Exception):
    """The client has gone."""


def gone(transport: asyncio.Transport) -> bool:
    """Whether nobody is at the other end any more, which is another thing than to send no more."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket"), 0)  # POLLHUP and POLLERR come unasked
    return bool(poll.poll(0))


@dataclass(eq=False)
class Connection(asyncio.Protocol):
    """The client's end: bytes in the order they came, back-pressure in both directions."""

    transport: asyncio.Transport
    framing: Framing
    stdin: deque[bytes | None] = field(default_factory=deque)  # None: its end
    controls: deque[Control] = field(default_factory=deque)
    waiting: int = 0  # bytes in the two
    broken: Exception | None = None  # why no more will come
    lost: bool = False
    half_closed: bool = False
    came: asyncio.Event = field(default_factory=asyncio.Event)
    steered: asyncio.Event = field(default_factory=asyncio.Event)
    writable: asyncio.Event = field(default_factory=asyncio.Event)
    on_lost: Callable[[Exception | None], None] | None = None
    _look: asyncio.TimerHandle | None = None

    # what the transport calls

    def data_received(self, data: bytes) -> None:
        if self.broken:
            return
        try:
            for word in self.framing.read(data):
                self._take(word)
        except InvalidInput as e:
            self._end(e)
        if self.waiting > WINDOW:
            self.hold()

    def eof_received(self) -> bool:
        """A client that sends no more. Where that is the end of stdin we go on, and look whether it is still there."""
        if self.framing.half_closes and not self.broken:
            self.half_closed = True
            self._take(None)
            self._look_later()
        return self.framing.half_closes

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._look:
            self._look.cancel()
        self._end(Vanished())
        self.writable.set()
        if self.on_lost:
            self.on_lost(exc)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    # what `serve` calls

    async def send(self, data: bytes) -> None:
        """Write, and wait while the client is slow. Vanished when it is gone."""
        if self.lost:
            raise Vanished
        self.transport.write(data)
        if not self.writable.is_set():
            await self.writable.wait()
            if self.lost:
                raise Vanished

    async def next_stdin(self) -> bytes | None:
        """What came for stdin, small frames joined; None at its end, which comes once."""
        while not self.stdin:
            if self.broken:
                raise self.broken
            self.came.clear()
            await self.came.wait()
        if self.stdin[0] is None:
            self.stdin.popleft()
            return None
        parts = []
        while self.stdin and (part := self.stdin[0]) is not None:
            parts.append(part)
            self.stdin.popleft()
        data = b"".join(parts) if len(parts) > 1 else parts[0]
        self._took(len(data))
        return data

    async def next_control(self) -> Control:
        while not self.controls:
            if self.broken:
                raise self.broken
            self.steered.clear()
            await self.steered.wait()
        self._took(CONTROL_COST)
        return self.controls.popleft()

    def hold(self) -> None:
        """Read no more until the session has taken what came; meanwhile, look whether the client is still there."""
        if self.transport.is_reading() and not self.transport.is_closing():
            self.transport.pause_reading()
            self._look_later()

    # inside

    def _take(self, word: Word) -> None:
        if isinstance(word, bytes):
            if word:
                self.stdin.append(word)
                self.waiting += len(word)
                self.came.set()
        elif word is None:
            if not (self.stdin and self.stdin[-1] is None):
                self.stdin.append(None)
                self.came.set()
        else:
            self.controls.append(word)
            self.waiting += CONTROL_COST
            self.steered.set()

    def _took(self, size: int) -> None:
        self.waiting -= size
        if self.waiting <= WINDOW // 2 and not self.transport.is_reading() and not self.transport.is_closing():
            self.transport.resume_reading()

    def _end(self, why: Exception) -> None:
        self.broken = self.broken or why
        self.came.set()
        self.steered.set()

    def _look_later(self) -> None:
        self._look = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look_now)

    def _look_now(self) -> None:
        """A transport that does not read, or has read all, hears of no hang-up: ask."""
        if self.transport.is_closing() or (self.transport.is_reading() and not self.half_closed):
            return
        if gone(self.transport):
            self.transport.abort()
        else:
            self._look_later()
