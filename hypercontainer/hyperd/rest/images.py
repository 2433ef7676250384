"""/v1/images. Names have slashes, so they are parameters."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Annotated, Literal

import msgspec

from hypercontainer.hyperd.http.call import Call
from hypercontainer.hyperd.rest.call import (
    Body,
    FilterList,
    FilterQuery,
    Name,
    Names,
    Nothing,
    PruneQuery,
    Query,
    filters,
)
from hypercontainer.model import documents as doc
from hypercontainer.model.api import Credentials

Platform = Annotated[str, msgspec.Meta(max_length=64)]  # "" = the host's: "linux/arm64"


Platforms = Annotated[list[Platform], msgspec.Meta(max_length=64)]  # none = all that there are


class ImageQuery(Query, frozen=True, kw_only=True):
    name: Name
    platform: Platform = ""


class ImagesQuery(FilterQuery, frozen=True, kw_only=True):
    all: bool = False


class RemoveImageQuery(Query, frozen=True, kw_only=True):
    name: Name
    platform: Platforms = msgspec.field(default_factory=list)
    force: bool = False
    no_prune: bool = False


class TagQuery(ImageQuery, frozen=True, kw_only=True):
    target: Name


class SaveQuery(Query, frozen=True, kw_only=True):
    name: Names
    format: Literal["docker", "oci"] = "docker"
    platform: Platforms = msgspec.field(default_factory=list)


class LoadQuery(Query, frozen=True, kw_only=True):
    platform: Platforms = msgspec.field(default_factory=list)


class ImportQuery(Query, frozen=True, kw_only=True):
    name: Annotated[str, msgspec.Meta(max_length=255)] = ""
    change: FilterList = msgspec.field(default_factory=list)
    message: Annotated[str, msgspec.Meta(max_length=4096)] = ""
    platform: Platform = ""


class PullBody(Body, frozen=True, kw_only=True):
    name: Name
    all_tags: bool = False
    platform: Platform = ""
    auth: Credentials | None = None  # None = those of the daemon's user


class PushBody(Body, frozen=True, kw_only=True):
    name: Name
    all_tags: bool = False
    platform: Platform = ""
    auth: Credentials | None = None  # None = those of the daemon's user


class LoginBody(Body, frozen=True, kw_only=True):
    registry: Name
    auth: Credentials


Pulling = AsyncGenerator[doc.Progress | doc.ImagesDone, None]


async def entries(call: Call[ImagesQuery, None]) -> Sequence[doc.ImageEntry]:
    return await call.engine.images.list(filters(call.query.filter), all=call.query.all)


async def inspect(call: Call[ImageQuery, None]) -> doc.Image:
    return await call.engine.images.inspect(call.query.name, call.query.platform)


async def history(call: Call[ImageQuery, None]) -> Sequence[doc.HistoryEntry]:
    return await call.engine.images.history(call.query.name, call.query.platform)


async def pull(call: Call[Nothing, PullBody]) -> Pulling:
    body = call.body
    return await call.engine.images.pull(
        body.name, all_tags=body.all_tags, platform=body.platform, credentials=body.auth
    )


async def push(call: Call[Nothing, PushBody]) -> AsyncGenerator[doc.Progress | doc.PushDone, None]:
    body = call.body
    return await call.engine.images.push(
        body.name, all_tags=body.all_tags, platform=body.platform, credentials=body.auth
    )


async def login(call: Call[Nothing, LoginBody]) -> None:
    await call.engine.images.login(call.body.registry, call.body.auth)


async def load(call: Call[LoadQuery, AsyncIterator[bytes]]) -> Pulling:
    return await call.engine.images.load(call.body, call.query.platform)


async def save(call: Call[SaveQuery, None]) -> AsyncGenerator[bytes, None]:
    return await call.engine.images.save(call.query.name, call.query.format, call.query.platform)


async def import_(call: Call[ImportQuery, AsyncIterator[bytes]]) -> doc.ImageRef:
    q = call.query
    return await call.engine.images.import_(
        call.body, name=q.name, changes=q.change, message=q.message, platform=q.platform
    )


async def tag(call: Call[TagQuery, None]) -> None:
    await call.engine.images.tag(call.query.name, call.query.target, call.query.platform)


async def remove(call: Call[RemoveImageQuery, None]) -> Sequence[doc.ImageRemoved]:
    q = call.query
    return await call.engine.images.remove(q.name, force=q.force, parents=not q.no_prune, platforms=q.platform)


async def prune(call: Call[PruneQuery, None]) -> doc.Pruned:
    return await call.engine.images.prune(all=call.query.all, wanted=filters(call.query.filter))
