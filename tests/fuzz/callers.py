"""Callers who mean no good, at both doors of a hyperd: what they say, and what must be true of it while they do.

No answer is a fault of hyperd's or a refusal without a word; none is waited for in vain; all the while others are
answered. What they ask for is there: a container that runs, one that does not, a volume, a network, an exec.
"""

import json
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.client import HTTPException
from itertools import count
from pathlib import Path
from socket import SHUT_WR, socket
from typing import Any

from hypercontainer.hyperd.docker.routes import ROUTES as DOCKER
from hypercontainer.hyperd.http.call import Route
from hypercontainer.hyperd.rest.routes import ROUTES as REST
from tests.fuzz import openapi, raw
from tests.fuzz.door import DEADLINE_S, Door, Request, Wrong, read

TABLES: dict[str, Sequence[Route[Any, Any]]] = {"rest": REST, "docker": DOCKER}
VERSION = {"rest": "/v1/version", "docker": "/version"}
MOST = 12  # containers, before all are removed
LISTEN_S = 0.2  # to what may be half a request
OPEN = 8  # connections with half a request
BOX = {"Image": "busybox", "Cmd": ["cat"], "OpenStdin": True, "StopSignal": "SIGKILL"}


@dataclass
class Callers:
    """`doors`: rest's and docker's. `failed`: where a request goes that was answered wrongly."""

    doors: dict[str, Door]
    busybox: Path  # an archive of the image
    failed: Path = Path("failed.bin")
    exec: str = ""
    sent: int = 0
    open: list[socket] = field(default_factory=list)

    def tables(self, seed: int, *, each: int, until: float = float("inf"), rounds: float = float("inf")) -> int:
        """Call all that is in the tables, `each` times in each mode, until that time or so often; how many calls."""
        calls = [(name, call) for name in TABLES for call in openapi.operations(TABLES[name])]
        before = self.sent
        for n in count():
            random.Random(f"{seed} {n}").shuffle(calls)
            for name, call in calls:
                if n >= rounds or time.monotonic() >= until:
                    return self.sent - before
                self.furnish()
                for request in openapi.requests(call, seed + n, each):
                    self._call(name, request)
        raise AssertionError("there is no last round")

    def refused(self) -> None:
        """What is wrong in a known way is refused, with a word."""
        for name, inputs in raw.REFUSED.items():
            for data in inputs:
                self._say(name, data, refused=True)

    def strangers(self, seed: int, *, until: float = float("inf"), most: float = float("inf")) -> int:
        """Say what is HTTP no more, until that time or so many times; how many."""
        before = self.sent
        streams = {name: raw.inputs(seeds, random.Random(f"{seed} {name}")) for name, seeds in raw.SEEDS.items()}
        rng = random.Random(seed)
        while time.monotonic() < until and self.sent - before < most:
            name = rng.choice(list(streams))
            self._say(name, next(streams[name]).replace(b"an-exec", self.exec.encode()), manner=rng.randrange(4))
            if self.sent % 50 == 0:
                self.furnish()
        return self.sent - before

    def leave(self) -> None:
        """Close all connections, and remove all that is there."""
        while self.open:
            self.open.pop().close()
        self._clear()

    def furnish(self) -> None:
        """Have what openapi.THERE names, and no crowd."""
        for name, target in VERSION.items():
            assert self._ask(name, Request("GET", target)), "hyperd does not answer"
        entries = self._ask("docker", Request("GET", "/containers/json?all=1"))
        states = {entry["Names"][0]: entry["State"] for entry in entries if entry["Names"]}
        if self.exec and len(entries) <= MOST and states.get("/box") == "running" and "/made" in states:
            return
        self._clear()
        if not self._ask("docker", Request("GET", '/images/json?filters={"reference":["busybox"]}')):
            self._ask("docker", Request("POST", "/images/load", body=self.busybox.read_bytes()))
        for name, target, body in (
            ("docker", "/volumes/create", {"Name": "data"}),
            ("docker", "/networks/create", {"Name": "net"}),
            ("docker", "/containers/create?name=made", {"Image": "busybox", "Cmd": ["true"]}),
            ("docker", "/containers/create?name=box", BOX),
            ("docker", "/containers/box/start", {}),
        ):
            self._ask(name, _with(target, body))
        self.exec = self._ask("docker", _with("/containers/box/exec", {"Cmd": ["cat"], "AttachStdin": True}))["Id"]

    def _clear(self) -> None:
        for entry in self._ask("rest", Request("GET", "/v1/pods?all=true")):
            with suppress(Wrong):  # one that removes itself has gone
                self._ask("rest", Request("DELETE", f"/v1/pods/{entry['Id']}?force=true"))
        self._ask("docker", Request("POST", "/networks/prune"))
        self._ask("docker", Request("POST", "/volumes/prune?filters={%22all%22:[%22true%22]}"))

    def _ask(self, name: str, request: Request) -> Any:
        """What is answered to a call of our own: it must succeed."""
        answer = self.doors[name].ask(request)
        if answer is None or answer.status >= 400:
            raise Wrong(f"{request.method} {request.target}: {answer}")
        return json.loads(answer.body) if answer.media_type == "application/json" and answer.body[:1] in b"[{" else None

    def _call(self, name: str, request: Request) -> None:
        request = replace(request, target=request.target.replace("an-exec", self.exec))
        self.sent += 1
        with self._kept(name, request.written()):
            self.doors[name].ask(request)

    def _say(self, name: str, data: bytes, *, refused: bool = False, manner: int = 0) -> None:
        """Send bytes; `manner`: then listen, end our half and listen, stay, leave. `refused`: it must be."""
        self.sent += 1
        sock = self.doors[name].connect()
        self.open.append(sock)
        with self._kept(name, data):
            with suppress(BrokenPipeError, ConnectionResetError):  # it was refused before it was all there
                sock.sendall(data)
            if manner == 1:
                with suppress(OSError):
                    sock.shutdown(SHUT_WR)
            if refused:
                _must_refuse(sock)
            elif manner < 2:
                with suppress(TimeoutError, HTTPException, ConnectionError):  # half a request has no answer
                    method = "HEAD" if data.startswith(b"HEAD ") else ""  # whose answer has no body
                    read(sock, method, LISTEN_S).judge(method)
        if manner != 2 or len(self.open) > OPEN:
            self.open.pop().close()

    @contextmanager
    def _kept(self, name: str, data: bytes) -> Iterator[None]:
        try:
            yield
        except Wrong as e:
            self.failed.write_bytes(data)
            e.add_note(f"said to {name}, and in {self.failed}: {data[:1000]!r}")
            raise


def _must_refuse(sock: socket) -> None:
    try:
        answer = read(sock, "", DEADLINE_S)
    except (TimeoutError, HTTPException, ConnectionError) as e:
        raise Wrong(f"no answer: {e!r}") from e
    answer.judge("")
    if not 400 <= answer.status < 500:
        raise Wrong(f"not refused: {answer}")


def _with(target: str, body: object) -> Request:
    return Request("POST", target, {"Content-Type": "application/json"}, json.dumps(body).encode())
