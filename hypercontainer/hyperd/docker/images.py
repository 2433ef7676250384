"""/images, and what registries say of them. Names have slashes, and stand in paths as they are."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

import msgspec

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.docker import auth, filters, platform, progress, versions
from hypercontainer.hyperd.docker.call import Nothing, Query
from hypercontainer.hyperd.docker.errors import Missing
from hypercontainer.hyperd.docker.inspect import Document
from hypercontainer.hyperd.docker.versions import Version
from hypercontainer.hyperd.http.call import Answer, Bytes, Call
from hypercontainer.model import documents as doc

NAMELESS = Version(1, 43)  # before, an image without a name is called <none>
VIRTUAL = Version(1, 44)  # before, there is a VirtualSize
COMMITTED = Version(1, 45)  # before, an image says of which container it was committed


class ListQuery(filters.Filtered, frozen=True, kw_only=True):
    all: bool = False
    digests: bool = False
    shared_size: bool = False


class CreateQuery(Query, frozen=True, kw_only=True):
    fromImage: str = ""  # noqa: N815  their names there
    fromSrc: str = ""  # noqa: N815
    repo: str = ""
    tag: str = ""
    message: str = ""
    changes: list[str] = []
    platform: str = ""


class OneQuery(Query, frozen=True, kw_only=True):
    platform: str = ""  # the image has to be for it


class PushQuery(OneQuery, frozen=True, kw_only=True):
    tag: str = ""  # "": all of the repository


class TagQuery(Query, frozen=True, kw_only=True):
    repo: str = ""
    tag: str = ""


class RemoveQuery(Query, frozen=True, kw_only=True):
    force: bool = False
    noprune: bool = False
    platforms: list[str] = []


class SaveQuery(Query, frozen=True, kw_only=True):
    names: list[str] = []
    platform: list[str] = []


class LoadQuery(Query, frozen=True, kw_only=True):
    quiet: bool = False
    platform: list[str] = []


def image_name(call: Call[Any, Any]) -> str:
    return call.names["i"][:1024]


def list_entry(found: doc.ImageEntry, version: Version, *, shared_size: bool = False) -> Document:
    """`shared_size`: of what it has in common with others, which is nothing, for each has a disk of its own."""
    nameless = ["<none>:<none>"] if version < NAMELESS else []
    document: Document = {
        "Id": found.id,
        "ParentId": "",
        "RepoTags": found.repo_tags or nameless,
        "RepoDigests": found.repo_digests or _no_digests(found, version),
        "Created": found.created,
        "Size": found.size,
        "SharedSize": 0 if shared_size else -1,
        "Containers": found.containers or -1,
        "Labels": found.labels or None,
    }
    return document | ({"VirtualSize": found.size} if version < VIRTUAL else {})


def _no_digests(found: doc.ImageEntry, version: Version) -> list[str] | None:
    if version >= NAMELESS:
        return []
    return None if found.repo_tags else ["<none>@<none>"]


async def entries(call: Call[ListQuery, None]) -> list[Document]:
    q = call.query
    found = await call.engine.images.list(filters.read(q.filters), all=q.all)
    return [list_entry(each, versions.of(call), shared_size=q.shared_size) for each in found]


async def look(call: Call[Any, Any], name: str, platforms: Sequence[str]) -> list[str]:
    """The images for each of the platforms that the client names, by platforms that choose them."""
    wanted = [platform.words(each) for each in platforms if each]
    found = [await platform.look(call.engine, name, each) for each in wanted or [""]]
    return [platform.of(each) for each in found] if wanted else []


async def show(call: Call[OneQuery, None]) -> Document:
    found = await platform.look(call.engine, image_name(call), platform.words(call.query.platform))
    document: Document = msgspec.to_builtins(found)
    del document["Pinned"]  # docker has no such word
    config = document["Config"]
    for key in ("Volumes", "ExposedPorts", "Labels", "OnBuild"):
        config[key] = config.get(key) or None
    for key in ("Healthcheck", "Shell"):
        if not config[key]:
            del config[key]
    if versions.of(call) < VIRTUAL:
        document["VirtualSize"] = found.size
    if versions.of(call) >= COMMITTED:
        del document["Container"], document["ContainerConfig"]
    return document | {
        "Parent": found.parent,
        "DockerVersion": "",
        "GraphDriver": {"Name": "erofs", "Data": None},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
    }


async def history(call: Call[OneQuery, None]) -> list[Document]:
    chosen = await look(call, image_name(call), [call.query.platform])
    found = await call.engine.images.history(image_name(call), *chosen)
    return [msgspec.to_builtins(each) | {"Tags": each.tags or None} for each in found]


async def create(call: Call[CreateQuery, AsyncIterator[bytes]]) -> AsyncGenerator[Document, None]:
    """A pull, or an import of a root file system's tar."""
    q = call.query
    if q.fromSrc:
        return await _import(call)
    if not q.fromImage:
        raise InvalidInput("fromImage or fromSrc is needed")
    given = auth.credentials(call.headers.get("X-Registry-Auth", ""))
    name, all_tags = wanted(q.fromImage, q.tag)
    source = await call.engine.images.pull(name, all_tags=all_tags, platform=q.platform, credentials=given)
    return await progress.begun(progress.pulled(source, name))


