"""One HTTP/1.1 connection: nothing is imported that `hyperctl ps` would wait for.

`http.client` would cost 30 ms (email, ssl); what hyperd speaks of HTTP fits below.
"""

from __future__ import annotations

import _socket

from hypercontainer.lib import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from hypercontainer.client.tunnel import Tunnel

CHUNK = 1 << 18
MAX_HEAD = 1 << 16
MAX_DOCUMENT = 1 << 26
MAX_LINE = 1 << 24


class Closed(OSError):
    """The other end closed the connection before it had answered."""


class Remote:
    """A hyperd on another machine: at a port there, with TLS. `certificates`: a folder with ca.pem, which has signed
    hyperd's certificate, and cert.pem and key.pem, which are the caller's."""

    def __init__(self, host: str, port: int, certificates: str) -> None:
        self.host, self.port, self.certificates = host, port, certificates

    def __str__(self) -> str:
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"


class Connection:
    """One socket with its buffer. `address`: a unix socket's path, or a Remote."""

    def __init__(self, address: str | Remote) -> None:
        self._tunnel: Tunnel | None = None
        if isinstance(address, str):
            self.socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
            try:
                self.socket.connect(address)
            except BaseException:
                self.socket.close()
                raise
        else:
            from hypercontainer.client.tunnel import Tunnel

            self._tunnel = Tunnel(address)
            self.socket = self._tunnel.socket
        self.rest = b""  # received, not yet asked for
        self.idle: Callable[[int], None] | None = None  # what waits for bytes of this descriptor, before each `recv`

    def close(self) -> None:
        self.socket.close()

    def gone(self) -> bool:
        """Whether hyperd has closed it, as it does with one that is idle for long."""
        self.socket.settimeout(0)
        try:
            return not self.rest and not self.socket.recv(1, _socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data, _socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError) as e:
            self._tell_why(e)
            raise

    def receive(self, limit: int = CHUNK) -> bytes:
        """Some bytes, at most `limit`; b"" at the end."""
        if self.rest:
            data, self.rest = self.rest[:limit], self.rest[limit:]
            return data
        return self._recv(limit)

    def _recv(self, limit: int) -> bytes:
        if self.idle:
            self.idle(self.socket.fileno())
        try:
            data = self.socket.recv(limit)
        except ConnectionResetError as e:
            self._tell_why(e)
            raise
        if not data:
            self._tell_why(None)
        return data

    def _tell_why(self, cause: OSError | None) -> None:
        """Raise Closed if it is known why there is no more of this connection."""
        if self._tunnel and self._tunnel.broken:
            raise Closed(self._tunnel.broken) from cause

    def until(self, end: bytes, limit: int) -> bytes:
        """All up to `end`, which is taken off too."""
        data = self.rest
        while (at := data.find(end)) < 0:
            if len(data) > limit:
                raise ValueError("hyperd sent a line without end")
            more = self._recv(CHUNK)
            if not more:
                raise Closed("hyperd closed the connection")
            data += more
        self.rest = data[at + len(end) :]
        return data[:at]


class Response:
    """Status, headers (lower-case names), and a body that is read once."""

    def __init__(self, connection: Connection) -> None:
        head = connection.until(b"\r\n\r\n", MAX_HEAD).decode("latin-1").split("\r\n")
        version, _, rest = head[0].partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise ValueError(f"not an HTTP answer: {head[0][:80]!r}")
        self.status = int(rest[:3])
        self.headers = {}
        for line in head[1:]:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()
        self.keep = version != "HTTP/1.0" and self.headers.get("connection", "").lower() != "close"
        self.done = self.status in (101, 204, 304)
        self._connection = connection

    def chunks(self) -> Iterator[bytes]:
        """The body in pieces as they come. OSError if it is cut short."""
        if self.done:
            return
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            yield from self._chunked()
        elif "content-length" in self.headers:
            yield from self._exactly(int(self.headers["content-length"]))
        else:
            self.keep = False
            while data := self._connection.receive():
                yield data
        self.done = True

    def _exactly(self, length: int) -> Iterator[bytes]:
        while length > 0:
            data = self._connection.receive(min(length, CHUNK))
            if not data:
                raise Closed("hyperd closed the connection in the middle of its answer")
            length -= len(data)
            yield data

    def _chunked(self) -> Iterator[bytes]:
        while size := int(self._connection.until(b"\r\n", 128).partition(b";")[0], 16):
            yield from self._exactly(size)
            self._connection.until(b"\r\n", 2)
        while self._connection.until(b"\r\n", MAX_HEAD):
            pass

    def read(self, limit: int = MAX_DOCUMENT) -> bytes:
        parts, length = [], 0
        for data in self.chunks():
            parts.append(data)
            length += len(data)
            if length > limit:
                raise ValueError(f"hyperd sent more than {limit} bytes")
        return b"".join(parts)

    def document(self) -> Any:
        """The JSON body; None for an empty one."""
        body = self.read()
        return fastjson.loads(body) if body.strip() else None

    def documents(self) -> Iterator[Any]:
        """The JSON documents of an NDJSON body, each as its line comes."""
        rest = b""
        for data in self.chunks():
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > MAX_LINE:
                raise ValueError("hyperd sent a line without end")
            for line in lines:
                if line.strip():
                    yield fastjson.loads(line)
        if rest.strip():
            yield fastjson.loads(rest)
