"""The way to a hyperd on another machine: TLS on TCP, behind one end of a socket pair, so that all else speaks to a
socket as ever. Imported for such addresses alone, for `ssl` takes its time."""

from __future__ import annotations

import select
import socket
import ssl
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hypercontainer.client.connection import Remote

CONNECT_S = 20.0
PIECE = 1 << 16
ENOUGH = 1 << 18  # bytes that wait for a slow end, of each direction


class Tunnel:
    """An open one. `socket` is our end of it; when that is closed, or the other end is gone, it ends.

    OSError when there is nobody, or not who should be; ssl.SSLError is one."""

    def __init__(self, remote: Remote) -> None:
        context = _context(remote.certificates)
        self.broken = ""  # why it has ended, if not by the wish of an end
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=remote.host)
        self._tcp = socket.create_connection((remote.host, remote.port), CONNECT_S)
        try:
            self._handshake()
        except BaseException:
            self._tcp.close()
            raise
        self.socket, self._inside = socket.socketpair()
        self._up, self._down = bytearray(), bytearray()  # what waits for TCP, and for our end
        self._said_all = self._heard_all = False  # there is no more from our end, from the other
        for each in (self._tcp, self._inside):
            each.setblocking(False)
        threading.Thread(target=self._run, daemon=True).start()

    def _handshake(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._tcp.sendall(self._out.read())
                self._receive()
            else:
                return self._tcp.sendall(self._out.read())

    def _receive(self) -> None:
        data = self._tcp.recv(PIECE)
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()

    def _run(self) -> None:
        with self._tcp, self._inside:
            try:
                while not self._over():
                    self._turn()
            except OSError as e:
                self.broken = _reason(e)

    def _over(self) -> bool:
        return (self._said_all and not self._up) or (self._heard_all and not self._down)

    def _turn(self) -> None:
        """Wait until something can be done, and do it."""
        hear = not self._heard_all and len(self._down) < ENOUGH
        say = not self._said_all and len(self._up) < ENOUGH
        poll = select.poll()
        for sock, reads, waiting in ((self._tcp, hear, self._up), (self._inside, say, self._down)):
            if reads or waiting:  # or it would tell of its end again and again
                poll.register(sock, (select.POLLIN if reads else 0) | (select.POLLOUT if waiting else 0))
        ready = dict(poll.poll())
        if hear and ready.get(self._tcp.fileno(), 0) & ~select.POLLOUT:
            self._receive()
            self._decrypt()
        if say and ready.get(self._inside.fileno(), 0) & ~select.POLLOUT:
            self._encrypt(self._inside.recv(PIECE))
        for sock, waiting in ((self._tcp, self._up), (self._inside, self._down)):
            if waiting and ready.get(sock.fileno(), 0) & ~select.POLLIN:
                del waiting[: sock.send(waiting, socket.MSG_NOSIGNAL)]
        self._up += self._out.read()

    def _decrypt(self) -> None:
        try:
            while data := self._tls.read(PIECE):
                self._down += data
            self._heard_all = True
        except ssl.SSLWantReadError:
            pass

    def _encrypt(self, data: bytes) -> None:
        if data:
            self._tls.write(data)
            return
        self._said_all = True
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # the other end has not said its end yet, or said more before it


def _context(folder: str) -> ssl.SSLContext:
    """Trusts who ca.pem has signed for, by the name that we call, and nobody else."""
    try:
        context = ssl.create_default_context(cafile=f"{folder}/ca.pem")
        context.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")
    except OSError as e:
        raise OSError(f"ca.pem, cert.pem and key.pem in {folder} ($HYPER_CERT_PATH): {_reason(e)}") from e
    return context


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return error.strerror or str(error)
