"""/v1/containers: make, look at, remove; the moves of their life."""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from hypercontainer.hyperd.http.call import Call
from hypercontainer.hyperd.rest.call import Cells, FilterQuery, Nothing, Query, Seconds, filters
from hypercontainer.model import documents as doc
from hypercontainer.model import signals
from hypercontainer.model.spec import ContainerUpdate, PodSpec


class ListQuery(FilterQuery, frozen=True, kw_only=True):
    all: bool = False


class SizeQuery(Query, frozen=True, kw_only=True):
    size: bool = False


class ContainersQuery(ListQuery, frozen=True, kw_only=True):
    size: bool = False


class RemoveQuery(Query, frozen=True, kw_only=True):
    force: bool = False
    volumes: bool = False


class StopQuery(Query, frozen=True, kw_only=True):
    timeout: Seconds | None = None  # None = as the container's spec says


class KillQuery(Query, frozen=True, kw_only=True):
    signal: Annotated[str, msgspec.Meta(max_length=20)] = "KILL"


class RenameQuery(Query, frozen=True, kw_only=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=63)]


class ResizeQuery(Query, frozen=True, kw_only=True):
    rows: Cells
    columns: Cells


class TopQuery(Query, frozen=True, kw_only=True):
    ps_args: Annotated[str, msgspec.Meta(max_length=1024)] = ""  # as docker calls them


async def entries(call: Call[ContainersQuery, None]) -> Sequence[doc.ContainerEntry]:
    q = call.query
    return await call.engine.list_containers(all=q.all, filters=filters(q.filter), size=q.size)


async def create(call: Call[Nothing, PodSpec]) -> doc.Created:
    return await call.engine.create_container(call.body, by=call.principal)


async def inspect(call: Call[SizeQuery, None]) -> doc.Container:
    return await call.engine.inspect(call.name("c"), size=call.query.size)


async def remove(call: Call[RemoveQuery, None]) -> None:
    await call.engine.remove(call.name("c"), force=call.query.force, volumes=call.query.volumes)


async def start(call: Call[Nothing, None]) -> None:
    await call.engine.start(call.name("c"))


async def stop(call: Call[StopQuery, None]) -> None:
    await call.engine.stop(call.name("c"), call.query.timeout)


async def restart(call: Call[StopQuery, None]) -> None:
    await call.engine.restart(call.name("c"), call.query.timeout)


async def kill(call: Call[KillQuery, None]) -> None:
    await call.engine.kill(call.name("c"), signals.number(call.query.signal))


async def pause(call: Call[Nothing, None]) -> None:
    await call.engine.pause(call.name("c"))


async def unpause(call: Call[Nothing, None]) -> None:
    await call.engine.unpause(call.name("c"))


async def rename(call: Call[RenameQuery, None]) -> None:
    await call.engine.rename(call.name("c"), call.query.name)


async def update(call: Call[Nothing, ContainerUpdate]) -> doc.Updated:
    return await call.engine.update(call.name("c"), call.body)


async def wait(call: Call[Nothing, None]) -> doc.WaitResult:
    return await call.engine.wait(call.name("c"))


async def resize(call: Call[ResizeQuery, None]) -> None:
    await call.engine.resize(call.name("c"), call.query.rows, call.query.columns)


async def top(call: Call[TopQuery, None]) -> doc.Top:
    return await call.engine.top(call.name("c"), call.query.ps_args)
