"""Stand-ins of this host, and the processes that they stand for."""

import asyncio

import msgspec

from hypercontainer.agent.streams import InputStream, OutputStream
from hypercontainer.engine.supervisor import Supervisor
from hypercontainer.errors import HyperError
from hypercontainer.model.record import StandInRecord
from hypercontainer.sandbox import stand_in
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.exec import Exec
from hypercontainer.sandbox.pod import Pod
from hypercontainer.sandbox.stand_in import StandIn

KILLED = 137


class StandIns:
    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._execs: dict[str, Further] = {}  # by the key of whoever stands for it

    def add(self, record: StandInRecord, exec_: Exec) -> "Further":
        """`record` stands for an exec that has just been started."""
        further = self._execs[record.key] = Further(StandIn(record, None), exec_)
        return further

    def of(self, container: Container) -> list[int]:
        """Pids of those that stand for execs in it."""
        return [
            further.stand_in.record.process.pid
            for further in self._execs.values()
            if further.exec.container is container.record and further.exec.running
        ]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Speak with one that has connected, until it goes. InvalidInput for what is no stand-in."""
        hello = stand_in.read_hello(await stand_in.read_frame(reader))
        if further := self._execs.get(hello.key):
            try:
                await further.stand_in.serve(reader, writer, hello, further)
            finally:
                if further.exec.exit.done():
                    self._execs.pop(hello.key, None)
        elif found := self._find(hello.key):
            pod, container = found
            [sink] = [sink for sink in container.output.sinks if isinstance(sink, StandIn)]
            await sink.serve(reader, writer, hello, First(pod, container))
        else:
            stand_in.dismiss(writer, KILLED)  # what it stood for is gone

    def _find(self, key: str) -> tuple[Pod, Container] | None:
        for pod in self._supervisor.pods.values():
            for container in pod.containers.values():
                if (record := container.record.stand_in) and record.key == key:
                    return pod, container
        return None


class First:
    """The first process of a container."""

    def __init__(self, pod: Pod, container: Container) -> None:
        self._pod, self._container = pod, container

    @property
    def stdin(self) -> InputStream | None:
        return self._container.stdin

    async def begun(self) -> None:
        if self._container.record.state == "created" and self._container.exit is None:
            await asyncio.shield(self._container.next)

    async def wait(self) -> int:
        if self._container.record.state == "exited" or self._container.exit is None:
            return self._container.record.exit_code
        return await asyncio.shield(self._container.exit)

    async def signal(self, number: int) -> None:
        if self._container.running:
            await self._pod.signal(self._container, number)

    async def resize(self, rows: int, columns: int) -> None:
        if self._container.running:
            await self._pod.resize(self._container, rows, columns)
        else:  # from its start on
            record = self._container.record
            record.spec = msgspec.structs.replace(record.spec, rows=rows, columns=columns)


class Further:
    """One more."""

    def __init__(self, of: StandIn, exec_: Exec) -> None:
        self.stand_in, self.exec = of, exec_
        self.stand_in.open(1)
        self._pumps = [asyncio.ensure_future(self._pump(kind, stream)) for kind, stream in exec_.outputs]

    async def _pump(self, kind: int, stream: OutputStream) -> None:
        try:
            while data := await stream.read():
                await self.stand_in.write(kind, data, 0)
                stream.consumed(len(data))
        except HyperError:
            pass  # the guest is gone: `wait` tells

    @property
    def stdin(self) -> InputStream | None:
        return self.exec.stdin

    async def begun(self) -> None:
        pass

    async def ended(self) -> int:
        return await asyncio.shield(self.exec.exit)

    def release(self) -> None:
        self.stand_in.release()

    async def wait(self) -> int:
        status = await asyncio.shield(self.exec.exit)
        await asyncio.wait(self._pumps, timeout=stand_in.LINGER_S)
        await self.exec.forget()
        return status

    async def signal(self, number: int) -> None:
        await self.exec.signal(number)

    async def resize(self, rows: int, columns: int) -> None:
        await self.exec.resize(rows, columns)
