"""Stand-ins of this host, and the processes that they stand for."""

import asyncio
from typing import Literal

import msgspec

from hypercontainer.agent.streams import InputStream
from hypercontainer.engine import shortage
from hypercontainer.engine.supervisor import Supervisor
from hypercontainer.sandbox import stand_in
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.pod import Pod
from hypercontainer.sandbox.stand_in import StandIn

KILLED = 137


class StandIns:
    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Speak with one that has connected, until it goes. InvalidInput for what is no stand-in."""
        hello = stand_in.read_hello(await stand_in.read_frame(reader))
        if found := self._find(hello.key):
            sink, process = found
            await sink.serve(reader, writer, hello, process)
        else:
            stand_in.dismiss(writer, KILLED)  # what it stood for is gone

    def _find(self, key: str) -> tuple[StandIn, stand_in.Process] | None:
        for pod in self._supervisor.pods.values():
            for container in pod.containers.values():
                for sink in container.output.sinks:
                    if isinstance(sink, StandIn) and sink.record.key == key:
                        return sink, First(pod, container)
                for further in container.further.values():
                    if further.stand_in.record.key == key:
                        return further.stand_in, further
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
        record = self._container.record
        if record.state != "exited" and self._container.exit:
            await asyncio.shield(self._container.exit)
        if record.oom_killed and await self._tell_shortage():
            return record.exit_code | stand_in.OUT_OF_MEMORY
        return record.exit_code

    async def _tell_shortage(self) -> bool:
        """Whether the stand-in's control group is the place to tell it."""
        record = self._container.record
        if not (record.stand_in and record.bundle and record.bundle.cgroup):
            return False
        if await asyncio.to_thread(shortage.leave_little, record.stand_in.process.pid):
            return True
        async with self._pod.locked() as locked:
            await locked.machine.be_apart(record)  # or it would be what ends
        return await asyncio.to_thread(shortage.leave_little, record.stand_in.process.pid)

    async def signal(self, number: int) -> None:
        if self._container.running:
            await self._pod.signal(self._container, number)

    async def resize(self, rows: int, columns: int) -> None:
        if self._container.running or self._container.prepared:
            await self._pod.resize(self._container, rows, columns)
        else:  # from its start on
            record = self._container.record
            record.spec = msgspec.structs.replace(record.spec, rows=rows, columns=columns)

    async def hang_up(self, stream: Literal[1, 2]) -> None:
        if self._container.running or self._container.prepared:
            await self._pod.hang_up(self._container, stream)
