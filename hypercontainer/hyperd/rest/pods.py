"""/v1/pods."""

from collections.abc import Sequence

from hypercontainer.hyperd.http.call import Call
from hypercontainer.hyperd.rest.call import Nothing, filters
from hypercontainer.hyperd.rest.containers import ListQuery, RemoveQuery, StopQuery
from hypercontainer.model import documents as doc
from hypercontainer.model.spec import ContainerSpec, PodSpec


class PodsQuery(ListQuery, frozen=True, kw_only=True):
    all_owners: bool = False


class RemovePodQuery(RemoveQuery, frozen=True, kw_only=True):
    all_owners: bool = False


async def entries(call: Call[PodsQuery, None]) -> Sequence[doc.PodEntry]:
    q = call.query
    return await call.engine.pods.list(all=q.all, filters=filters(q.filter), all_owners=q.all_owners)


async def create(call: Call[Nothing, PodSpec]) -> doc.Created:
    return await call.engine.pods.create(call.body, by=call.principal)


async def inspect(call: Call[Nothing, None]) -> doc.Pod:
    return await call.engine.pods.inspect(call.name("p"))


async def remove(call: Call[RemovePodQuery, None]) -> None:
    q = call.query
    await call.engine.pods.remove(call.name("p"), force=q.force, volumes=q.volumes, all_owners=q.all_owners)


async def add(call: Call[Nothing, ContainerSpec]) -> doc.Created:
    return await call.engine.pods.add(call.name("p"), call.body, by=call.principal)


async def start(call: Call[Nothing, None]) -> None:
    await call.engine.pods.start(call.name("p"))


async def stop(call: Call[StopQuery, None]) -> None:
    await call.engine.pods.stop(call.name("p"), call.query.timeout)


async def pause(call: Call[Nothing, None]) -> None:
    await call.engine.pods.pause(call.name("p"))


async def unpause(call: Call[Nothing, None]) -> None:
    await call.engine.pods.unpause(call.name("p"))
