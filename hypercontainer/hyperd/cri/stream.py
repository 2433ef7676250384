"""Exec, Attach and PortForward: the answer is where a client finds the stream, which is made when it comes."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from hypercontainer.errors import InvalidInput, WrongState
from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri.service import Call
from hypercontainer.hyperd.cri.streaming.forward import Forward, check
from hypercontainer.hyperd.cri.streaming.remote import Remote
from hypercontainer.hyperd.cri.streaming.server import StreamingServer
from hypercontainer.hyperd.http.attached import Attached
from hypercontainer.model.api import Engine, Session
from hypercontainer.model.kube import KubeContainerState
from hypercontainer.model.spec import ExecSpec


class Streams:
    def __init__(self, engine: Engine, server: StreamingServer) -> None:
        self._kube, self._server = engine.kube, server

    def calls(self) -> Mapping[str, Call]:
        return {"Exec": self.exec, "Attach": self.attach, "PortForward": self.forward}

    async def exec(self, request: pb.ExecRequest) -> pb.ExecResponse:
        if not request.cmd:
            raise InvalidInput("cannot exec nothing: give a command")
        found = await self._running("exec in", request.container_id)
        spec = ExecSpec(
            command=list(request.cmd),
            tty=request.tty,
            open_stdin=request.stdin,
            stdout=request.stdout,
            stderr=request.stderr,
        )
        return pb.ExecResponse(url=self._server.remote(_remote("exec", request, partial(self._exec, found.id, spec))))

    async def _exec(self, container: str, spec: ExecSpec) -> Session:
        return await self._kube.exec(container, spec)

    async def attach(self, request: pb.AttachRequest) -> pb.AttachResponse:
        found = await self._running("attach to", request.container_id)
        start = partial(self._attach, found, stdin=request.stdin, stdout=request.stdout, stderr=request.stderr)
        return pb.AttachResponse(url=self._server.remote(_remote("attach", request, start)))

    async def _attach(self, container: KubeContainerState, *, stdin: bool, stdout: bool, stderr: bool) -> Session:
        session = await self._kube.attach(container.id, stdin=stdin, stdout=stdout, stderr=stderr)
        return Attached(session, once=stdin and container.stdin_once)

    async def _running(self, verb: str, id: str) -> KubeContainerState:
        found = await self._kube.container(id)
        if found.state != "running":
            raise WrongState(verb, id, found.state)
        return found

    async def forward(self, request: pb.PortForwardRequest) -> pb.PortForwardResponse:
        found = await self._kube.state(request.pod_sandbox_id)
        if not found.ready:
            raise WrongState("forward ports of", request.pod_sandbox_id, "not ready", "its machine has ended")
        ports = [check(port) for port in request.port]
        wanted = Forward(connect=partial(self._kube.connect, found.id), ports=ports)
        return pb.PortForwardResponse(url=self._server.forward(wanted))


def _remote(verb: str, request: pb.ExecRequest | pb.AttachRequest, start: Callable[[], Awaitable[Session]]) -> Remote:
    return Remote(
        verb=verb,
        start=start,
        stdin=request.stdin,
        stdout=request.stdout,
        stderr=request.stderr,
        tty=request.tty,
    )
