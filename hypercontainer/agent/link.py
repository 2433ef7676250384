"""One connection to the guest's agent: HELLO, then frames both ways."""

import asyncio
from collections.abc import Callable
from typing import cast

from hypercontainer.agent.session import AgentSession
from hypercontainer.agent.wire import Decoder, WireError, hello

BATCH = 262144  # bytes handed to the socket at a time


class Link(asyncio.BufferedProtocol):
    """Writes HELLO, calls `opened` with the payload of the guest's, then passes frames to and from `session`.

    `ready` is done when HELLO has been answered, `closed` when the connection is gone; `error` then holds what the
    guest did wrong, if it did. The guest's bytes are never kept: less than one frame, plus what streams hold.
    """

    def __init__(self, session: AgentSession, nonce: int, payload: bytes, opened: Callable[[bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.error: WireError | None = None
        self._session, self._opened = session, opened
        self._greeting = hello(nonce, payload)
        self._decoder = Decoder(nonce)
        self._paused = self._scheduled = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=BATCH)
        self._transport.write(self._greeting)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.closed.set_result(None)
        if not self.ready.done():
            self.ready.set_result(None)

    def close(self) -> None:
        """Let go now; what the socket has not taken is lost with it."""
        if self._transport:
            self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._decoder.room()

    def buffer_updated(self, nbytes: int) -> None:
        try:
            for frame in self._decoder.take(nbytes):
                if self.ready.done():
                    self._session.receive(frame)
                else:
                    self._opened(frame.payload)
                    self.ready.set_result(None)
                    self.wake()
        except WireError as e:
            self.error = e
            self.close()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.wake()

    def wake(self) -> None:
        """The session has something to send: write it when all that is going on now has been done."""
        if not self._scheduled and self._transport and self.ready.done():
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        self._scheduled = False
        while self._transport and not self._paused and (batch := b"".join(self._session.frames(BATCH))):
            self._transport.write(batch)
