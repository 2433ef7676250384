"""What flows out of a container and into it: logs, stats, attach, archives."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any

import msgspec

from hypercontainer.errors import InvalidInput, NotFound, WrongState
from hypercontainer.hyperd.http.call import Call, Upgrade
from hypercontainer.hyperd.rest.call import Nothing, Query, Time
from hypercontainer.hyperd.rest.frames import PROTOCOL, HyperStream
from hypercontainer.lib.clock import nanoseconds
from hypercontainer.model import documents as doc
from hypercontainer.model.api import Engine
from hypercontainer.model.state import State

SAMPLE_EVERY_S = 1.0
CREATED: tuple[State, ...] = ("created",)


class LogsQuery(Query, frozen=True, kw_only=True):
    follow: bool = False
    since: Time = ""
    until: Time = ""
    tail: Annotated[int, msgspec.Meta(ge=0, le=10_000_000)] | None = None  # lines; None = all
    stdout: bool | None = None
    stderr: bool | None = None


class StatsQuery(Query, frozen=True, kw_only=True):
    stream: bool = False  # one sample a second; else one


class AttachQuery(Query, frozen=True, kw_only=True):
    start: bool = False
    stdin: bool = False
    stdout: bool | None = None
    stderr: bool | None = None
    logs: bool = False
    created: bool = False  # one that was never started will do: its first start is waited for


class ArchiveQuery(Query, frozen=True, kw_only=True):
    path: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


def _outputs(stdout: bool | None, stderr: bool | None) -> tuple[bool, bool]:
    """Who names neither wants both; who names one wants that."""
    return (True, True) if stdout is None and stderr is None else (bool(stdout), bool(stderr))


def must_upgrade(call: Call[Any, Any]) -> None:
    if call.upgrade != PROTOCOL:
        raise InvalidInput(f"this call answers with a stream: send Connection: Upgrade and Upgrade: {PROTOCOL}")


async def logs(call: Call[LogsQuery, None]) -> AsyncGenerator[doc.LogEntry, None]:
    q = call.query
    stdout, stderr = _outputs(q.stdout, q.stderr)
    return await call.engine.containers.logs(
        call.name("c"),
        follow=q.follow,
        since_ns=nanoseconds(q.since),
        until_ns=nanoseconds(q.until),
        tail=q.tail,
        stdout=stdout,
        stderr=stderr,
    )


async def stats(call: Call[StatsQuery, None]) -> AsyncGenerator[doc.Stats, None]:
    first = await call.engine.containers.stats(call.name("c"))
    return _samples(call.engine, first, endless=call.query.stream)


async def _samples(engine: Engine, first: doc.Stats, *, endless: bool) -> AsyncGenerator[doc.Stats, None]:
    yield first
    while endless:
        await asyncio.sleep(SAMPLE_EVERY_S)
        try:
            sample = await engine.containers.stats(first.id)
        except (NotFound, WrongState):  # it has ended, and so does this
            return
        yield sample


async def attach(call: Call[AttachQuery, None]) -> Upgrade:
    must_upgrade(call)
    q = call.query
    stdout, stderr = _outputs(q.stdout, q.stderr)
    session = await call.engine.containers.attach(
        call.name("c"),
        stdin=q.stdin,
        stdout=stdout,
        stderr=stderr,
        logs=q.logs,
        start=q.start,
        before=CREATED if q.created else (),
    )
    return Upgrade(session, HyperStream(), stdin=q.stdin)


async def archive_get(call: Call[ArchiveQuery, None]) -> AsyncGenerator[bytes, None]:
    return await call.engine.containers.archive_get(call.name("c"), call.query.path)


async def export(call: Call[Nothing, None]) -> AsyncGenerator[bytes, None]:
    return await call.engine.containers.export(call.name("c"))


async def archive_put(call: Call[ArchiveQuery, AsyncIterator[bytes]]) -> None:
    await call.engine.containers.archive_put(call.name("c"), call.query.path, call.body)
