"""The HTTP server that clients of exec, attach and port-forward come to: whoever has the address of a stream has the
stream, once."""

import asyncio
import logging
import ssl
from collections.abc import Iterable

from aiohttp import web

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd import tls
from hypercontainer.hyperd.cri.streaming import channels, command, forward, ports, remote
from hypercontainer.hyperd.cri.streaming.forward import Forward
from hypercontainer.hyperd.cri.streaming.remote import Remote
from hypercontainer.hyperd.cri.streaming.tokens import Tokens
from hypercontainer.hyperd.cri.streaming.wires import SPDY, Plain, Tunnel, Upgraded, Wire
from hypercontainer.hyperd.http import hijack, websocket
from hypercontainer.hyperd.http.server import Runner
from hypercontainer.hyperd.listen import listen_tcp, tcp_address, written
from hypercontainer.hyperd.tcp import notice_silence

OFFERED, ACCEPTED = "X-Stream-Protocol-Version", "X-Accepted-Stream-Protocol-Versions"
TUNNELED = f"{SPDY}+{forward.PROTOCOL}"
IDLE_S = 30.0  # for whoever connects and asks nothing
STOP_S = 2.0
strangers = logging.getLogger("hyperd.cri.strangers")
log = logging.getLogger("hyperd")


def server(address: str, cert: str, key: str) -> "StreamingServer":
    """As the settings have it. InvalidInput for what would have anybody read what goes on in pods, or lead nowhere."""
    host, _ = tcp_address(address) or (None, 0)
    if host is None or host.is_unspecified:
        raise InvalidInput(
            f"cannot stream at {address!r}: `cri_stream_address` is tcp://ADDRESS:PORT, with an address of this host "
            "that clients can be sent to"
        )
    if bool(cert) != bool(key):
        raise InvalidInput(f"cannot stream at {address}: give both `cri_stream_cert` and `cri_stream_key`, or neither")
    if not (cert or host.is_loopback):
        raise InvalidInput(
            f"cannot stream at {address} without TLS: give `cri_stream_cert` and `cri_stream_key`, or an address of "
            "this host alone, such as tcp://127.0.0.1:0"
        )
    return StreamingServer(address, tls.for_anybody(address, cert, key) if cert else None)


class StreamingServer:
    """Listens at `address` ("tcp://127.0.0.1:0"), with TLS if there is a `context`."""

    def __init__(self, address: str, context: ssl.SSLContext | None = None) -> None:
        self._address, self._context = address, context
        self._tokens: Tokens[Remote | Forward] = Tokens()
        self._serving: set[asyncio.Task[object]] = set()
        self._runner: Runner | None = None
        self._at = ""

    async def open(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{verb}/{token}", self._answer)
        self._runner = Runner(
            app,
            access_log=None,
            logger=strangers,
            handler_cancellation=True,
            keepalive_timeout=IDLE_S,
            tcp_keepalive=False,
            shutdown_timeout=1,
        )
        await self._runner.setup()
        try:
            sock = listen_tcp(self._address)
            await web.SockSite(self._runner, sock, ssl_context=self._context).start()
        except BaseException:
            await self._runner.cleanup()
            raise
        self._at = f"{'https' if self._context else 'http'}://{written(sock)}"
        log.info("streams of pods at %s", self._at)

    async def close(self) -> None:
        """End all streams; processes go on."""
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving, timeout=STOP_S)
        if self._runner:
            await self._runner.cleanup()

    def remote(self, wanted: Remote) -> str:
        """Where a client may come for that. Exhausted; InvalidInput where there is nothing to come for."""
        if not (wanted.stdin or wanted.stdout or wanted.stderr):
            raise InvalidInput(f"cannot {wanted.verb} without streams: ask for one of stdin, stdout and stderr")
        if wanted.tty and wanted.stderr:
            raise InvalidInput(f"cannot {wanted.verb} with a terminal and stderr: a terminal has no stderr")
        return f"{self._at}/{wanted.verb}/{self._tokens.issue(wanted)}"

    def forward(self, wanted: Forward) -> str:
        """Where a client may come for that. Exhausted; InvalidInput for more ports than one client can name."""
        if len(wanted.ports) > ports.MAX_PORTS:
            raise InvalidInput(f"cannot forward {len(wanted.ports)} ports by one stream: {ports.MAX_PORTS} at most")
        return f"{self._at}/portforward/{self._tokens.issue(wanted)}"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        wanted = self._tokens.redeem(request.match_info["token"])
        if wanted is None:
            return _refused(404, "no such stream: each address is good for one connection, for a minute")
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  a handler runs in one
        self._serving.add(task)
        try:
            return await _upgraded(request, wanted)
        except InvalidInput as e:
            return _refused(400, str(e))
        finally:
            self._serving.discard(task)


