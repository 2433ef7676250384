"""/v1/containers: make, look at, remove; the moves of their life."""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from hypercontainer.hyperd.http.call import Call
from hypercontainer.hyperd.rest.call import Cells, FilterQuery, Name, Nothing, Query, Seconds, filters
from hypercontainer.model import documents as doc
from hypercontainer.model import signals
from hypercontainer.model.api import Condition
from hypercontainer.model.spec import Commit, ContainerUpdate, PodSpec


class ListQuery(FilterQuery, frozen=True, kw_only=True):
    all: bool = False


class SizeQuery(Query, frozen=True, kw_only=True):
    size: bool = False


class ContainersQuery(ListQuery, frozen=True, kw_only=True):
    size: bool = False
    all_owners: bool = False


class RemoveQuery(Query, frozen=True, kw_only=True):
    force: bool = False
    volumes: bool = False


class StopQuery(Query, frozen=True, kw_only=True):
    timeout: Seconds | None = None  # None = as the container's spec says


class KillQuery(Query, frozen=True, kw_only=True):
    signal: Annotated[str, msgspec.Meta(max_length=20)] = "KILL"


class RenameQuery(Query, frozen=True, kw_only=True):
    name: Name


class ResizeQuery(Query, frozen=True, kw_only=True):
    rows: Cells
    columns: Cells


class WaitQuery(Query, frozen=True, kw_only=True):
    condition: Condition = "not-running"


class TopQuery(Query, frozen=True, kw_only=True):
    ps_args: Annotated[str, msgspec.Meta(max_length=1024)] = ""  # as docker calls them


async def entries(call: Call[ContainersQuery, None]) -> Sequence[doc.ContainerEntry]:
    q = call.query
    wanted = filters(q.filter)
    return await call.engine.containers.list(all=q.all, filters=wanted, size=q.size, all_owners=q.all_owners)


async def create(call: Call[Nothing, PodSpec]) -> doc.Created:
    return await call.engine.containers.create(call.body, by=call.principal)


async def inspect(call: Call[SizeQuery, None]) -> doc.Container:
    return await call.engine.containers.inspect(call.name("c"), size=call.query.size)


async def remove(call: Call[RemoveQuery, None]) -> None:
    await call.engine.containers.remove(call.name("c"), force=call.query.force, volumes=call.query.volumes)


async def unlink(call: Call[Nothing, None]) -> None:
    await call.engine.containers.unlink(call.name("c"), call.name("l"))


async def start(call: Call[Nothing, None]) -> None:
    await call.engine.containers.start(call.name("c"))


async def stop(call: Call[StopQuery, None]) -> None:
    await call.engine.containers.stop(call.name("c"), call.query.timeout)


async def restart(call: Call[StopQuery, None]) -> None:
    await call.engine.containers.restart(call.name("c"), call.query.timeout)


async def kill(call: Call[KillQuery, None]) -> None:
    await call.engine.containers.kill(call.name("c"), signals.number(call.query.signal))


async def pause(call: Call[Nothing, None]) -> None:
    await call.engine.containers.pause(call.name("c"))


async def unpause(call: Call[Nothing, None]) -> None:
    await call.engine.containers.unpause(call.name("c"))


async def rename(call: Call[RenameQuery, None]) -> None:
    await call.engine.containers.rename(call.name("c"), call.query.name)


async def update(call: Call[Nothing, ContainerUpdate]) -> doc.Updated:
    return await call.engine.containers.update(call.name("c"), call.body)


async def wait(call: Call[WaitQuery, None]) -> doc.WaitResult:
    return await call.engine.containers.wait(call.name("c"), call.query.condition)


async def resize(call: Call[ResizeQuery, None]) -> None:
    await call.engine.containers.resize(call.name("c"), call.query.rows, call.query.columns)


async def commit(call: Call[Nothing, Commit]) -> doc.ImageRef:
    return await call.engine.containers.commit(call.name("c"), call.body)


async def changes(call: Call[Nothing, None]) -> Sequence[doc.Change]:
    return await call.engine.containers.changes(call.name("c"))


async def top(call: Call[TopQuery, None]) -> doc.Top:
    return await call.engine.containers.top(call.name("c"), call.query.ps_args)
