"""/containers: make, look at, remove; the moves of their life."""

import asyncio
import errno
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Annotated, Any

import msgspec

from hypercontainer.errors import AlreadyExists, GuestError, InvalidInput, NotFound, WrongState
from hypercontainer.hyperd.docker import config, filters, inspect, networks, platform, spec, versions
from hypercontainer.hyperd.docker.call import Nothing, Query, container
from hypercontainer.hyperd.docker.errors import Taken, absent, message
from hypercontainer.hyperd.http.call import Answer, Call
from hypercontainer.model import documents as doc
from hypercontainer.model import signals
from hypercontainer.model.api import Condition
from hypercontainer.model.ids import NAME

CONDITIONS: dict[str, Condition] = {
    "": "not-running",
    "none": "not-running",
    "not-running": "not-running",
    "next-exit": "next-exit",
    "removed": "removed",
}
PRIVATE = versions.Version(1, 40)  # from here on memory and queues are private when nobody says; before, shareable
KILLED_S = 10.0  # that a kill waits for the end, as dockerd does
FOR_EVER = float("inf")
EMPTY_BODY = 7  # a JSON document with something in it has more bytes than that
SIZE = msgspec.Meta(ge=0, le=65535)


class CreateQuery(Query, frozen=True, kw_only=True):
    name: str = ""
    platform: str = ""


class ListQuery(filters.Filtered, frozen=True, kw_only=True):
    all: bool = False
    limit: int = -1
    size: bool = False


class SizeQuery(Query, frozen=True, kw_only=True):
    size: bool = False


class StartQuery(Query, frozen=True, kw_only=True):
    checkpoint: str = ""


class StopQuery(Query, frozen=True, kw_only=True):
    t: int | None = None  # seconds; negative: for ever
    signal: str = ""


class KillQuery(Query, frozen=True, kw_only=True):
    signal: str = "KILL"


class WaitQuery(Query, frozen=True, kw_only=True):
    condition: str = ""


class RemoveQuery(Query, frozen=True, kw_only=True):
    v: bool = False
    force: bool = False
    link: bool = False


class RenameQuery(Query, frozen=True, kw_only=True):
    name: str = ""


class ResizeQuery(Query, frozen=True, kw_only=True):
    h: Annotated[int, SIZE]
    w: Annotated[int, SIZE]


class TopQuery(Query, frozen=True, kw_only=True):
    ps_args: str = ""


