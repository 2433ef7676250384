"""A socket of hyperd as a stranger has it: bytes go in, an answer comes out in time, and is judged."""

import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from pathlib import Path

NOBODY = 65534
DEADLINE_S = 300.0  # of a call that ends by itself: room for guests that boot, emulated, beside others
PATIENCE_S = 0.5  # with a call that lasts until its caller leaves, and with half a request
ENOUGH = 1 << 18  # bytes of an answer
# What no caller can be blamed for, and is said in words: docs/api.md has the table of kinds.
TOLD = {501: "never here", 502: "the guest's fault", 503: "a peer does not answer", 507: "no room"}
DOCKERS = ("is not paused",)  # what docker answers with 500, and so does its dialect


class Wrong(AssertionError):
    """An answer that no request may get, or none."""


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    lasting: bool = False
    after: bytes = b""  # what is said on a connection that was taken over

    def written(self) -> bytes:
        named = {"Host": "hyper", "Content-Length": str(len(self.body)), **self.headers}
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{key}: {value}" for key, value in named.items())]
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + self.body


@dataclass(frozen=True)
class Answer:
    status: int
    media_type: str
    body: bytes

    def judge(self, method: str) -> None:
        """Wrong for a fault of hyperd's, and for a refusal without a word."""
        if self.status < 400:
            return
        said = self._said()
        if not said.strip() and method != "HEAD":
            raise Wrong(f"{self.status} without a message: {self.body[:500]!r}")
        if self.status >= 500 and self.status not in TOLD and not said.endswith(DOCKERS):
            raise Wrong(f"{self.status}: {said[:500]}")

    def _said(self) -> str:
        """The message; "" where there is none."""
        if self.media_type != "application/json":  # what is no HTTP is refused by the library
            return self.body.decode(errors="replace")
        with suppress(ValueError, KeyError, TypeError):
            return str(json.loads(self.body)["message"])
        return ""


@dataclass(frozen=True)
class Door:
    path: Path
    uid: int = NOBODY  # who calls

    def connect(self) -> socket.socket:
        """Whose a connection is the kernel tells by who made it."""
        sock = socket.socket(socket.AF_UNIX)
        here = os.geteuid()
        if self.uid != here:
            os.seteuid(self.uid)
        try:
            sock.settimeout(DEADLINE_S)
            sock.connect(str(self.path))
        except BaseException:
            sock.close()
            raise
        finally:
            if self.uid != here:
                os.seteuid(here)
        return sock

    def ask(self, request: Request) -> Answer | None:
        """The answer; None of a call that lasts longer than we do. Wrong for none, and as Answer.judge says."""
        with self.connect() as sock:
            with suppress(BrokenPipeError, ConnectionResetError):  # it was refused before it was all there
                sock.sendall(request.written())
            try:
                answer = read(sock, request.method, PATIENCE_S if request.lasting else DEADLINE_S, request.after)
            except TimeoutError:
                if request.lasting:
                    return None
                raise Wrong(f"no answer in {DEADLINE_S:.0f} s") from None
            except (HTTPException, ConnectionError) as e:
                raise Wrong(f"no answer: {e!r}") from e
        answer.judge(request.method)
        return answer


def read(sock: socket.socket, method: str, patience_s: float, after: bytes = b"") -> Answer:
    """The answer on `sock`, as far as it comes. TimeoutError when not even its head does in `patience_s`."""
    sock.settimeout(patience_s)
    response = HTTPResponse(sock, method=method)
    try:
        response.begin()
        body = bytearray()
        with suppress(TimeoutError, HTTPException, ConnectionError):  # of a stream: we leave first, or it is cut
            if response.status == 101 and after:
                sock.sendall(after)
            while len(body) < ENOUGH and (data := response.read1(1 << 16)):
                body += data
        return Answer(response.status, response.getheader("Content-Type", "").partition(";")[0], bytes(body))
    finally:
        response.close()
