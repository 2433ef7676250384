"""A door on TCP: callers prove by TLS who they are, and what they say then goes to an HTTP server over a socket pair,
as if they had connected to a unix socket."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from hypercontainer.hyperd.tls import PIECE, Tls
from hypercontainer.model.principal import UNKNOWN, Principal, Role

Serve = Callable[[], asyncio.Protocol]
log = logging.getLogger("hyperd.tcp")

HANDSHAKE_S = 10.0
MOST_STRANGERS = 64  # handshakes at a time; who comes beside them waits in the kernel's queue
LINGER_S = 1.0  # for a client to say its end, after ours
SILENCE_S = 60  # of the network: then it is asked whether the client is still there
NO_MORE_S = 1.0  # of descriptors: until the next try
PLAIN = (
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"Client sent an HTTP request to an HTTPS server.\n"
)


class TcpListener:
    """Lets callers in that have a certificate which `context` takes; `role` is what all of them are."""

    def __init__(self, context: ssl.SSLContext, role: Role) -> None:
        self._context, self._role = context, role
        self._callers: dict[asyncio.BaseProtocol, Principal] = {}
        self._slots = asyncio.Semaphore(MOST_STRANGERS)
        self._strangers: set[asyncio.Task[None]] = set()  # those in a handshake, of
        self._connections: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None

    def caller(self, protocol: asyncio.BaseProtocol) -> Principal:
        """Who is at the other end of one that was made here."""
        return self._callers.get(protocol, UNKNOWN)

    def start(self, sock: socket.socket, serve: Serve) -> None:
        """Let them in at `sock`, which listens and is closed by `stop`. `serve` makes a protocol for each."""
        sock.setblocking(False)
        self._accepting = asyncio.create_task(self._accept(sock, serve))

    async def stop(self) -> None:
        """Let nobody in any more. Who is in stays."""
        if self._accepting:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
        for task in self._strangers:
            task.cancel()

    async def close(self, *, timeout_s: float) -> None:
        """The HTTP server has ended: what it said last goes out, within `timeout_s`."""
        if self._connections:
            await asyncio.wait(self._connections, timeout=timeout_s)
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    async def _accept(self, listening: socket.socket, serve: Serve) -> None:
        loop = asyncio.get_running_loop()
        with listening:
            while True:
                await self._slots.acquire()
                try:
                    sock, peer = await loop.sock_accept(listening)
                except OSError as e:  # one that is gone again, or no descriptor is left
                    self._slots.release()
                    log.warning("cannot let a caller in: %s", e)
                    await asyncio.sleep(NO_MORE_S)
                    continue
                task = asyncio.create_task(self._connection(sock, f"{peer[0]} port {peer[1]}", serve))
                self._strangers.add(task)
                self._connections.add(task)
                task.add_done_callback(self._connections.discard)

    async def _connection(self, sock: socket.socket, where: str, serve: Serve) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  it runs in one
        with sock:
            try:
                tls, certificate = await self._greet(sock)
            except (OSError, TimeoutError) as e:
                log.info("%s was not let in: %s", where, _why(e))
                await _linger(sock)
                return
            finally:
                self._strangers.discard(task)
                self._slots.release()
            log.debug("%s is in, with the certificate of %s", where, certificate)
            await self._carry(sock, tls, serve, Principal(self._role, uid=-1, gid=-1, pid=0, certificate=certificate))

    async def _greet(self, sock: socket.socket) -> tuple[Tls, str]:
        """A connection, and whose certificate is at its other end."""
        notice_silence(sock)
        tls = Tls(sock, self._context)
        async with asyncio.timeout(HANDSHAKE_S):
            try:
                return tls, await tls.handshake()
            except ssl.SSLError as e:
                if e.reason == "HTTP_REQUEST":
                    await asyncio.get_running_loop().sock_sendall(sock, PLAIN)
                raise

    async def _carry(self, sock: socket.socket, tls: Tls, serve: Serve, who: Principal) -> None:
        """Bytes between the caller and a protocol of its own, until that one closes or the caller is gone."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours:
            try:
                _, protocol = await asyncio.get_running_loop().connect_accepted_socket(serve, theirs)
            except BaseException:
                theirs.close()
                raise
            self._callers[protocol] = who
            try:
                async with asyncio.TaskGroup() as group:
                    hearing = group.create_task(_hear(tls, ours))
                    await _tell(ours, tls)
                    sock.shutdown(socket.SHUT_WR)
                    await asyncio.wait([hearing], timeout=LINGER_S)
                    hearing.cancel()
            except* OSError:
                pass  # the caller is gone
            finally:
                del self._callers[protocol]


async def _hear(tls: Tls, inside: socket.socket) -> None:
    """From the caller. Its end is passed on: it may wait for answers still. What nobody reads any more is dropped."""
    loop = asyncio.get_running_loop()
    while data := await tls.read():
        with suppress(BrokenPipeError, ConnectionResetError):
            await loop.sock_sendall(inside, data)
    with suppress(OSError):
        inside.shutdown(socket.SHUT_WR)


async def _tell(inside: socket.socket, tls: Tls) -> None:
    """To the caller, up to the end of all that it is told."""
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(inside, PIECE):
        await tls.write(data)
    await tls.end()


async def _linger(sock: socket.socket) -> None:
    """A refusal is lost when a socket is closed that has bytes which nobody has read."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(LINGER_S):
            while await asyncio.get_running_loop().sock_recv(sock, PIECE):
                pass


def notice_silence(sock: socket.socket) -> None:
    """A caller whose machine or network is gone is noticed within a few minutes."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE_S // 4)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 2 * SILENCE_S * 1000)


def _why(error: OSError | TimeoutError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return str(error) or f"no handshake within {HANDSHAKE_S:.0f} s"
