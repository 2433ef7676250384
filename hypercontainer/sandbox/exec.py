"""One more process in a container: its streams go to its caller alone, never to the log."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Literal

import msgspec

from hypercontainer.agent.messages import ListedProcess
from hypercontainer.agent.streams import InputStream, OutputStream
from hypercontainer.errors import HyperError
from hypercontainer.lib.trace import Step
from hypercontainer.model import documents as doc
from hypercontainer.model.container import Process
from hypercontainer.model.record import ContainerRecord, Streams
from hypercontainer.model.spec import ExecSpec
from hypercontainer.sandbox import agent_requests
from hypercontainer.vm import Vm

LINGER_S = 1.0  # how long output of what an ended exec left running in the background is still waited for
KEPT = 64  # execs of a pod that do not run, ended or never started, which are still known

Piece = tuple[Literal[1, 2], bytes]


class Exec:
    """Known from before its start until its container is removed, or 64 others have ended after it."""

    def __init__(
        self,
        id: str,
        container: ContainerRecord | None,
        spec: ExecSpec | None = None,
        process: Process | None = None,
        *,
        vm: Vm | None = None,
    ) -> None:
        self.id, self.container, self.spec, self.process = id, container, spec, process
        self.exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.reason = ""  # why it was ended, when its status alone does not tell
        self.pid = 0
        self.stdin: InputStream | None = None
        self.outputs: list[tuple[Literal[1, 2], OutputStream]] = []
        self.numbers: list[int] = []  # of those
        self.abandoned = spec is not None and spec.detach  # nobody will ask for its end
        self.started = spec is None
        self._vm = vm

    @property
    def running(self) -> bool:
        return self.started and not self.exit.done()

    @classmethod
    async def orphan(cls, vm: Vm, process: ListedProcess) -> "Exec":
        """One that outlived the hyperd that started it: nobody will read what it says."""
        self = cls(process.id, None, vm=vm)
        self.pid, self.abandoned = process.pid, True
        for stream in (process.streams.stdout, process.streams.stderr):
            if stream:
                vm.agent.stop(stream)
        if not process.running:
            self.ended(process.status)
            await self.forget()
        return self

    async def start(self, vm: Vm) -> None:
        """Once. ExecFailed's cause, GuestError, is raised before anything ran."""
        assert self.container and self.spec and self.process  # noqa: S101  only orphans have none
        spec, self.started = self.spec, True
        first = vm.agent.new_streams(3)
        attached = not self.abandoned
        streams = Streams(
            stdin=first if spec.open_stdin and attached else 0,
            stdout=first + 1 if spec.stdout and attached else 0,
            stderr=first + 2 if spec.stderr and attached and not spec.tty else 0,
        )
        self._connect(vm, streams)
        request = agent_requests.exec_process(
            self.container.id, self.id, self.process, streams, rows=spec.rows, columns=spec.columns
        )
        self.pid = (await vm.agent.start_process(request)).pid

    def take_up(self, vm: Vm, process: ListedProcess, offsets: tuple[int, int]) -> None:
        """One that outlived the hyperd that started it, whose output somebody has up to there."""
        streams = process.streams
        self.pid = process.pid
        self._connect(vm, Streams(stdin=streams.stdin, stdout=streams.stdout, stderr=streams.stderr), offsets)

    def _connect(self, vm: Vm, streams: Streams, offsets: tuple[int, int] = (0, 0)) -> None:
        self._vm = vm
        if streams.stdin:
            self.stdin = vm.agent.input(streams.stdin)
        kinds: list[tuple[Literal[1, 2], int]] = [(1, streams.stdout), (2, streams.stderr)]
        self.outputs = [(kind, vm.agent.output(stream, offsets[kind - 1])) for kind, stream in kinds if stream]
        self.numbers = [stream for _, stream in kinds if stream]

    def ended(self, status: int, reason: str = "") -> None:
        if not self.exit.done():
            self.reason = reason
            self.exit.set_result(status)

    def lost(self, error: HyperError) -> None:
        if not self.exit.done():
            self.exit.set_exception(error)
            self.exit.exception()  # nobody may be waiting: that is fine

    async def abandon(self) -> None:
        """Nobody reads on. The process runs on; one that writes finds its pipe emptied by no one but the guest."""
        if self.stdin:
            self.stdin.close()
        if self.exit.done():
            await self.forget()
            return
        self.abandoned = True
        for number in self.numbers:
            if self._vm:
                self._vm.agent.stop(number)

    async def forget(self) -> None:
        """The guest need not keep its status; once it has ended."""
        if self._vm:
            try:
                await self._vm.agent.forget_process(self.id)
            except HyperError:
                pass  # the guest is going away, and its memory with it

    async def signal(self, number: int, *, group: bool = False) -> None:
        """`group`: also what it has started, as far as that has made no group of its own."""
        if self._vm and not self.exit.done():
            try:
                await self._vm.agent.signal_process(self.id, number, group=group)
            except HyperError:
                pass  # it ended first

    async def hang_up(self, stream: Literal[1, 2]) -> None:
        """Nobody will read that, and it is to know."""
        for kind, number in zip([kind for kind, _ in self.outputs], self.numbers, strict=True):
            if kind == stream and self._vm:
                with suppress(HyperError):  # the guest is going away
                    await self._vm.agent.hang_up_process(self.id, number)

    def document(self) -> doc.Exec:
        spec = self.spec
        return doc.Exec(
            id=self.id,
            container_id=self.container.id if self.container else "",
            running=self.running,
            exit_code=self.exit.result() if self.exit.done() and not self.exit.exception() else None,
            pid=self.pid,
            tty=bool(spec and spec.tty),
            open_stdin=bool(spec and spec.open_stdin),
            open_stdout=bool(spec and spec.stdout),
            open_stderr=bool(spec and spec.stderr),
            privileged=bool(spec and spec.privileged),
            detach_keys=spec.detach_keys if spec else "",
            command=spec.command if spec else [],
        )

    async def resize(self, rows: int, columns: int) -> None:
        if not self.started and self.spec:
            self.spec = msgspec.structs.replace(self.spec, rows=rows, columns=columns)
        elif self._vm and not self.exit.done():
            try:
                await self._vm.agent.resize_process(self.id, rows, columns)
            except HyperError:
                pass  # it ended first


