"""From the table to a server: parse, call, answer. The only place that knows both aiohttp and the table."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import ClientConnectionResetError, web
from aiohttp.http_exceptions import HttpProcessingError

from hypercontainer.errors import Denied, HyperError, InvalidInput, NotFound
from hypercontainer.hyperd.http import hijack, websocket
from hypercontainer.hyperd.http.answers import encode, send_bytes, send_lines
from hypercontainer.hyperd.http.call import Answer, Bytes, Call, Lines, Raw, Route, Upgrade
from hypercontainer.hyperd.http.dialect import Dialect
from hypercontainer.hyperd.http.errors import ours
from hypercontainer.hyperd.http.server import Runner
from hypercontainer.model.api import Engine
from hypercontainer.model.principal import Principal, Role

log = logging.getLogger("hyperd.http")
strangers = logging.getLogger("hyperd.http.strangers")

T = TypeVar("T")
MAX_JSON = 1 << 20
IDLE_S = 60.0
FOR = {Role.USER: "callers that hyperd knows", Role.ADMIN: "admins: root, and the user that hyperd runs as"}
BAD_BODY = (web.RequestPayloadError, HttpProcessingError)
STREAMS = (Raw.STREAM, Raw.WEBSOCKET)
READ_AHEAD = 1 << 18  # of a body that nobody reads yet


def in_one_line(record: logging.LogRecord) -> bool:
    """What is no HTTP is its sender's mistake: a line of the log, and no traceback of ours. A caller that leaves before
    its answer is none."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, ClientConnectionResetError):
        return False
    if isinstance(error, HttpProcessingError):
        record.msg, record.args, record.exc_info = "refused what is no HTTP: %.200r", (error.message,), None
        record.levelno, record.levelname = logging.INFO, "INFO"
    return True


strangers.addFilter(in_one_line)


