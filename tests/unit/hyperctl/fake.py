"""A hyperd in a thread: answers what it was told to, and writes down what was asked."""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from hypercontainer.errors import HyperError, NotFound
from hypercontainer.hyperd.http.errors import STATUS
from hypercontainer.hyperd.rest import errors

HEADER = 8


class Request(NamedTuple):
    method: str
    path: str
    query: list[tuple[str, str]]
    body: Any  # a document, or bytes
    connection: int  # number of the connection that it came by


class Lines:
    """An NDJSON answer."""

    def __init__(self, *documents: object) -> None:
        self.documents = documents


class Refusal:
    def __init__(self, status: int, kind: str, message: str, **more: object) -> None:
        self.status, self.document = status, {"message": message, "kind": kind, **more}

    @classmethod
    def of(cls, error: HyperError) -> "Refusal":
        """As hyperd's API tells `error`."""
        refusal = cls(STATUS[error.kind], error.kind, "")
        refusal.document = errors.document(error)
        return refusal


class Stream:
    """The server's end of an upgraded connection, for a script to play with."""

    def __init__(self, sock: socket.socket, rest: bytes) -> None:
        self.sock, self.rest = sock, rest

    def send(self, kind: int, payload: bytes | dict[str, Any] = b"") -> None:
        data = json.dumps(payload).encode() if isinstance(payload, dict) else payload
        self.sock.sendall(bytes([kind, 0, 0, 0]) + len(data).to_bytes(4, "big") + data)

    def _exactly(self, n: int) -> bytes:
        while len(self.rest) < n:
            data = self.sock.recv(1 << 18)
            if not data:
                raise EOFError
            self.rest += data
        out, self.rest = self.rest[:n], self.rest[n:]
        return out

    def receive(self) -> tuple[int, bytes]:
        head = self._exactly(HEADER)
        assert head[1:4] == b"\0\0\0"
        return head[0], self._exactly(int.from_bytes(head[4:], "big"))

    def until(self, kind: int) -> bytes:
        """The payload of the next frame of `kind`; others are skipped."""
        while True:
            got, payload = self.receive()
            if got == kind:
                return payload

    def exit(self, status: int, **more: str) -> None:
        self.send(3, {"status": status, **more})


Answer = object | Callable[[Request], object]
Script = Callable[[Stream], None]


class FakeHyperd:
    """`answers[METHOD, PATH]`: a document, None (204), bytes (a tar), Lines, Refusal, or a function of the request
    that returns one; `scripts[PATH]` plays an upgraded connection."""

    def __init__(self, path: Path, answers: Mapping[tuple[str, str], Answer] = {}) -> None:
        self.path = path
        self.answers: dict[tuple[str, str], Answer] = {("GET", "/v1/ping"): {"Ok": True}, **answers}
        self.scripts: dict[str, Script] = {}
        self.requests: list[Request] = []
        self.errors: list[BaseException] = []
        self._connections = 0
        self._threads: list[threading.Thread] = []
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(os.fspath(path))
        self._server.listen(64)
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def hear(self) -> None:
        """Take in all that clients have said, who are gone."""
        for thread in self._threads:
            thread.join()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._server.close()
        self.hear()
        assert not self.errors, self.errors

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._server.accept()
            except OSError:
                return
            self._connections += 1
            thread = threading.Thread(target=self._serve, args=(sock, self._connections))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        with sock:
            try:
                rest = b""
                while (rest := self._one(sock, rest, number)) is not None:  # type: ignore[assignment]
                    pass
            except (EOFError, ConnectionError):
                pass
            except BaseException as e:
                self.errors.append(e)

    def _one(self, sock: socket.socket, rest: bytes, number: int) -> bytes | None:
        stream = Stream(sock, rest)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += stream._exactly(1)
        first, *lines = head.decode().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
        body: Any = self._body(stream, headers)
        url = urlsplit(target)
        if headers.get("content-type") == "application/json" and body:
            body = json.loads(body)
        request = Request(method, url.path, parse_qsl(url.query), body, number)
        self.requests.append(request)
        answer = self.answers.get((method, url.path), Refusal.of(NotFound("thing", url.path)))
        if callable(answer):
            answer = answer(request)
        if headers.get("upgrade") == "hyper-stream" and url.path in self.scripts and not isinstance(answer, dict):
            sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: hyper-stream\r\n\r\n")
            self.scripts[url.path](stream)
            return None
        self._answer(sock, answer)
        return stream.rest

    def _body(self, stream: Stream, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return stream._exactly(int(headers.get("content-length", "0")))
        body = b""
        while True:
            line = b""
            while not line.endswith(b"\r\n"):
                line += stream._exactly(1)
            size = int(line, 16)
            body += stream._exactly(size)
            stream._exactly(2)
            if not size:
                return body

    def _answer(self, sock: socket.socket, answer: object) -> None:
        if isinstance(answer, Refusal):
            data = json.dumps(answer.document).encode()
            sock.sendall(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (answer.status, len(data), data))
        elif answer is None:
            sock.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        elif isinstance(answer, bytes | Lines):
            self._chunked(sock, [answer] if isinstance(answer, bytes) else _lines(answer))
        else:
            data = json.dumps(answer).encode()
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data))

    def _chunked(self, sock: socket.socket, chunks: Iterable[bytes]) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for data in chunks:
            if data:
                sock.sendall(b"%x\r\n%b\r\n" % (len(data), data))
        sock.sendall(b"0\r\n\r\n")


def _lines(answer: Lines) -> Iterable[bytes]:
    for document in answer.documents:
        yield json.dumps(document).encode() + b"\n"
