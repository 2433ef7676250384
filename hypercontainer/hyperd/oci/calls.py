"""What `runv` asks of hyperd. One file of the table: a call, what it takes, what it does."""

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from hypercontainer.errors import GuestError, InvalidInput, NotFound
from hypercontainer.hyperd.oci import bundle, document, limits
from hypercontainer.model.api import Bundles
from hypercontainer.model.bundle import BundleImages, BundleState
from hypercontainer.model.record import ProcessRef, StandInRecord

MAX_WAIT_S = 60.0


class Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ground of all below. `owner` is runv's --root."""

    owner: str
    id: str = ""


class Create(Arguments, frozen=True, kw_only=True):
    """Descriptors: mount trees, of the root file system and of `trees`, in this order."""

    bundle: str
    config: dict[str, Any]
    key: str
    pid: int
    start_time: int
    netns: str
    trees: list[str] = []  # the sources of binds
    restored: bool = False


class Check(Arguments, frozen=True, kw_only=True):
    config: dict[str, Any]


class Exec(Arguments, frozen=True, kw_only=True):
    process: dict[str, Any]
    key: str
    pid: int
    start_time: int


class Kill(Arguments, frozen=True, kw_only=True):
    signal: int
    everyone: bool = False


class Update(Arguments, frozen=True, kw_only=True):
    resources: dict[str, Any]


class Top(Arguments, frozen=True, kw_only=True):
    options: str


class AwaitEnd(Arguments, frozen=True, kw_only=True):
    within_s: Annotated[float, msgspec.Meta(ge=0, le=MAX_WAIT_S)]


class Images(Arguments, frozen=True, kw_only=True):
    """Descriptors: mount trees, of the images and of where CRIU's log is written. `flags` are CRIU's."""

    flags: list[str] = []


class Delete(Arguments, frozen=True, kw_only=True):
    force: bool = False


async def check(bundles: Bundles, wanted: Check, fds: list[int]) -> None:
    document.checked(_convert(wanted.config, document.Config, "config.json"))
    await bundles.check(wanted.owner, wanted.id)


async def create(bundles: Bundles, wanted: Create, fds: list[int]) -> None:
    found = document.checked(_convert(wanted.config, document.Config, "config.json"))
    if len(fds) != len(wanted.trees):
        raise InvalidInput(f"cannot create a container of {len(fds)} mount trees: {len(wanted.trees)} are named")
    trees = dict(zip(wanted.trees, fds, strict=True))
    described = bundle.described(
        found,
        owner=wanted.owner,
        id=wanted.id,
        path=wanted.bundle,
        trees=trees,
        netns=wanted.netns,
        stand_in=_stand_in(wanted),
        cgroup=found.linux.cgroups_path if found.linux else "",
    )
    fds.clear()  # they are the engine's now
    await bundles.create(msgspec.structs.replace(described, restored=wanted.restored), trees)


async def exec_(bundles: Bundles, wanted: Exec, fds: list[int]) -> None:
    found = _convert(wanted.process, document.Process, "process.json")
    further = bundle.further(found, _stand_in(wanted))
    with told():
        await bundles.exec(wanted.owner, wanted.id, further)


async def update(bundles: Bundles, wanted: Update, fds: list[int]) -> None:
    found = _convert(wanted.resources, document.Resources, "resources")
    await bundles.update(wanted.owner, wanted.id, limits.update(found))


async def start(bundles: Bundles, wanted: Arguments, fds: list[int]) -> BundleState:
    """What it is then: hooks follow."""
    with told():
        await bundles.start(wanted.owner, wanted.id)
    return await bundles.state(wanted.owner, wanted.id)


async def delete(bundles: Bundles, wanted: Delete, fds: list[int]) -> BundleState | None:
    """What it was: hooks follow. None: with `force` there was none."""
    try:
        state = await bundles.state(wanted.owner, wanted.id)
    except NotFound:
        if wanted.force:
            return None
        raise
    await bundles.delete(wanted.owner, wanted.id, force=wanted.force)
    return state


async def checkpoint(bundles: Bundles, wanted: Images, fds: list[int]) -> None:
    await bundles.checkpoint(wanted.owner, wanted.id, _images(wanted, fds))


async def restore(bundles: Bundles, wanted: Images, fds: list[int]) -> BundleState:
    """What it is then: hooks follow."""
    await bundles.start(wanted.owner, wanted.id, _images(wanted, fds))
    return await bundles.state(wanted.owner, wanted.id)


def _images(wanted: Images, fds: list[int]) -> BundleImages:
    if len(fds) != 2:
        raise InvalidInput(f"cannot use images in {len(fds)} mount trees: they are two")
    images, work = fds
    return BundleImages(images=images, work=work, flags=wanted.flags)


@contextmanager
def told() -> Iterator[None]:
    """Why nothing could be executed, in words that docker's client knows."""
    try:
        yield
    except GuestError as e:
        if e.exec:
            why = os.strerror(e.errno)
            raise InvalidInput(str(e).replace(why, why.lower())) from e
        raise


def _stand_in(wanted: Create | Exec) -> StandInRecord:
    return StandInRecord(key=wanted.key, process=ProcessRef(pid=wanted.pid, start_time=wanted.start_time))


def _convert(found: Any, kind: type[Any], name: str) -> Any:
    try:
        return msgspec.convert(found, kind)
    except msgspec.ValidationError as e:
        raise InvalidInput(f"cannot read {name}: {e}") from e


@dataclass(frozen=True)
class Call:
    arguments: type[Arguments]
    answer: Callable[[Bundles, Any, list[int]], Awaitable[Any]]


CALLS: Mapping[str, Call] = {
    "check": Call(Check, check),
    "create": Call(Create, create),
    "exec": Call(Exec, exec_),
    "start": Call(Arguments, start),
    "checkpoint": Call(Images, checkpoint),
    "restore": Call(Images, restore),
    "state": Call(Arguments, lambda b, a, _: b.state(a.owner, a.id)),
    "list": Call(Arguments, lambda b, a, _: b.list(a.owner)),
    "kill": Call(Kill, lambda b, a, _: b.kill(a.owner, a.id, a.signal, everyone=a.everyone)),
    "delete": Call(Delete, delete),
    "pause": Call(Arguments, lambda b, a, _: b.pause(a.owner, a.id)),
    "update": Call(Update, update),
    "usage": Call(Arguments, lambda b, a, _: b.usage(a.owner, a.id)),
    "top": Call(Top, lambda b, a, _: b.top(a.owner, a.id, a.options)),
    "pids": Call(Arguments, lambda b, a, _: b.pids(a.owner, a.id)),
    "await_end": Call(AwaitEnd, lambda b, a, _: b.await_end(a.owner, a.id, a.within_s)),
    "resume": Call(Arguments, lambda b, a, _: b.resume(a.owner, a.id)),
}