async def create(call: Call[CreateQuery, config.ContainerConfig]) -> doc.Created:
    body, name = call.body, call.query.name.lstrip("/")
    if body == config.ContainerConfig():
        raise InvalidInput("Config cannot be empty in order to create a container")
    if not body.image:
        raise InvalidInput("no command specified" if not body.cmd else "Config.Image cannot be empty")
    if name and (len(name) < 2 or not NAME.fullmatch(name)):
        raise InvalidInput(f"Invalid container name ({name[:100]}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    wanted = platform.words(call.query.platform)
    await platform.look(call.engine, body.image, wanted)
    try:
        return await _create(call, body, name, wanted)
    except NotFound as e:
        if e.what == "image":
            raise
        raise InvalidInput(message(e)) from e  # of an image alone: clients pull, and try again


async def _create(call: Call[Any, Any], body: config.ContainerConfig, name: str, platform: str) -> doc.Created:
    if versions.of(call) < PRIVATE and not body.host_config.ipc_mode:
        host = msgspec.structs.replace(body.host_config, ipc_mode="shareable")
        body = msgspec.structs.replace(body, host_config=host)
    wanted, warnings = spec.pod(body, name)
    for mount in body.host_config.mounts:
        said = mount.volume_options
        if said.labels or said.driver_config.options:
            options = said.driver_config.options
            await call.engine.volumes.create(mount.source, said.labels, by=call.principal, options=options)
    if platform:
        [container] = wanted.containers
        wanted = msgspec.structs.replace(wanted, containers=[msgspec.structs.replace(container, platform=platform)])
    made = await call.engine.containers.create(wanted, by=call.principal)
    return doc.Created(id=made.id, warnings=[*warnings, *made.warnings])


async def entries(call: Call[ListQuery, None]) -> list[inspect.Document]:
    q = call.query
    wanted = filters.read(q.filters)
    found = await call.engine.containers.list(all=q.all or q.limit > 0, filters=wanted, size=q.size)
    ids = await networks.ids(call) if found else {}
    return [inspect.entry(each, ids) for each in (found[: q.limit] if q.limit > 0 else found)]


async def show(call: Call[SizeQuery, None]) -> inspect.Document:
    found = await call.engine.containers.inspect(container(call), size=call.query.size)
    return inspect.container(found, versions.of(call), await networks.ids(call))


async def start(call: Call[StartQuery, bytes]) -> Answer | None:
    if call.query.checkpoint:
        raise absent("docker start --checkpoint", "hyperctl restore does it")
    if len(call.body) > EMPTY_BODY:
        raise InvalidInput(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
        )
    found = await call.engine.containers.inspect(container(call))
    if found.state.running and not found.state.paused:
        return Answer(status=304)
    await call.engine.containers.start(found.id)
    return None


async def stop(call: Call[StopQuery, bytes]) -> Answer | None:
    found = await call.engine.containers.inspect(container(call))
    if not found.state.running and not found.state.restarting:
        return Answer(status=304)
    await call.engine.containers.stop(found.id, *_how(call.query))
    return None


def _how(query: StopQuery) -> tuple[float | None, int | None]:
    """Seconds, and a signal; None of each: the container's own."""
    seconds = FOR_EVER if query.t is not None and query.t < 0 else query.t
    return seconds, signal(query.signal) if query.signal else None


async def restart(call: Call[StopQuery, bytes]) -> None:
    await call.engine.containers.restart(container(call), *_how(call.query))


async def kill(call: Call[KillQuery, bytes]) -> None:
    c, number = container(call), signal(call.query.signal)
    try:
        found = await call.engine.containers.inspect(c)
    except NotFound as e:
        raise NotFound("signalled", c, f"Cannot kill container: {c}: {message(e)}") from e
    await call.engine.containers.kill(found.id, number)
    if number == signals.NUMBERS["KILL"]:
        with suppress(TimeoutError):
            async with asyncio.timeout(KILLED_S):
                await call.engine.containers.wait(found.id)


def signal(text: str) -> int:
    try:
        return signals.number(text)
    except InvalidInput:
        raise InvalidInput(f"invalid signal: {text[:40]}") from None


async def pause(call: Call[Nothing, bytes]) -> None:
    await call.engine.containers.pause(container(call))


async def unpause(call: Call[Nothing, bytes]) -> None:
    await call.engine.containers.unpause(container(call))


async def rename(call: Call[RenameQuery, bytes]) -> None:
    name = call.query.name.lstrip("/")
    if not name:
        raise InvalidInput("Neither old nor new names may be empty")
    found = await call.engine.containers.inspect(container(call))
    if found.name == f"/{name}":
        raise InvalidInput("Renaming a container with the same name as its current name")
    try:
        await call.engine.containers.rename(found.id, name)
    except AlreadyExists as e:
        raise Taken(f"Error when allocating new name: {message(e)}") from e


async def update(call: Call[Nothing, config.Sizes]) -> dict[str, list[str] | None]:
    wanted, warnings = spec.update(call.body)
    done = await call.engine.containers.update(container(call), wanted)
    return {"Warnings": [*warnings, *done.warnings] or None}


async def remove(call: Call[RemoveQuery, bytes]) -> None:
    if call.query.link:
        await _unlink(call)
        return
    found = await call.engine.containers.inspect(container(call))
    if found.state.restarting and not call.query.force:
        raise WrongState("remove", found.name.lstrip("/"), "restarting")
    await call.engine.containers.remove(found.id, force=call.query.force, volumes=call.query.v)


async def _unlink(call: Call[RemoveQuery, bytes]) -> None:
    """Of CONTAINER/ALIAS."""
    c, found, alias = call.names["c"].lstrip("/").partition("/")
    if not found:
        raise InvalidInput("Conflict, cannot remove the default link name of the container")
    if not (NAME.fullmatch(c) and NAME.fullmatch(alias)):
        raise NotFound("link", f"{c}/{alias}"[:140])
    await call.engine.containers.unlink(c, alias)


async def prune(call: Call[filters.Filtered, bytes]) -> inspect.Document:
    """Remove those that do not run; a container that starts meanwhile stays."""
    wanted = filters.read(call.query.filters)
    for key in wanted:
        if key not in ("until", "label", "label!"):
            raise InvalidInput(f"invalid filter '{key[:60]}'")
    idle = {**wanted, "status": ["created", "exited"]}
    deleted, reclaimed = [], 0
    for each in await call.engine.containers.list(all=True, filters=idle, size=True):
        try:
            await call.engine.containers.remove(each.id, force=False, volumes=False)
        except (NotFound, WrongState):
            continue
        deleted.append(each.id)
        reclaimed += each.size_rw or 0
    return {"ContainersDeleted": deleted or None, "SpaceReclaimed": reclaimed}


class WaitError(doc.Document, frozen=True, kw_only=True):
    message: str


class Ended(doc.Document, frozen=True, kw_only=True):
    status_code: int
    error: WaitError | None = None


async def wait(call: Call[WaitQuery, bytes]) -> AsyncGenerator[Ended, None]:
    """The head of the answer is sent at once, before the container has ended, or even begun: clients start it then."""
    condition = CONDITIONS.get(call.query.condition)
    if condition is None:
        raise InvalidInput(f"invalid condition: {call.query.condition[:60]!r}")
    found = await call.engine.containers.inspect(container(call))
    return _ended(call, found.id, condition)


async def _ended(call: Call[Any, Any], id: str, condition: Condition) -> AsyncGenerator[Ended, None]:
    try:
        result = await call.engine.containers.wait(id, condition)
    except NotFound as e:  # it was removed before it ran
        yield Ended(status_code=0, error=WaitError(message=message(e)))
    else:
        yield Ended(status_code=result.status_code)


async def resize(call: Call[ResizeQuery, bytes]) -> Answer:
    """Of one without a terminal it is no error, and nothing."""
    try:
        await call.engine.containers.resize(container(call), call.query.h, call.query.w)
    except GuestError as e:
        if e.errno != errno.ENOTTY:
            raise
    return Answer(status=200)


async def top(call: Call[TopQuery, None]) -> doc.Top:
    return await call.engine.containers.top(container(call), call.query.ps_args)
