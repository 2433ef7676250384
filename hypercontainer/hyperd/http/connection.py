"""The client's end of a connection that was taken over: an asyncio protocol with back-pressure both ways."""

import asyncio
import select
from collections.abc import Callable
from typing import Literal

from hypercontainer.errors import HyperError, InvalidInput
from hypercontainer.hyperd.http.carry import Vanished
from hypercontainer.hyperd.http.framing import Control, Framing
from hypercontainer.hyperd.http.inbox import WINDOW, Inbox
from hypercontainer.model.api import Session

LOOK_EVERY_S = 1.0  # at a client that is not read from


def gone(transport: asyncio.Transport) -> bool:
    """Whether nobody is at the other end any more, which is another thing than to send no more."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket"), 0)  # POLLHUP and POLLERR come unasked
    return bool(poll.poll(0))


class Connection(asyncio.Protocol):
    """The client's end: bytes in the order they came, back-pressure in both directions."""

    def __init__(self, transport: asyncio.Transport, framing: Framing) -> None:
        self.transport, self.framing = transport, framing
        self.inbox = Inbox(self._taken)
        self.lost = False
        self.half_closed = False
        self.on_lost: Callable[[Exception | None], None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._look: asyncio.TimerHandle | None = None

    # what the transport calls

    def data_received(self, data: bytes) -> None:
        if self.inbox.broken:
            return
        try:
            for word in self.framing.read(data):
                self.inbox.put(word)
        except InvalidInput as e:
            self.inbox.end(e)
        if self.inbox.waiting > WINDOW:
            self.hold()

    def eof_received(self) -> bool:
        """A client that sends no more. Where that is the end of stdin we go on, and look whether it is still there."""
        if self.framing.half_closes and not self.inbox.broken:
            self.half_closed = True
            self.inbox.put(None)
            self._look_later()
        return self.framing.half_closes

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._look:
            self._look.cancel()
        self.inbox.end(Vanished())
        self._writable.set()
        if self.on_lost:
            self.on_lost(exc)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # what a session's client does: carry.Client

    async def send(self, data: bytes) -> None:
        """Write, and wait while the client is slow. Vanished when it is gone."""
        if self.lost:
            raise Vanished
        self.transport.write(data)
        if not self._writable.is_set():
            await self._writable.wait()
            if self.lost:
                raise Vanished

    async def begin(self, session: Session) -> None:
        await self.send(self.framing.begin(session))

    async def output(self, stream: Literal[1, 2], data: bytes) -> None:
        await self.send(self.framing.output(stream, data))

    async def next_stdin(self) -> bytes | None:
        return await self.inbox.next_stdin()

    async def next_control(self) -> Control:
        return await self.inbox.next_control()

    async def end(self, status: int, reason: str) -> None:
        self._last(self.framing.end(status, reason))

    async def fail(self, error: HyperError) -> None:
        self._last(self.framing.error(error))

    def hold(self) -> None:
        """Read no more until the session has taken what came; meanwhile, look whether the client is still there."""
        if self.transport.is_reading() and not self.transport.is_closing():
            self.transport.pause_reading()
            self._look_later()

    # inside

    def _last(self, words: bytes) -> None:
        if words and not self.lost:
            self.transport.write(words)

    def _taken(self, size: int) -> None:
        if self.inbox.waiting <= WINDOW // 2 and not self.transport.is_reading() and not self.transport.is_closing():
            self.transport.resume_reading()

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
