"""What kubectl asks of an API server for exec, attach, cp and port-forward, answered for one pod that is this
machine: the streams are those of hyperd's streaming server, the processes are real ones of here."""

import asyncio
import fcntl
import json
import os
import pty
import socket
import struct
import termios
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from hypercontainer.errors import GuestError
from hypercontainer.hyperd.cri.streaming.forward import Forward
from hypercontainer.hyperd.cri.streaming.remote import Remote
from hypercontainer.hyperd.cri.streaming.server import StreamingServer
from hypercontainer.model.api import Session

PIECE = 1 << 16
POD = {
    "kind": "Pod",
    "apiVersion": "v1",
    "metadata": {"name": "web", "namespace": "default", "uid": "1"},
    "spec": {"containers": [{"name": "main", "image": "x", "stdin": True}]},
    "status": {"phase": "Running", "containerStatuses": [{"name": "main", "ready": True, "state": {"running": {}}}]},
}
RESOURCES = [
    {"name": f"pods{sub}", "kind": kind, "namespaced": True, "verbs": ["get", "create"], "singularName": "pod"}
    for sub, kind in (("", "Pod"), ("/exec", "PodExecOptions"), ("/attach", "PodAttachOptions"))
]
ANSWERS: dict[str, Any] = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": RESOURCES},
    "/api/v1/namespaces/default/pods/web": POD,
}


class LocalProcess:
    """A session with a process of this machine: model.api.Session."""

    timings = ()
    reason = ""
    id = "local"

    def __init__(self, process: asyncio.subprocess.Process, terminal: int = -1) -> None:
        self.process, self._terminal = process, terminal
        self.detached = asyncio.Event()

    @classmethod
    async def start(cls, argv: Sequence[str], *, tty: bool) -> "LocalProcess":
        pipe = asyncio.subprocess.PIPE
        if not tty:
            return cls(await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe))
        ours, theirs = pty.openpty()
        argv = ["setsid", "-c", *argv]
        process = await asyncio.create_subprocess_exec(*argv, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        return cls(process, ours)

    async def __aiter__(self) -> AsyncIterator[tuple[Literal[1, 2], bytes]]:
        pieces: asyncio.Queue[tuple[Literal[1, 2], bytes] | None] = asyncio.Queue(1)

        async def pump(number: Literal[1, 2], stream: asyncio.StreamReader | None) -> None:
            while data := await (stream.read(PIECE) if stream else self._typed()):
                await pieces.put((number, data))
            await pieces.put(None)

        pumps = [asyncio.create_task(pump(1, self.process.stdout))]
        if self._terminal < 0:
            pumps.append(asyncio.create_task(pump(2, self.process.stderr)))
        try:
            left = len(pumps)
            while left:
                if (piece := await pieces.get()) is None:
                    left -= 1
                else:
                    yield piece
        finally:
            for task in pumps:
                task.cancel()

    async def _typed(self) -> bytes:
        with suppress(OSError):  # the terminal of a process that has ended
            return await asyncio.to_thread(os.read, self._terminal, PIECE)
        return b""

    async def write(self, data: bytes) -> None:
        if self._terminal >= 0:
            os.write(self._terminal, data)
            return
        assert self.process.stdin
        self.process.stdin.write(data)
        await self.process.stdin.drain()

    async def close_stdin(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()

    async def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    async def wait(self) -> int:
        status = await self.process.wait()
        return status if status >= 0 else 128 - status

    async def detach(self) -> None:
        if not self.detached.is_set():
            self.detached.set()
            await self.close_stdin()


class Cluster:
    """`server` listens at `url`."""

    def __init__(self, streams: StreamingServer, folder: Path) -> None:
        self.streams, self.folder = streams, folder
        self.url = ""
        self.sessions: list[LocalProcess] = []
        self.upgrades: list[str] = []  # what clients have asked for
        self.attached: Sequence[str] = ()  # the process that an attach is to

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                target = head.split()[1]
                path = urlsplit(target).path
                if stream := await self._stream(path, parse_qs(urlsplit(target).query)):
                    await self._pass(head.replace(target, urlsplit(stream).path, 1), stream, reader, writer)
                    break
                found = ANSWERS.get(path.rstrip("/"))
                body = json.dumps(found or {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404})
                status = "200 OK" if found else "404 Not Found"
                lines = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write((lines + body).encode())
        writer.close()

    async def _stream(self, path: str, query: dict[str, list[str]]) -> str:
        """The address of one, or ""."""
        verb = path.rpartition("/")[2]
        if verb == "portforward":
            return self.streams.forward(Forward(connect=connect, ports=[int(one) for one in query.get("ports", [])]))
        if verb not in ("exec", "attach"):
            return ""
        said = {name: query.get(name) in (["true"], ["True"]) for name in ("stdin", "stdout", "stderr", "tty")}
        argv = query["command"] if verb == "exec" else self.attached

        async def start() -> Session:
            self.sessions.append(made := await LocalProcess.start(argv, tty=said["tty"]))
            return made

        return self.streams.remote(Remote(verb=verb, start=start, **said))

    async def _pass(self, head: str, stream: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """As an API server does that leaves the words to both ends."""
        lines = [line for line in head.split("\r\n") if "rotocol" in line or line.lower().startswith("upgrade:")]
        self.upgrades.append(" ".join(lines))
        where = urlsplit(stream)
        theirs, ours = await asyncio.open_connection(where.hostname, where.port)
        ours.write(head.encode())
        pumps = {asyncio.create_task(copy(*pair)) for pair in ((reader, ours), (theirs, writer))}
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in pumps:
                task.cancel()
            ours.close()

    async def client(self, *argv: str, stdin: bytes | None = b"", env: dict[str, str] | None = None) -> "Done":
        process = await self.begin(*argv, env=env)
        out, err = await process.communicate(stdin)
        return Done(process.returncode or 0, out, err)

    async def begin(self, *argv: str, env: dict[str, str] | None = None) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        given = {**os.environ, "HOME": str(self.folder), **(env or {})}
        return await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe, env=given)

    def kubectl(self, *words: str) -> list[str]:
        return ["kubectl", f"--server={self.url}", "--request-timeout=0", *words]


class Done:
    def __init__(self, status: int, out: bytes, err: bytes) -> None:
        self.status, self.out, self.err = status, out, err

    def __repr__(self) -> str:
        return f"{self.status} {self.out[-2000:]!r} {self.err[-2000:]!r}"


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()


async def connect(port: int) -> socket.socket:
    made = socket.socket()
    made.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
    except OSError as e:
        made.close()
        raise GuestError(f"cannot connect to port {port}: {os.strerror(e.errno or 0)}", e.errno or 0) from e
    except BaseException:
        made.close()
        raise
    return made


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    streams = StreamingServer("tcp://127.0.0.1:0")
    await streams.open()
    made = Cluster(streams, folder)
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    try:
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield made
    finally:
        server.close()
        await streams.close()
        for session in made.sessions:
            with suppress(ProcessLookupError):
                session.process.kill()
            await session.process.wait()
            if session._terminal >= 0:
                os.close(session._terminal)
