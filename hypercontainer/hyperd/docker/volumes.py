"""/volumes."""

from typing import Any

from hypercontainer.errors import InvalidInput, NotFound
from hypercontainer.hyperd.docker import filters, mounts, versions
from hypercontainer.hyperd.docker.call import Body, Nothing, Query
from hypercontainer.hyperd.docker.inspect import Document
from hypercontainer.hyperd.docker.versions import Version
from hypercontainer.hyperd.http.call import Call
from hypercontainer.model import documents as doc
from hypercontainer.model.ids import NAME

ANONYMOUS = Version(1, 42)  # from here on a prune spares volumes with a name


class RemoveVolumeQuery(Query, frozen=True, kw_only=True):
    force: bool = False


class VolumeConfig(Body, frozen=True, kw_only=True):
    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] = {}
    labels: dict[str, str] = {}
    cluster_volume_spec: dict[str, Any] = {}


def volume(found: doc.Volume) -> Document:
    return {
        "Name": found.name,
        "Driver": found.driver,
        "Mountpoint": found.mountpoint,
        "CreatedAt": found.created_at,
        "Labels": found.labels or None,
        "Options": found.options or None,
        "Scope": found.scope,
    }


def name(call: Call[Any, Any]) -> str:
    if not NAME.fullmatch(name := call.names["v"]):
        raise NotFound("volume", name[:140])
    return name


async def entries(call: Call[filters.Filtered, None]) -> Document:
    found = await call.engine.volumes.list(filters.read(call.query.filters))
    return {"Volumes": [volume(each) for each in found], "Warnings": None}


async def create(call: Call[Nothing, VolumeConfig]) -> Document:
    body = call.body
    mounts.check_driver(body.driver)
    if body.cluster_volume_spec:
        raise InvalidInput(f"cannot set ClusterVolumeSpec of volume {body.name[:60]}: there is no swarm")
    if len(body.name) == 1:
        words = "volume name is too short, names should be at least two alphanumeric characters"
        raise InvalidInput(f"create {body.name}: {words}")
    made = await call.engine.volumes.create(body.name, body.labels, by=call.principal, options=body.driver_opts)
    return volume(made)


async def show(call: Call[Nothing, None]) -> Document:
    return volume(await call.engine.volumes.inspect(name(call)))


async def remove(call: Call[RemoveVolumeQuery, bytes]) -> None:
    await call.engine.volumes.remove(name(call), force=call.query.force)


async def prune(call: Call[filters.Filtered, bytes]) -> Document:
    everything = versions.of(call) < ANONYMOUS
    done = await call.engine.volumes.prune(all=everything, wanted=filters.read(call.query.filters))
    return {"VolumesDeleted": done.deleted, "SpaceReclaimed": done.space_reclaimed}
