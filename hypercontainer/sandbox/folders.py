"""The folders of this host that a pod's machine is shown: what its containers mount of it, and what is lent to it.

All are in one share, each by a name of its own. The pod's lock is held by whoever calls, but for `spread`.
"""

import asyncio
import itertools
import logging
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import msgspec

from hypercontainer.agent.messages import Criu
from hypercontainer.errors import HyperError, InUse, InvalidInput, WrongState
from hypercontainer.hypervisor.base import OPENED, Guest, SharedFolder
from hypercontainer.lib.limit import limit
from hypercontainer.lib.tasks import in_thread
from hypercontainer.model.container import Below, IdMap
from hypercontainer.model.record import ContainerRecord, DiskRecord, FolderRootfsRecord, MountRecord, PodRecord
from hypercontainer.sandbox import criu, resolver, rootfs
from hypercontainer.sandbox.criu import Saved
from hypercontainer.sandbox.site import Records, Site
from hypercontainer.storage import times
from hypercontainer.storage.filling import State
from hypercontainer.storage.share import Share

log = logging.getLogger(__name__)

CLOSED_S, LOOK_S = 10.0, 0.01  # until a guest must have closed the files that it has filled one with; between looks

Shown = MountRecord | FolderRootfsRecord


class Folders:
    def __init__(self, site: Site, record: PodRecord, records: Records) -> None:
        self.share = Share(site.share_dir(record.id))
        self.follows = asyncio.Event()  # something that is shown follows what this host mounts
        self._site, self._record, self._records = site, record, records
        self._turn = asyncio.Lock()
        self._trees: dict[str, int] = {}  # see `given`
        self._by_times = site.limits.share_keep  # what the guest has read of a file stays

    @property
    def wanted(self) -> list[Shown]:
        """What all of the pod's containers are to be shown."""
        return of_this_host(self._record.containers)

    async def shared(self) -> SharedFolder | None:
        """What a machine that is about to boot is given; None where its containers are shown nothing, and none that
        are will come. What it reads stays only if each that is known by now has times that tell every change."""
        limits, wanted = self._site.limits, self.wanted
        self._by_times = limits.share_keep and await asyncio.to_thread(lambda: all(map(self._exact, wanted)))
        if not (self._record.kube or wanted):
            return None
        return SharedFolder(
            folder=self.share.root,
            prepare=self.share.prepare,
            host_locks=(self._record.spec.locks or limits.share_locks) == "host",
            cache_s=limits.share_cache_s,
            keep=self._by_times,
        )

    def check(self, verb: str, container: ContainerRecord) -> None:
        """WrongState where the machine runs without a share, and will until it ends."""
        if not self.share.served:
            raise WrongState(verb, container.name, container.state, self._unshared())

    def _unshared(self) -> str:
        """Why nobody new can have folders of this host while the machine runs, and what helps."""
        record = self._record
        running = " and ".join(c.name for c in record.containers if c.state in ("running", "paused"))
        machine, whose = ("its virtual machine", running) if record.implicit else ("its pod", "the pod")
        return f"{machine} was started without folders of this host; stop {whose} and start it again, it has them then"

    # shown

    async def show(self, container: ContainerRecord) -> None:
        """Have the guest see what `container` is to mount of this host. A guest that waited brings the share along in
        which that is: so nothing is there before the guest."""
        async with self._turn:
            shown = of_this_host([container])
            _check_ids([each for each in shown if each.path in self._trees])
            for mount in sorted(shown, key=lambda each: each.read_only):  # a copy of one that is would be that, too
                await self._show(container, mount)
        resolver.check([container], self._record.nics, self.share.root)

    async def _show(self, container: ContainerRecord, mount: Shown) -> None:
        """Have the guest see what `container` is to mount.

        What several of the pod's mount is shown once: shown twice it is two file systems to the guest, and no lock,
        pipe, socket or mapping of memory holds between them. Read-only is another one, for the host refuses writes."""
        if isinstance(mount, MountRecord) and mount.type == "volume":
            await self._site.volumes.use(mount.source, self._record.id)
        source = Path(mount.path)
        names = [mount.share_path, *(other.share_path for other in self.wanted if _alike(other, mount))]
        subpath, tree = _subpath(mount), self._trees.get(mount.path)
        shown = [name for name in names if await asyncio.to_thread(self.share.shows, name, source, subpath, tree)]
        name = shown[0] if shown else self._unused(container, mount)
        if name != mount.share_path:
            mount.share_path = name
            self._records.save(self._record)
        if shown:
            return
        if self._by_times and not await asyncio.to_thread(self._exact, mount):
            log.warning("pod %s: %s came late, and its times do not tell every change", self._record.id, mount.path)
        # in threads that are waited for: or it is there after our cancellation
        if tree is not None:
            again = len([each for each in of_this_host([container]) if each.path == mount.path]) > 1
            await in_thread(self.share.add_tree, name, tree, mount.read_only, _ids(mount), again=again)
        else:
            await in_thread(self.share.add, name, source, mount.read_only, subpath, _ids(mount), _below(mount))
        if _below(mount) == "followed":
            self.follows.set()

    def _unused(self, container: ContainerRecord, mount: Shown) -> str:
        """Its own name in the share, or a new one where that shows something else."""
        others = [other.share_path for other in self.wanted if not _alike(other, mount)]
        taken = {*self.share.names(), *others}
        names = itertools.chain([mount.share_path], (f"{container.id[:12]}-{n}" for n in itertools.count()))
        return next(name for name in names if name not in taken)

    def _exact(self, mount: Shown) -> bool:
        return times.exact(self._trees.get(mount.path, Path(mount.path)))

    async def further(self, container: ContainerRecord, guest: Guest) -> list[str]:
        """Where `container` has read-only mounts with something below that may be written."""
        apart = [mount for mount in container.mounts if mount.shared and mount.read_only and mount.below != "same"]
        return [
            mount.target
            for mount in apart
            if mount.below == "followed" or await in_thread(self.share.further, mount.share_path, guest.record.helpers)
        ]

    async def hide(self, container: ContainerRecord, others: Sequence[ContainerRecord], guest: Guest | None) -> None:
        """Have the guest no longer see what `container` was shown, and `others`, who stay, are not."""
        stay = {mount.share_path for mount in of_this_host(others)}
        for name in {mount.share_path for mount in of_this_host([container])} - stay:
            await in_thread(self.share.remove, name, guest.record.helpers if guest else ())
        await self._site.volumes.keep(self._record.id, _volumes(others))

    async def clear(self) -> None:
        """Nothing is shown any more, for no machine is left that could look."""
        await asyncio.to_thread(self.share.clear)
        await self._site.volumes.keep(self._record.id, ())

    # followed

    async def spread(self, guest: Guest | None) -> None:
        """Have the guest see what this host has mounted below what is followed, as of now. What fails keeps nothing
        else from it."""
        failed: HyperError | None = None
        async with self._turn:
            names = {mount.share_path for mount in self.wanted if _below(mount) == "followed"}
            for name in sorted(names.intersection(await asyncio.to_thread(self.share.names))):
                try:
                    await in_thread(self.share.follow, name, guest.record.helpers if guest else ())
                except HyperError as e:
                    failed = e
        if failed:
            raise failed

    # given and lent

    @contextmanager
    def given(self, trees: Mapping[str, int]) -> Iterator[None]:
        """For the block, what containers are to be shown of these paths are mount trees without a place, and their
        disks what is open there; closed after it."""
        self._trees.update(trees)
        try:
            yield
        finally:
            for path, fd in trees.items():
                self._trees.pop(path, None)
                os.close(fd)

    def disks(self, containers: Iterable[ContainerRecord]) -> list[DiskRecord]:
        """Their disks; of what is given it does not matter what has its path meanwhile."""
        found = rootfs.disks(containers)
        given = {disk.path: f"{OPENED}{self._trees[disk.path]}" for disk in found if disk.path in self._trees}
        return [msgspec.structs.replace(disk, path=given.get(disk.path, disk.path)) for disk in found]

    @asynccontextmanager
    async def lent(self, container: ContainerRecord, saved: Saved | None) -> AsyncIterator[Criu | None]:
        """For the block, the guest has CRIU, and the folders of `saved`."""
        if saved is None:
            yield None
            return
        prefix = f"{container.id[:12]}-criu"
        trees = {f"{prefix}-images": saved.images, f"{prefix}-work": saved.work}
        try:
            self.check("save", container)
            for name in (prefix, *trees):  # of a hyperd before us, which has ended while they were lent
                await in_thread(self.share.remove, name)
            place = self._site.run / "criu"
            await criu.prepare(place, (await self._site.boot(self._record)).kernel.parent / "modules")
            await in_thread(self.share.add, prefix, place, True)
            for name, tree in trees.items():
                await in_thread(self.share.add_tree, name, tree, False)
            yield Criu(program=prefix, images=f"{prefix}-images", work=f"{prefix}-work", flags=list(saved.flags))
        finally:
            for name in (prefix, *trees):
                await in_thread(self.share.remove, name)

    # filled

    @asynccontextmanager
    async def filling(self, container: ContainerRecord, guest: Guest) -> AsyncIterator[bool]:
        """For the block, the guest alone fills those volumes of `container` that are new, read-only ones too. False if
        there are none."""
        wanted = [mount for mount in container.mounts if mount.populate]
        fills = False
        async with AsyncExitStack() as stack:
            places = {Path(mount.path, mount.subpath): self.share.root / mount.share_path for mount in wanted}
            for place, folder in sorted(places.items()):
                state = await stack.enter_async_context(self._site.filling.turn(place, folder))
                fills = fills or state != "filled"
                for mount in wanted:
                    if Path(mount.path, mount.subpath) == place and mount.read_only and state != "filled":
                        await stack.enter_async_context(self._writable(mount, state, guest))
            yield fills

    @asynccontextmanager
    async def _writable(self, mount: MountRecord, state: State, guest: Guest) -> AsyncIterator[None]:
        """For the block, the guest can write to a read-only volume, if there is nothing in it. InUse when that cannot
        be taken from it."""
        if state == "unfinished":
            why = "the filling of it was cut short: mount it once without ro, which goes on with that"
            raise WrongState("mount", f"volume {mount.source}", "half filled", why)
        try:
            # Not in a thread: one that outlasts our cancellation would undo what follows.
            self.share.allow_writes(mount.share_path, guest.record.helpers)
            yield
        except BaseException:
            with suppress(HyperError):
                await self._refuse_writes(mount, guest)
            raise
        await self._refuse_writes(mount, guest)

    async def _refuse_writes(self, mount: MountRecord, guest: Guest) -> None:
        """A guest closes files a moment after who has written them. InUse when it does not, and it is ended."""
        async with AsyncExitStack() as undo:
            undo.push_async_callback(guest.kill)
            try:
                async with limit(CLOSED_S, guest.waited_s):
                    while not self.share.refuse_writes(mount.share_path, guest.record.helpers):  # noqa: ASYNC110
                        await asyncio.sleep(LOOK_S)
            except TimeoutError as e:
                why = "a file in it was still open for writing in the virtual machine, which was ended"
                doing = f"make volume {mount.source} read-only after it was filled"
                raise InUse(f"cannot {doing}: {why}", "volume", mount.source) from e
            undo.pop_all()

    # after our own restart

    def adopt(self) -> None:
        """What a machine of a hyperd before us has in use."""
        self._site.volumes.adopt(self._record.id, _volumes(self._record.containers))

    async def recover(self, guest: Guest) -> None:
        """Of a guest that is taken up again. InUse as above: a hyperd before us may have ended while a volume was
        filled."""
        for mount in [mount for container in self._record.containers for mount in container.mounts]:
            if mount.read_only and mount.populate and mount.share_path in self.share.names():
                await self._refuse_writes(mount, guest)

    def follow(self) -> None:
        """See from now on what this host mounts, if something that is shown follows that."""
        if any(_below(mount) == "followed" for mount in self.wanted):
            self.follows.set()


