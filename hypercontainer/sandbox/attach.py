"""A client at the streams of a container's first process."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Literal

from hypercontainer.agent.streams import InputStream
from hypercontainer.lib.trace import Step
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.log import Reader, Wanted
from hypercontainer.sandbox.logs import log_of, past
from hypercontainer.sandbox.pod import Pod

Piece = tuple[Literal[1, 2], bytes]


class AttachSession:
    """See model.api.Session. Made before the container starts, it misses no byte."""

    timings: Sequence[Step] = ()

    def __init__(self, pod: Pod, container: Container, streams: set[int], *, stdin: bool) -> None:
        self._pod, self._container, self._stdin = pod, container, stdin
        self._listener = container.output.listen(streams)
        self._log: Reader | None = None
        self._exit: asyncio.Future[int] | None = None
        self._input: InputStream | None = None
        self._begun: asyncio.Future[asyncio.Future[int]] | None = None
        self.reason = ""

    @property
    def id(self) -> str:
        return self._container.record.id

    def begin_with_log(self) -> None:
        """What was written until now comes first. NoLog when nothing of that is kept."""
        log = log_of(self._container, "begin with the log of")
        self._log = Reader(log, Wanted(frozenset(self._listener.streams)))

    def started(self, timings: Sequence[Step]) -> None:
        """The run that this session belongs to has begun."""
        self._exit = self._container.exit
        self._input = self._container.stdin
        self.timings = timings

    def expect_start(self) -> None:
        """The run that this session belongs to is the container's next."""
        self._begun = self._container.next
        self._begun.add_done_callback(self._begin)

    def _begin(self, begun: "asyncio.Future[asyncio.Future[int]]") -> None:
        if not begun.cancelled() and begun.exception() is None:
            self._exit, self._input = begun.result(), self._container.stdin

    async def _start(self) -> None:
        """Wait for the run. NotFound when the container was removed before."""
        if self._begun and self._exit is None:
            await asyncio.shield(self._begun)

    async def __aiter__(self) -> AsyncIterator[Piece]:
        if self._log:
            async for entry in past(self._log):
                yield entry.stream, entry.data
            self._log.close()
        async for kind, data in self._listener:
            yield kind, data

    async def write(self, data: bytes) -> None:
        if self._stdin:
            await self._start()
        if not self._stdin or self._input is None:
            raise BrokenPipeError("it has no stdin")
        await self._input.write(data)

    async def close_stdin(self) -> None:
        if self._stdin:
            await self._start()
            if self._input:
                self._input.close()

    async def signal(self, number: int) -> None:
        if self._container.running:
            await self._pod.signal(self._container, number)

    async def resize(self, rows: int, columns: int) -> None:
        if self._container.running:
            await self._pod.resize(self._container, rows, columns)

    async def wait(self) -> int:
        record = self._container.record
        await self._start()
        status = await asyncio.shield(self._exit) if self._exit else record.exit_code
        self.reason = record.error if record.oom_killed else ""
        if self._exit is None:
            return status
        if record.spec.auto_remove:
            await self._container.left.wait()  # its name and its volumes are free again, as with docker
        return status

    async def detach(self) -> None:
        if self._begun:
            self._begun.remove_done_callback(self._begin)
        self._container.output.forget(self._listener)
        if self._log:
            self._log.close()
