"""Connections that are taken over in this dialect: frames or raw bytes, and what the end of a client's input means."""

import asyncio
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from typing import Literal

from hypercontainer.errors import GuestError, HyperError, NotFound
from hypercontainer.hyperd.docker import versions
from hypercontainer.hyperd.docker.detach import Watch
from hypercontainer.hyperd.docker.errors import message, not_run
from hypercontainer.hyperd.docker.versions import Version
from hypercontainer.hyperd.http.framing import Detach, Word
from hypercontainer.lib.tasks import uninterrupted
from hypercontainer.lib.trace import Step
from hypercontainer.model.api import Engine, Session
from hypercontainer.model.documents import LogEntry

HEADER = struct.Struct(">BxxxI")  # stream, length
RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
SINCE = Version(1, 42)  # the two have names of their own
STDERR = 2
# Clients start a program and exec at once what needs its first steps: an exec of dockerd's takes longer than they do.
# Here it waits for them, within this time from the start on.
FIRST_STEPS_S = 1.0


def frame(stream: int, data: bytes) -> bytes:
    return HEADER.pack(stream, len(data)) + data


def media_type(version: Version, *, tty: bool) -> str:
    """Of a connection that carries the streams of a process."""
    return RAW if tty or version < SINCE else MULTIPLEXED


class DockerStream:
    """The framing of one connection: a terminal's bytes as they are, else frames that name their stream.

    `keys`: what a terminal's client types to leave; b"" where there is nothing to look for. `mux` False: no frames, of
    whatever it is."""

    head_alone = True  # docker-py reads it with a buffer that it throws away
    half_closes = True

    def __init__(
        self, version: Version, *, upgraded: bool, tty: bool, stdin: bool, keys: bytes = b"", mux: bool = True
    ) -> None:
        kind = media_type(version, tty=tty)
        status = "101 UPGRADED" if upgraded else "200 OK"
        upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n" if upgraded else "Connection: close\r\n"
        common = "".join(f"{name}: {value}\r\n" for name, value in versions.HEADERS.items())
        self.head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{upgrade}{common}\r\n".encode()
        self._framed, self._stdin = mux and not tty, stdin
        self._watch = Watch(keys) if tty and keys else None

    def read(self, data: bytes) -> Iterator[Word]:
        if not self._stdin:  # nobody asked for it
            return
        if self._watch is None:
            yield data
            return
        data, left = self._watch.feed(data)
        yield data
        if left:
            yield Detach()

    def begin(self, session: Session) -> bytes:
        return b""

    def output(self, stream: int, data: bytes) -> bytes:
        return frame(stream, data) if self._framed else data

    def end(self, status: int, reason: str) -> bytes:
        return b""  # clients ask for it

    def error(self, error: HyperError) -> bytes:
        """The last words, on stderr. A container that was removed before it ran has none; nor has one that could not be
        started, for that is said to who asked for its start."""
        return (
            b"" if isinstance(error, NotFound | GuestError) else self.output(STDERR, f"{message(error)}\r\n".encode())
        )


class Starting:
    """The session of an exec that is started when its streams are first asked for: what goes wrong then is said in
    them, as by dockerd."""

    timings: Sequence[Step] = ()

    def __init__(self, engine: Engine, id: str) -> None:
        self._engine, self.id = engine, id
        self._started: asyncio.Future[Session] = asyncio.get_running_loop().create_future()
        self._failed: GuestError | None = None

    async def _session(self) -> Session:
        return await asyncio.shield(self._started)

    @property
    def reason(self) -> str:
        return self._started.result().reason if self._started.done() and not self._failed else ""

    async def __aiter__(self) -> AsyncIterator[tuple[Literal[1, 2], bytes]]:
        try:
            session = await uninterrupted(self._start())
        except GuestError as e:
            self._failed = e
            yield 1, f"{not_run(e)}\r\n".encode()
            return
        async for piece in session:
            yield piece

    async def _start(self) -> Session:
        session = await self._engine.execs.start(self.id, first_steps_s=FIRST_STEPS_S)
        assert session is not None  # noqa: S101  it is not detached
        self._started.set_result(session)
        return session

    async def write(self, data: bytes) -> None:
        await (await self._session()).write(data)

    async def close_stdin(self) -> None:
        await (await self._session()).close_stdin()

    async def signal(self, number: int) -> None:
        await (await self._session()).signal(number)

    async def resize(self, rows: int, columns: int) -> None:
        await (await self._session()).resize(rows, columns)

    async def wait(self) -> int:
        if self._failed:
            return (await self._engine.execs.inspect(self.id)).exit_code or 0
        return await (await self._session()).wait()

    async def detach(self) -> None:
        """One that was not started yet never is."""
        if self._started.done():
            await self._started.result().detach()
        self._started.cancel()


class Written:
    """A session of what was written until now, and of no process: it has ended."""

    timings: Sequence[Step] = ()
    reason = ""

    def __init__(self, id: str, entries: AsyncGenerator[LogEntry, None]) -> None:
        self.id, self._entries = id, entries

    async def __aiter__(self) -> AsyncIterator[tuple[Literal[1, 2], bytes]]:
        async for entry in self._entries:
            yield entry.stream, entry.data

    async def write(self, data: bytes) -> None:
        raise BrokenPipeError("nothing reads it")

    async def close_stdin(self) -> None:
        pass

    async def signal(self, number: int) -> None:
        pass

    async def resize(self, rows: int, columns: int) -> None:
        pass

    async def wait(self) -> int:
        return 0

    async def detach(self) -> None:
        await self._entries.aclose()
