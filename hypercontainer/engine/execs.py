"""The use cases of execs. model.api.Execs says what each promises."""

from hypercontainer.engine import config
from hypercontainer.engine.supervisor import Supervisor
from hypercontainer.errors import InvalidInput, NotFound
from hypercontainer.model import documents as doc
from hypercontainer.model.spec import ExecSpec
from hypercontainer.sandbox.exec import Exec, ExecSession
from hypercontainer.sandbox.pod import Pod


class Execs:
    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor

    async def create(self, c: str, spec: ExecSpec) -> str:
        pod, container = self.supervisor.find_running(c, "exec in")
        if not spec.command or not spec.command[0]:
            raise InvalidInput("cannot exec nothing: give a command")
        process = config.exec_process(container.record.config.process, spec)
        return pod.add_exec(container, spec, process).id

    async def start(self, id: str, *, detach: bool = False) -> ExecSession | None:
        pod, exec_ = self._find(id)
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