def wanted(image: str, tag: str) -> tuple[str, bool]:
    """The name that a pull is of, and whether of all tags: of a repository when nothing more is said."""
    if tag:
        return f"{image}{'@' if ':' in tag else ':'}{tag}", False
    return image, not ("@" in image or ":" in image.rpartition("/")[2])


async def _import(call: Call[CreateQuery, AsyncIterator[bytes]]) -> AsyncGenerator[Document, None]:
    q = call.query
    if q.fromSrc != "-":
        raise InvalidInput("cannot import from a URL: send the tar, with fromSrc=-")
    name = f"{q.repo}:{q.tag}" if q.repo and q.tag else q.repo  # the CLI has the tag in its repo
    made = await call.engine.images.import_(
        call.body, name=name, changes=q.changes, message=q.message, platform=platform.words(q.platform)
    )
    return progress.lines({"status": made.id})


async def load(call: Call[LoadQuery, AsyncIterator[bytes]]) -> AsyncGenerator[Document, None]:
    wanted = [platform.words(each) for each in call.query.platform]
    return progress.loaded(await call.engine.images.load(call.body, wanted))


async def push(call: Call[PushQuery, bytes]) -> AsyncGenerator[Document, None]:
    """What goes wrong is said in its last line, as by dockerd; but for an image that is not here."""
    repository, tag = image_name(call), call.query.tag
    name = f"{repository}:{tag}" if tag else repository
    chosen = platform.words(call.query.platform)
    if tag:
        chosen = "".join(await look(call, name, [chosen]))
    given = auth.credentials(call.headers.get("X-Registry-Auth", ""))
    return progress.pushed(await call.engine.images.push(name, all_tags=not tag, platform=chosen, credentials=given))


async def save(call: Call[SaveQuery, None]) -> Bytes:
    return await _saved(call, call.query.names)


async def save_one(call: Call[SaveQuery, None]) -> Bytes:
    return await _saved(call, [image_name(call)])


async def _saved(call: Call[SaveQuery, None], names: list[str]) -> Bytes:
    if not names:
        raise InvalidInput("no image is named: use names=")
    chosen = {each: None for name in names for each in await look(call, name, call.query.platform)}
    source = await call.engine.images.save(names, "docker", list(chosen))
    return Bytes(source=source, media_type="application/x-tar")


async def tag(call: Call[TagQuery, bytes]) -> Answer:
    q = call.query
    if not q.repo:
        raise InvalidInput("invalid reference format: repo is needed")
    await call.engine.images.tag(image_name(call), f"{q.repo}:{q.tag}" if q.tag else q.repo)
    return Answer(status=201)


async def remove(call: Call[RemoveQuery, bytes]) -> list[dict[str, str]]:
    q, name = call.query, image_name(call)
    chosen = await look(call, name, q.platforms)
    removed = await call.engine.images.remove(name, force=q.force, parents=not q.noprune, platforms=chosen)
    return [{"Untagged": step.untagged} if step.untagged else {"Deleted": step.deleted} for step in removed]


async def prune(call: Call[filters.Filtered, bytes]) -> Document:
    done = await call.engine.images.prune(all=False, wanted=filters.read(call.query.filters))
    return {"ImagesDeleted": [{"Deleted": id} for id in done.deleted] or None, "SpaceReclaimed": done.space_reclaimed}


async def distribution(call: Call[Nothing, None]) -> Document:
    given = auth.credentials(call.headers.get("X-Registry-Auth", ""))
    document: Document = msgspec.to_builtins(await call.engine.images.distribution(image_name(call), credentials=given))
    return document | {"Platforms": document["Platforms"] or None}


async def search(call: Call[Nothing, None]) -> None:
    raise Missing(
        "cannot search: the protocol of registries has no search; look at https://hub.docker.com, or at your registry"
    )
