"""The use cases of execs. model.api.Execs says what each promises."""

import asyncio
from contextlib import suppress

from msgspec.structs import replace

from hypercontainer.engine import config
from hypercontainer.engine.supervisor import Supervisor
from hypercontainer.errors import HyperError, InvalidInput, NotFound
from hypercontainer.lib import clock
from hypercontainer.model import documents as doc
from hypercontainer.model.record import ContainerRecord
from hypercontainer.model.spec import ExecSpec
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.exec import Exec, ExecSession
from hypercontainer.sandbox.pod import Pod

BUSY = "RD"  # states of a process that comes to do something, as ps has them
LOOK_EVERY_S = 0.01


class Execs:
    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor

    async def create(self, c: str, spec: ExecSpec) -> str:
        pod, container = self.supervisor.find_running(c, "exec in")
        return added(self.supervisor, pod, container, spec).id

    async def start(self, id: str, *, detach: bool = False, first_steps_s: float = 0.0) -> ExecSession | None:
        pod, exec_ = self._find(id)
        if exec_.container:
            await _first_steps(pod, exec_.container, first_steps_s)
        await pod.start_exec(exec_, detach=detach)
        return None if exec_.abandoned else ExecSession(exec_)

    async def inspect(self, id: str) -> doc.Exec:
        return self._find(id)[1].document()

    async def resize(self, id: str, rows: int, columns: int) -> None:
        await self._find(id)[1].resize(rows, columns)

    def _find(self, id: str) -> tuple[Pod, Exec]:
        for pod in self.supervisor.pods.values():
            if id in pod.execs:
                return pod, pod.execs[id]
        raise NotFound("exec", id)


def added(supervisor: Supervisor, pod: Pod, container: Container, spec: ExecSpec) -> Exec:
    """What `spec` asks for, to be in a container that runs."""
    if not spec.command or not spec.command[0]:
        raise InvalidInput("cannot exec nothing: give a command")
    first = container.record.config.process
    linked = supervisor.linked(pod.record, container.record)
    process = config.exec_process(replace(first, env=[*linked, *first.env]), spec)
    return pod.add_exec(container, spec, process)


async def _first_steps(pod: Pod, container: ContainerRecord, within_s: float) -> None:
    """Wait until all in it rests, or `within_s` have passed since its start."""
    left_s = within_s - (clock.now_ns() - container.started_ns) / 1e9
    if not 0 < left_s <= within_s:
        return
    with suppress(TimeoutError, HyperError):  # whatever is wrong with it the start of the exec says
        async with asyncio.timeout(left_s):
            while await _busy(pod, container):  # noqa: ASYNC110  no guest tells of it
                await asyncio.sleep(LOOK_EVERY_S)


async def _busy(pod: Pod, container: ContainerRecord) -> bool:
    table = await pod.machine.running().agent.container_processes(container.id)
    return any(process.state[:1] in BUSY for process in table.processes)