def of_this_host(containers: Iterable[ContainerRecord]) -> list[Shown]:
    """What they are shown of this host's folders."""
    shown: list[Shown] = []
    for container in containers:
        shown += rootfs.of(container.rootfs).folders
        shown += [mount for mount in container.mounts if mount.shared]
    return shown


def _volumes(containers: Iterable[ContainerRecord]) -> set[str]:
    return {mount.source for container in containers for mount in container.mounts if mount.type == "volume"}


def _alike(one: Shown, other: Shown) -> bool:
    return (one.path, _subpath(one), one.read_only, _ids(one), _below(one)) == (
        other.path,
        _subpath(other),
        other.read_only,
        _ids(other),
        _below(other),
    )


def _check_ids(shown: Sequence[Shown]) -> None:
    """Of mount trees that were given, which are there once."""
    for one, other in itertools.combinations(shown, 2):
        if one.path == other.path and not _alike(one, other) and (_ids(one) or _ids(other)):
            raise InvalidInput(f"cannot mount {one.path} in two ways, and map its ids: mount it alike, or map none")


def _ids(shown: Shown) -> IdMap | None:
    return shown.ids if isinstance(shown, MountRecord) else None


def _below(shown: Shown) -> Below:
    return shown.below if isinstance(shown, MountRecord) else "same"


def _subpath(shown: Shown) -> str:
    return shown.subpath if isinstance(shown, MountRecord) else ""
