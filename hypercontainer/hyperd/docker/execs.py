"""/containers/{c}/exec and /exec: one more process in a container that runs, created and started by a call each."""

from typing import Any

from hypercontainer.errors import InvalidInput, NotFound, WrongState
from hypercontainer.hyperd.docker import detach, spec, streams, versions
from hypercontainer.hyperd.docker.call import Body, Nothing, container
from hypercontainer.hyperd.docker.containers import ResizeQuery
from hypercontainer.hyperd.docker.inspect import Document
from hypercontainer.hyperd.http.call import Answer, Call, Upgrade
from hypercontainer.model import documents as doc
from hypercontainer.model.ids import NAME
from hypercontainer.model.spec import ExecSpec


class ExecConfig(Body, frozen=True, kw_only=True):
    cmd: list[str] | str | None = None
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    tty: bool = False
    env: list[str] = []
    user: str = ""
    working_dir: str = ""
    privileged: bool = False
    detach_keys: str = ""
    console_size: list[int] = []  # rows, columns


class ExecStart(Body, frozen=True, kw_only=True):
    detach: bool = False
    tty: bool = False
    console_size: list[int] = []


class Created(doc.Document, frozen=True, kw_only=True):
    id: str


def exec_id(call: Call[Any, Any]) -> str:
    if not NAME.fullmatch(id := call.names["e"]):
        raise NotFound("exec", id[:140])
    return id


async def create(call: Call[Nothing, ExecConfig]) -> Created:
    body = call.body
    command = [body.cmd] if isinstance(body.cmd, str) else body.cmd
    if not command or not command[0]:
        raise InvalidInput("No exec command specified")
    detach.keys(body.detach_keys)
    rows, columns = spec.size(body.console_size)
    wanted = ExecSpec(
        command=command,
        env=body.env,
        working_dir=body.working_dir or None,
        user=body.user or None,
        tty=body.tty,
        open_stdin=body.attach_stdin,
        stdout=body.attach_stdout,
        stderr=body.attach_stderr,
        privileged=body.privileged,
        detach_keys=body.detach_keys,
        rows=rows,
        columns=columns,
    )
    return Created(id=await call.engine.execs.create(container(call), wanted))


async def start(call: Call[Nothing, ExecStart]) -> Upgrade | Answer:
    """Its streams, or with Detach nothing. It is started once the head of the answer is sent: what it could not be
    started for is said in the stream, as by dockerd."""
    version, id = versions.of(call), exec_id(call)
    known = await call.engine.execs.inspect(id)
    rows, columns = spec.size(call.body.console_size)
    if rows and columns:
        await call.engine.execs.resize(id, rows, columns)
    if call.body.detach:
        await call.engine.execs.start(id, detach=True, first_steps_s=streams.FIRST_STEPS_S)
        return Answer(status=200)
    if known.running or known.exit_code is not None:
        raise WrongState("start exec", id, "started")
    stdin, tty = known.open_stdin, call.body.tty  # whether there are frames is said by the start, as with dockerd
    keys = detach.keys(known.detach_keys) if known.tty else b""
    framing = streams.DockerStream(version, upgraded=bool(call.upgrade), tty=tty, stdin=stdin, keys=keys)
    return Upgrade(streams.Starting(call.engine, id), framing, stdin=stdin)


async def show(call: Call[Nothing, None]) -> Document:
    found = await call.engine.execs.inspect(exec_id(call))
    return {
        "ID": found.id,
        "Running": found.running,
        "ExitCode": found.exit_code,
        "ProcessConfig": {
            "tty": found.tty,
            "entrypoint": found.command[0] if found.command else "",
            "arguments": found.command[1:],
            "privileged": found.privileged,
        },
        "OpenStdin": found.open_stdin,
        "OpenStderr": found.open_stderr,
        "OpenStdout": found.open_stdout,
        "CanRemove": False,  # as of all that are there to be asked
        "ContainerID": found.container_id,
        "DetachKeys": found.detach_keys,
        "Pid": found.pid,
    }


async def resize(call: Call[ResizeQuery, bytes]) -> Answer:
    await call.engine.execs.resize(exec_id(call), call.query.h, call.query.w)
    return Answer(status=200)