class ExecSession:
    """See model.api.Session."""

    timings: Sequence[Step] = ()

    def __init__(self, exec_: Exec) -> None:
        self._exec = exec_
        self._left = False

    @property
    def id(self) -> str:
        return self._exec.id

    @property
    def reason(self) -> str:
        return self._exec.reason

    async def __aiter__(self) -> AsyncIterator[Piece]:
        news, streams = asyncio.Event(), dict(self._exec.outputs)
        for stream in streams.values():
            stream.tell(news)

        def tell(_: object) -> None:
            news.set()

        self._exec.exit.add_done_callback(tell)
        try:
            while streams and await _heard(news, self._exec.exit):
                news.clear()
                for kind, stream in list(streams.items()):
                    data = _ready(stream)
                    if data:
                        yield kind, data
                        stream.consumed(len(data))
                        news.set()  # its end may have come with it
                    elif data is not None:
                        del streams[kind]
        finally:
            self._exec.exit.remove_done_callback(tell)

    async def write(self, data: bytes) -> None:
        if self._exec.stdin is None:
            raise BrokenPipeError("it has no stdin")
        await self._exec.stdin.write(data)

    async def close_stdin(self) -> None:
        if self._exec.stdin:
            self._exec.stdin.close()

    async def signal(self, number: int) -> None:
        await self._exec.signal(number)

    async def resize(self, rows: int, columns: int) -> None:
        await self._exec.resize(rows, columns)

    async def wait(self) -> int:
        return await asyncio.shield(self._exec.exit)

    async def detach(self) -> None:
        """Its client is gone: nobody reads on. The process runs on; one that writes meets a closed pipe."""
        if self._left:
            return
        self._left = True
        await self._exec.abandon()


def _ready(stream: OutputStream) -> bytes | None:
    try:
        return stream.ready()
    except HyperError:
        return b""  # the guest is gone: `wait` tells


async def _heard(news: asyncio.Event, ended: "asyncio.Future[int]") -> bool:
    """Wait for news. Once the process has ended, silence is taken for the end, False: what it left in the background
    may hold the pipe open for ever."""
    if news.is_set() or not ended.done():
        return await news.wait()
    try:
        async with asyncio.timeout(LINGER_S):
            return await news.wait()
    except TimeoutError:
        return False
