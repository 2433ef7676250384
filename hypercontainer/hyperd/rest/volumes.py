"""/v1/volumes."""

from collections.abc import Sequence

import msgspec

from hypercontainer.hyperd.http.call import Call
from hypercontainer.hyperd.rest.call import Body, FilterQuery, Invented, Nothing, PruneQuery, Query, filters
from hypercontainer.model import documents as doc


class ListVolumesQuery(FilterQuery, frozen=True, kw_only=True):
    size: bool = False


class RemoveVolumeQuery(Query, frozen=True, kw_only=True):
    force: bool = False


class VolumeBody(Body, frozen=True, kw_only=True):
    name: Invented = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    options: dict[str, str] = msgspec.field(default_factory=dict)


async def entries(call: Call[ListVolumesQuery, None]) -> Sequence[doc.Volume]:
    return await call.engine.volumes.list(filters(call.query.filter), size=call.query.size)


async def create(call: Call[Nothing, VolumeBody]) -> doc.Volume:
    body = call.body
    return await call.engine.volumes.create(body.name, body.labels, by=call.principal, options=body.options)


async def inspect(call: Call[Nothing, None]) -> doc.Volume:
    return await call.engine.volumes.inspect(call.name("v"))


async def remove(call: Call[RemoveVolumeQuery, None]) -> None:
    await call.engine.volumes.remove(call.name("v"), force=call.query.force)


async def prune(call: Call[PruneQuery, None]) -> doc.Pruned:
    return await call.engine.volumes.prune(all=call.query.all, wanted=filters(call.query.filter))