async def _upgraded(request: web.Request, wanted: Remote | Forward) -> web.StreamResponse:
    if transport := request.transport:
        notice_silence(transport.get_extra_info("socket"))
    upgrade = hijack.wanted(request.headers)
    if upgrade == "websocket":
        return await (_channels(request, wanted) if isinstance(wanted, Remote) else _tunnel(request, wanted))
    if upgrade != SPDY.lower():
        raise InvalidInput(f"cannot stream without an upgrade: ask for {SPDY}, or for a websocket")
    return await _spdy(request, wanted)


async def _spdy(request: web.Request, wanted: Remote | Forward) -> web.StreamResponse:
    known = command.PROTOCOLS if isinstance(wanted, Remote) else (forward.PROTOCOL,)
    protocol = _chosen(request, OFFERED, known)
    if protocol is None and OFFERED in request.headers:
        refusal = _refused(403, f"none of these protocols is spoken here: {request.headers[OFFERED][:200]}")
        refusal.headers.extend((ACCEPTED, one) for one in known)
        return refusal
    headers = {OFFERED: protocol} if protocol else {}
    with hijack.taken_over(request, Plain(headers)) as connection:
        wire: Wire = Upgraded(connection)
        if isinstance(wanted, Remote):
            await command.serve(wire, wanted, protocol or command.PROTOCOLS[-1])
        else:
            await forward.serve(wire, wanted)
    return hijack.Hijacked()


async def _channels(request: web.Request, wanted: Remote) -> web.StreamResponse:
    socket = await _websocket(request, channels.PROTOCOLS)
    framing = channels.Channels(wanted, socket.ws_protocol or "")
    async with websocket.heard(request, socket, framing, failed=1000) as client:
        await remote.serve(client, wanted)
    return socket


async def _tunnel(request: web.Request, wanted: Forward) -> web.StreamResponse:
    known = (TUNNELED, *((ports.V4,) if wanted.ports else ()))
    socket = await _websocket(request, known)
    try:
        if socket.ws_protocol == TUNNELED:
            await forward.serve(Tunnel(socket), wanted)
        else:
            await ports.serve(socket, wanted)
    finally:
        await websocket.say(socket, b"", 1000)
    return socket


async def _websocket(request: web.Request, protocols: Iterable[str]) -> web.WebSocketResponse:
    """One that is open. InvalidInput for a client that speaks none of those."""
    known = tuple(protocols)
    protocol = _chosen(request, "Sec-WebSocket-Protocol", known)
    if protocol is None:
        raise InvalidInput(f"cannot go on as a websocket: ask for one of its protocols {', '.join(known)}")
    websocket.check(request, [protocol])
    socket = websocket.response([protocol])
    await socket.prepare(request)
    return socket


def _chosen(request: web.Request, header: str, known: Iterable[str]) -> str | None:
    """The first of `known` that the client offers in a header, which may be there several times."""
    offered = {word.strip() for line in request.headers.getall(header, []) for word in line.split(",")}
    return next((one for one in known if one in offered), None)


def _refused(status: int, words: str) -> web.Response:
    return web.Response(status=status, text=words + "\n")
