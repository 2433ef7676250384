"""The use cases of snapshots: fork, suspend and resume, checkpoints. model.api.Snapshots says what each promises."""

from collections.abc import Sequence
from contextlib import AsyncExitStack

from hypercontainer.engine import allocate, copies, resolve
from hypercontainer.engine.checkpoint import DISK, VERSION, Checkpoint, CheckpointStore
from hypercontainer.engine.supervisor import Supervisor
from hypercontainer.errors import InvalidInput, NotFound, WrongState
from hypercontainer.lib import clock
from hypercontainer.lib.tasks import in_thread, uninterrupted
from hypercontainer.lib.trace import Timings, Trace
from hypercontainer.model import documents as doc
from hypercontainer.model import ids
from hypercontainer.model.spec import PortMapping
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.locked import LockedPod
from hypercontainer.sandbox.machine import RestoreFrom
from hypercontainer.sandbox.pod import Pod
from hypercontainer.sandbox.snapshot import capture, restore, suspend
from hypercontainer.sandbox.snapshot import fork as forks
from hypercontainer.sandbox.snapshot.files import load
from hypercontainer.sandbox.snapshot.fork import only
from hypercontainer.sandbox.snapshot.shape import check_fits
from hypercontainer.storage import scratch

MAX_FORKS = 100  # at once


class Snapshots:
    def __init__(self, supervisor: Supervisor, trace: type[Timings]) -> None:
        """`trace` makes the trace of each start."""
        self.supervisor, self.host, self._trace = supervisor, supervisor.host, trace

    # copies that run

    async def fork(self, c: str, *, count: int, name: str, ports: Sequence[PortMapping]) -> doc.Forked:
        pod, container = self.supervisor.find(c)
        if not 1 <= count <= MAX_FORKS:
            raise InvalidInput(f"cannot fork {container.record.name} {count} times: 1 to {MAX_FORKS}")
        for port in ports:
            resolve.check_port(port)
        trace = self._trace()
        names: list[str] = []
        while len(names) < count:
            given = self._named(f"{name}-{len(names) + 1}" if name and count > 1 else name)
            if given not in names:  # one that was invented twice
                names.append(given)
        capture.check(pod, container, "fork")
        made = await copies.fork(self.supervisor, pod, names, [*copies.free_ports(pod.record), *ports], trace)
        pod.emit("fork", container, copies=str(count))
        return doc.Forked(ids=[only(copy).record.id for copy in made])

    def _named(self, name: str) -> str:
        if not name:
            return self.host.index.invent_name()
        self.host.index.check_container_name(ids.check_name("container", name))
        self.host.index.check_pod_name(name)
        return name

    # one that sleeps

    async def suspend(self, c: str) -> None:
        pod, container = self.supervisor.find(c)
        async with pod.locked() as locked:
            capture.check(pod, container, "suspend")
            await uninterrupted(suspend.suspend(locked, container, self._trace()))

    async def resume(self, c: str) -> None:
        pod, container = self.supervisor.find(c)
        async with pod.locked() as locked:
            await suspend.resume(locked, container, self._trace())
        pod.emit("resume", container)

    # checkpoints

    async def list(self, c: str) -> Sequence[doc.Checkpoint]:
        store = self.host.checkpoints
        try:
            found = store.of(self._checkpointed(c)) if c else store.all()
        except NotFound:
            self.supervisor.find(c)  # there is the container, or NotFound says that there is not
            found = []
        return [_document(store, checkpoint) for checkpoint in found]

    def _checkpointed(self, c: str) -> str:
        """The id of a container that exists, or what else `c` may say."""
        try:
            return self.supervisor.find(c)[1].record.id
        except NotFound:
            return c

    async def create(self, c: str, name: str, *, leave_running: bool) -> None:
        pod, container, store = *self.supervisor.find(c), self.host.checkpoints
        async with pod.locked() as locked:
            capture.check(pod, container, "checkpoint")
            try:
                await uninterrupted(_checkpoint(store, locked, container, name, self._trace(), leave_running))
            finally:  # whatever happened later, it may be there
                self.refer_images()

    async def remove(self, c: str, name: str) -> None:
        store = self.host.checkpoints
        store.remove(store.find(self._checkpointed(c), name))
        self.refer_images()

    async def restore(self, c: str, checkpoint: str, *, name: str) -> doc.Created:
        found = self.host.checkpoints.find(self._checkpointed(c), checkpoint)
        await check_fits(self.host.site, found.pod, found.snapshot, "restore")
        try:
            pod, container = self.supervisor.find(found.container.id)
        except NotFound:
            return doc.Created(id=await self._restore_copy(found, name, same=not name))
        if name:
            return doc.Created(id=await self._restore_copy(found, name, same=False))
        async with pod.locked() as locked:
            _check_idle(pod, container)
            self.supervisor.restarts.cancel(container.record.id)
            if container.record.state == "restarting":
                container.record.move("exited")
            await self._restore(locked, container, found)
        pod.emit("restore", container, checkpoint=checkpoint)
        return doc.Created(id=container.record.id)

    async def _restore(self, pod: LockedPod, container: Container, found: Checkpoint) -> None:
        folder = self.host.checkpoints.folder(found)
        loaded = await load(folder)
        try:
            source = RestoreFrom(snapshot=loaded.seal(), info=found.snapshot)
            pod.record.nics = allocate.free(self.host, pod.record, found.pod.nics)
            await restore.restore(pod, container, source, folder / DISK, self._trace())
        except BaseException:
            if pod.machine.vm is None:
                pod.record.nics = []
            raise
        finally:
            loaded.close()

    async def _restore_copy(self, found: Checkpoint, name: str, *, same: bool) -> str:
        """As a new container; with the ids that it had if it has gone."""
        folder, trace = self.host.checkpoints.folder(found), self._trace()
        async with AsyncExitStack() as undo:
            loaded = await load(folder)
            undo.callback(loaded.close)
            name = self._named(name or found.container.name)  # taken in the same breath
            if same:
                pod = copies.same(self.supervisor, found.pod)
            else:
                pod = copies.new(self.supervisor, found.pod, name, copies.free_ports(found.pod))
            async with AsyncExitStack() as making:
                making.push_async_callback(copies.discard, self.supervisor, pod)
                await in_thread(scratch.copy, folder / DISK, only(pod).scratch)
                source = RestoreFrom(snapshot=loaded.seal(), info=found.snapshot)
                pod.record.nics = allocate.free(self.host, pod.record, found.pod.nics) if same else []
                await forks.restore_copy(pod, source, trace)
                await forks.publish([pod], trace)
                making.pop_all()
            copies.announce(pod)
        return only(pod).record.id

    def refer_images(self) -> None:
        """Have the index know of which images there are checkpoints."""
        self.host.index.checkpoints = [
            (c.container.image_id, f"checkpoint {c.name} of container {c.container.name}")
            for c in self.host.checkpoints.all()
        ]


