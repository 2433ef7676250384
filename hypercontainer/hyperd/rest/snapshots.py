"""/v1/containers/{c}/fork, suspend, resume, checkpoints; /v1/checkpoints."""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from hypercontainer.hyperd.http.call import Call
from hypercontainer.hyperd.rest.call import Body, Invented, Nothing, Query
from hypercontainer.model import documents as doc
from hypercontainer.model.ids import MAX_LABEL, MAX_NAME
from hypercontainer.model.spec import PortMapping

Given = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_LABEL)]


class ForkBody(Body, frozen=True, kw_only=True):
    count: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    name: Invented = ""
    ports: Annotated[list[PortMapping], msgspec.Meta(max_length=1024)] = msgspec.field(default_factory=list)


class CheckpointsQuery(Query, frozen=True, kw_only=True):
    container: Annotated[str, msgspec.Meta(max_length=MAX_NAME)] = ""  # "" = of all


class CheckpointBody(Body, frozen=True, kw_only=True):
    name: Given
    leave_running: bool = False


class RestoreQuery(Query, frozen=True, kw_only=True):
    name: Annotated[str, msgspec.Meta(max_length=MAX_NAME)] = ""  # "" = the container that it was taken of


async def fork(call: Call[Nothing, ForkBody]) -> doc.Forked:
    body = call.body
    return await call.engine.snapshots.fork(call.name("c"), count=body.count, name=body.name, ports=body.ports)


async def suspend(call: Call[Nothing, None]) -> None:
    await call.engine.snapshots.suspend(call.name("c"))


async def resume(call: Call[Nothing, None]) -> None:
    await call.engine.snapshots.resume(call.name("c"))


async def entries(call: Call[CheckpointsQuery, None]) -> Sequence[doc.Checkpoint]:
    return await call.engine.snapshots.list(call.query.container)


async def create(call: Call[Nothing, CheckpointBody]) -> None:
    await call.engine.snapshots.create(call.name("c"), call.body.name, leave_running=call.body.leave_running)


async def remove(call: Call[Nothing, None]) -> None:
    await call.engine.snapshots.remove(call.name("c"), call.name("k"))


async def restore(call: Call[RestoreQuery, None]) -> doc.Created:
    return await call.engine.snapshots.restore(call.name("c"), call.name("k"), name=call.query.name)
