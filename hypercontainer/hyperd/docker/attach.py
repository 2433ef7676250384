"""/containers/{c}/attach and attach/ws: a client at the streams of a container's first process."""

from collections.abc import AsyncGenerator
from typing import Any

from msgspec.structs import replace

from hypercontainer.hyperd.docker import detach, streams, versions
from hypercontainer.hyperd.docker.call import Query, container
from hypercontainer.hyperd.http.attached import Attached
from hypercontainer.hyperd.http.call import Call, Upgrade
from hypercontainer.model.documents import LogEntry
from hypercontainer.model.state import State

BEFORE: tuple[State, ...] = ("created", "exited", "restarting")  # its start comes, and is waited for

NAMED = versions.Version(1, 42)  # a websocket's streams are those that are asked for


class AttachQuery(Query, frozen=True, kw_only=True):
    stream: bool = False
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    logs: bool = False
    detachKeys: str = ""  # noqa: N815  its name there


async def attach(call: Call[AttachQuery, bytes]) -> Upgrade:
    return await _upgrade(call, call.query, mux=True)


async def websocket(call: Call[AttachQuery, None]) -> Upgrade:
    """The same, without frames: both streams come as one. Before 1.42, all three were attached, whatever was asked."""
    all_three = versions.of(call) < NAMED
    q = replace(call.query, stdin=True, stdout=True, stderr=True) if all_three else call.query
    return await _upgrade(call, q, mux=False)


async def _upgrade(call: Call[AttachQuery, Any], q: AttachQuery, *, mux: bool) -> Upgrade:
    version, keys = versions.of(call), detach.keys(q.detachKeys)
    config = (found := await call.engine.containers.inspect(container(call))).config
    stdin = q.stdin and q.stream and config.open_stdin
    framing = streams.DockerStream(
        version, upgraded=bool(call.upgrade), tty=config.tty, stdin=stdin, keys=keys, mux=mux
    )
    if not q.stream:
        return Upgrade(streams.Written(found.id, await _past(call, q, found.id)), framing, stdin=False)
    session = await call.engine.containers.attach(
        found.id, stdin=stdin, stdout=q.stdout, stderr=q.stderr, logs=q.logs, before=BEFORE
    )
    once = config.stdin_once and not config.tty
    return Upgrade(Attached(session, once=stdin and once), framing, stdin=stdin)


async def _past(call: Call[AttachQuery, Any], q: AttachQuery, id: str) -> AsyncGenerator[LogEntry, None]:
    """What was written until now, of the streams that are asked for."""
    if not (q.logs and (q.stdout or q.stderr)):
        return nothing()
    return await call.engine.containers.logs(
        id, follow=False, since_ns=None, until_ns=None, tail=None, stdout=q.stdout, stderr=q.stderr
    )


async def nothing() -> AsyncGenerator[LogEntry, None]:
    return
    yield
