"""The HTTP server of every door: aiohttp's, which answers a client that sends no more as well.

`socat`, `nc -N` and programs by hand shut their half of the connection down behind a request. aiohttp takes that for
their leaving; here it is one, as with Go's server, where they are gone altogether or nothing is left to answer.
"""

import asyncio
from typing import Any

from aiohttp import web

from hypercontainer.hyperd.http.connection import LOOK_EVERY_S, gone


class Handler(web.RequestHandler):
    """One client's connection."""

    __slots__ = ("_look", "half_closed")

    def __init__(self, server: web.Server, *, loop: asyncio.AbstractEventLoop, **named: Any) -> None:
        super().__init__(server, loop=loop, **named)
        self.half_closed = False  # the client sends no more
        self._look: asyncio.TimerHandle | None = None

    @property
    def _idle(self) -> bool:
        return self._waiter is not None and not self._messages

    def eof_received(self) -> bool:  # type: ignore[override]  # that one closes always
        if self._idle or self._payload_parser is not None:  # the second: in a websocket there is a word for the end
            return False
        self.half_closed = True
        self._loop.call_soon(self._no_more)  # a request that was just taken up is the current one then
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._look:
            self._look.cancel()
        super().connection_lost(exc)

    def _no_more(self) -> None:
        """Refuse what was asked for in part, and look from now on whether the client is still there: no transport
        that has read all hears of it."""
        body = self._current_request.content if self._current_request else None
        if self._messages:
            body = self._messages[-1][1]
        if body and not body.is_eof():
            body.set_exception(web.RequestPayloadError("it ends before its end"))
            body.feed_eof()
        self._look_now()

    def _look_now(self) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if self._idle:
            self.force_close()
        elif gone(self.transport):
            self.transport.abort()
        else:
            if not self._messages:
                self.close()  # behind the answer that is being given
            self._look = self._loop.call_later(LOOK_EVERY_S, self._look_now)


class Server(web.Server):
    """Makes a `Handler` for each connection."""

    def __call__(self) -> Handler:
        return Handler(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Has an application answered for by a `Server`."""

    async def _make_server(self) -> Server:
        made = await super()._make_server()
        return Server(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            **made._kwargs,
        )