async def _checkpoint(
    store: CheckpointStore, pod: LockedPod, container: Container, name: str, trace: Trace, leave_running: bool
) -> None:
    with store.make(container.record.id, name) as made:
        info = await capture.capture(
            pod, container, made.memory, made.state, lambda disk: scratch.copy(disk, made.folder / DISK), trace
        )
        try:
            store.write(made, Checkpoint(version=VERSION, name=name, snapshot=info, pod=pod.record))
            if not leave_running:
                await made.commit()
        except BaseException:
            await uninterrupted(capture.continue_(pod, container))
            raise
        if leave_running:
            await capture.continue_(pod, container)
            await made.commit()
    pod.emit("checkpoint", container, checkpoint=name)
    if not leave_running:
        await pod.end(container)


def _check_idle(pod: Pod, container: Container) -> None:
    pod.machine.check_reached("restore", container.record.name)
    pod.check(container, "restore")
    capture.check_alone(pod.record, container.record, "restore")
    if pod.machine.vm:  # it ends just now, or files are copied
        raise WrongState("restore", container.record.name, "in use", "wait, or restore it under another name")


def _document(store: CheckpointStore, checkpoint: Checkpoint) -> doc.Checkpoint:
    return doc.Checkpoint(
        name=checkpoint.name,
        container_id=checkpoint.container.id,
        container_name=checkpoint.container.name,
        image=checkpoint.container.image_name,
        created_at=clock.rfc3339(checkpoint.snapshot.time_ns),
        size=store.size(checkpoint),
        vmm=checkpoint.snapshot.vmm,
    )