@dataclass(eq=False)
class Dispatcher:
    """Answers requests by the table of a dialect. `stop()` ends what would last, with a word to the client."""

    engine: Engine
    dialect: Dialect
    caller: Callable[[web.Request], Principal]
    stopping: bool = False
    lasting: set[asyncio.Task[Any]] = field(default_factory=set)  # streams: cancelled by stop()
    begun: set[asyncio.Task[Any]] = field(default_factory=set)  # calls that go on without their caller

    def app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_JSON, middlewares=[self._errors])
        app.on_response_prepare.append(self._head)
        for route in self.dialect.routes:
            app.router.add_route(route.method, route.path, self._bind(route))
        return app

    def runner(self, *, idle_s: float = IDLE_S) -> Runner:
        """A server that bounds what it reads. One that asks nothing, or half of something, for `idle_s` ends."""
        return Runner(
            self.app(),
            access_log=None,  # we log
            logger=strangers,
            handler_cancellation=True,
            auto_decompress=False,  # a small body must not become a large one
            read_bufsize=READ_AHEAD,
            max_line_size=1 << 16,  # filters and --change lines are in it
            keepalive_timeout=idle_s,
            tcp_keepalive=False,
            shutdown_timeout=1,
        )

    async def stop(self, *, timeout_s: float) -> None:
        """End all streams; wait `timeout_s` seconds for calls that change something, then cancel those too."""
        self.stopping = True
        for task in self.lasting:
            task.cancel()
        if self.begun:
            await asyncio.wait(self.begun, timeout=timeout_s)
        for task in self.begun:
            task.cancel()
        if left := self.begun | self.lasting:
            await asyncio.wait(left, timeout=timeout_s)

    def _bind(self, route: Route[Any, Any]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            principal = self.caller(request)
            if principal.role < route.access:
                raise Denied(f"cannot {route.method} {route.path}: it is for {FOR[route.access]}")
            call = Call(
                self.engine,
                principal,
                dict(request.match_info),
                self.dialect.query(request.query.items(), route.query),
                await read_body(request, route, self.dialect),
                hijack.wanted(request.headers),
                request.headers,
            )
            if route.answer in STREAMS or isinstance(route.answer, Lines) or route.lasting:
                return await self._last(request, route, call)
            work = route.handler(call)
            return self._plain(route, await (work if route.method in ("GET", "HEAD") else self._to_the_end(work)))

        return handle

    async def _last(self, request: web.Request, route: Route[Any, Any], call: Call[Any, Any]) -> web.StreamResponse:
        """Answer a call that lasts: a caller that vanishes cancels this task, and so does `stop`."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  a handler runs in one
        self.lasting.add(task)
        try:
            if route.answer in STREAMS:
                return await self._stream(request, route, call)
            answer: Any = await route.handler(call)
            if isinstance(route.answer, Lines):
                return await send_lines(request, answer, route.answer, self.dialect.lines, self.dialect.last_line)
            if route.answer is Raw.TAR:
                answer = Bytes(source=answer, media_type=Raw.TAR.value)
            return await send_bytes(request, answer) if isinstance(answer, Bytes) else self._plain(route, answer)
        finally:
            self.lasting.discard(task)

    async def _stream(self, request: web.Request, route: Route[Any, Any], call: Call[Any, Any]) -> web.StreamResponse:
        serve = hijack.serve
        if route.answer is Raw.WEBSOCKET:
            websocket.check(request)
            serve = websocket.serve
        answer = await self._to_the_end(route.handler(call), unwanted=let_go)
        if isinstance(answer, Upgrade):
            return await serve(request, answer)
        return self._plain(route, answer)

    def _plain(self, route: Route[Any, Any], answer: object) -> web.Response:
        if isinstance(answer, Answer):
            return plain_answer(answer)
        if answer is None:
            return web.Response(status=route.status or self.dialect.nothing)
        return json_answer(answer, route.status or 200)

    async def _head(self, request: web.Request, response: web.StreamResponse) -> None:
        """What every answer says, also those that aiohttp makes."""
        response.headers.update(self.dialect.headers)

    def _refusal(self, error: HyperError, status: int | None = None) -> web.Response:
        """`status`: of HTTP's own, where the kind of the error does not say it."""
        return json_answer(self.dialect.document(error), status or self.dialect.status(error))

    async def _to_the_end(
        self, work: Awaitable[T], *, unwanted: Callable[[T], Coroutine[Any, Any, None]] | None = None
    ) -> T:
        """Do `work` even if the caller vanishes meanwhile; then its result goes to `unwanted`."""

        async def run() -> T:
            return await work

        task = asyncio.create_task(run())
        self.begun.add(task)
        task.add_done_callback(self.begun.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(lambda done: self._nobody_waits(done, unwanted))
            raise

    def _nobody_waits(self, done: asyncio.Task[T], unwanted: Callable[[T], Coroutine[Any, Any, None]] | None) -> None:
        if done.cancelled():
            return
        if error := done.exception():
            log.info("a call whose caller had gone failed: %s", error)
        elif unwanted:
            task = asyncio.create_task(unwanted(done.result()))
            self.begun.add(task)
            task.add_done_callback(self.begun.discard)

    @web.middleware
    async def _errors(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        began = time.monotonic()
        caller = self.caller(request)
        try:
            if self.stopping:
                response: web.StreamResponse = self._refusal(ours(asyncio.CancelledError()))
            else:
                response = await handler(request)
        except web.HTTPException as e:
            response = self._refusal(unheard(request, e), e.status)
        except BAD_BODY as e:
            response = self._refusal(_unreadable(e))
        except (ConnectionError, asyncio.CancelledError):
            raise  # the caller has gone
        except Exception as e:
            response = self._refusal(ours(e))
        level = logging.DEBUG if request.method == "GET" else logging.INFO
        took_ms = (time.monotonic() - began) * 1e3
        what = request.raw_path[:300]
        log.log(
            level,
            "%s %s by %s: %d in %.1f ms",
            *(request.method, what, caller, response.status, took_ms),
        )
        return response


def json_answer(document: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=encode(document), content_type="application/json")


def plain_answer(answer: Answer) -> web.Response:
    content = answer.content
    if content is None:
        return web.Response(status=answer.status, headers=answer.headers)
    body = content if isinstance(content, bytes) else encode(content)
    return web.Response(status=answer.status, body=body, headers={"Content-Type": answer.media_type, **answer.headers})


def unheard(request: web.Request, error: web.HTTPException) -> HyperError:
    """aiohttp's own refusals, in our words."""
    what = f"{request.method} {request.path[:200]}"
    if error.status == 404:
        return NotFound("call", what)
    if error.status == 405:
        return InvalidInput(f"no such call: {what}: the path takes another method")
    if error.status == 413:
        return InvalidInput(f"the body is larger than {MAX_JSON} bytes")
    return InvalidInput(f"{what}: {error.reason}")


async def read_body(request: web.Request, route: Route[Any, Any], dialect: Dialect) -> object:
    """The body as the route wants it. InvalidInput for one that it does not want."""
    if route.body is Raw.TAR:
        return chunks(request)
    if route.body is None:
        if request.can_read_body and await request.read():
            raise InvalidInput("this call takes no body")
        return None
    kind: Any = route.body
    data = await request.read() if request.can_read_body else b""
    if kind is Raw.BYTES:
        return data
    if not data and route.body_optional:
        return dialect.body(b"{}", kind, "application/json")
    return dialect.body(data, kind, request.headers.get("Content-Type", ""))


async def chunks(request: web.Request) -> AsyncIterator[bytes]:
    """The body, piece by piece; the client is not read from while nobody asks. InvalidInput for one that cannot be
    read to its end."""
    try:
        async for data in request.content.iter_any():
            yield data
    except BAD_BODY as e:
        raise _unreadable(e) from e


def _unreadable(error: Exception) -> InvalidInput:
    return InvalidInput(f"cannot read the body: {str(error)[:200]}")


async def let_go(answer: object) -> None:
    if isinstance(answer, Upgrade):
        await answer.session.detach()
