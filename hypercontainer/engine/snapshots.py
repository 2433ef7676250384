"""The use cases of snapshots: fork, suspend and resume, checkpoints."""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from hypercontainer.engine import allocate, copies, resolve
from hypercontainer.engine.checkpoint import DISK, VERSION, Checkpoint, CheckpointStore
from hypercontainer.engine.host import Host
from hypercontainer.engine.supervisor import Supervisor
from hypercontainer.errors import InvalidInput, NotFound, WrongState
from hypercontainer.lib import clock, files
from hypercontainer.lib.together import in_thread, to_its_end
from hypercontainer.lib.trace import Timings, Trace
from hypercontainer.model import documents as doc
from hypercontainer.model import ids
from hypercontainer.model.spec import PortMapping
from hypercontainer.sandbox import saved, snapshot
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.locked import LockedPod
from hypercontainer.sandbox.machine import Origin
from hypercontainer.sandbox.pod import Pod
from hypercontainer.storage import scratch

MAX_FORKS = 100  # at once
BEFORE = ".before"  # what a container's disk is called while a checkpoint's takes its place


class Snapshots:
    """Part of LocalEngine."""

    host: Host
    supervisor: Supervisor
    _trace: type[Timings]
    _find: Callable[[str], tuple[Pod, Container]]
    _invented: Callable[[], str]

    # copies that run

    async def fork(self, c: str, *, count: int, name: str, ports: Sequence[PortMapping]) -> doc.Forked:
        pod, container = self._find(c)
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
        made = await copies.fork(self.supervisor, pod, names, [*copies.unfixed(pod.record), *ports], trace)
        pod.emit("fork", container, copies=str(count))
        return doc.Forked(ids=[copies.only(copy).record.id for copy in made])

    def _named(self, name: str) -> str:
        if not name:
            return self._invented()
        self.host.index.check_container_name(ids.check_name("container", name))
        self.host.index.check_pod_name(name)
        return name

    # one that sleeps

    async def suspend(self, c: str) -> None:
        pod, container = self._find(c)
        async with pod.locked() as locked:
            snapshot.check(pod, container, "suspend")
            await to_its_end(_suspend(locked, container, self._trace()))

    async def resume(self, c: str) -> None:
        pod, container = self._find(c)
        async with pod.locked() as locked:
            if pod.record.suspended is None:
                raise WrongState("resume", container.record.name, container.record.state, "it was not suspended")
            await _resume(locked, container, self._trace())
        pod.emit("resume", container)

    # checkpoints

    async def list_checkpoints(self, c: str) -> Sequence[doc.Checkpoint]:
        store = self.host.checkpoints
        try:
            found = store.of(self._checkpointed(c)) if c else store.all()
        except NotFound:
            self._find(c)  # there is the container, or NotFound says that there is not
            found = []
        return [_document(store, checkpoint) for checkpoint in found]

    def _checkpointed(self, c: str) -> str:
        """The id of a container that exists, or what else `c` may say."""
        try:
            return self._find(c)[1].record.id
        except NotFound:
            return c

    async def create_checkpoint(self, c: str, name: str, *, leave_running: bool) -> None:
        pod, container, store = *self._find(c), self.host.checkpoints
        async with pod.locked() as locked:
            snapshot.check(pod, container, "checkpoint")
            try:
                await to_its_end(_checkpoint(store, locked, container, name, self._trace(), leave_running))
            finally:  # whatever happened later, it may be there
                self.refer_images()

    async def remove_checkpoint(self, c: str, name: str) -> None:
        store = self.host.checkpoints
        store.remove(store.find(self._checkpointed(c), name))
        self.refer_images()

    async def restore(self, c: str, checkpoint: str, *, name: str) -> doc.Created:
        found = self.host.checkpoints.find(self._checkpointed(c), checkpoint)
        await snapshot.check_fits(self.host.site, found.pod, found.moment, "restore")
        try:
            pod, container = self._find(found.container.id)
        except NotFound:
            return doc.Created(id=await self._restore_copy(found, name, same=not name))
        if name:
            return doc.Created(id=await self._restore_copy(found, name, same=False))
        async with pod.locked() as locked:
            _check_idle(pod, container)
            self.supervisor.restarts.cancel(container.record.id)
            if container.record.state == "restarting":
                container.record.state = "exited"
            await _restore(self.host, locked, container, found, self._trace())
        pod.emit("restore", container, checkpoint=checkpoint)
        return doc.Created(id=container.record.id)

    async def _restore_copy(self, found: Checkpoint, name: str, *, same: bool) -> str:
        """As a new container; with the ids that it had if it has gone."""
        folder, trace = self.host.checkpoints.folder(found), self._trace()
        async with AsyncExitStack() as undo:
            loaded = await saved.load(folder)
            undo.callback(loaded.close)
            name = self._named(name or found.container.name)  # taken in the same breath
            if same:
                pod = copies.again(self.supervisor, found.pod)
            else:
                pod = copies.new(self.supervisor, found.pod, name, copies.unfixed(found.pod))
            async with AsyncExitStack() as making:
                making.push_async_callback(copies.discard, self.supervisor, pod)
                await in_thread(scratch.copy, folder / DISK, copies.disk(pod))
                origin = Origin(snapshot=loaded.seal(), moment=found.moment)
                nic = allocate.free(self.host, pod.record, found.pod.nic) if same else None
                await copies.wake(pod, origin, trace, nic=nic)
                await copies.rise([pod], trace)
                making.pop_all()
        return copies.only(pod).record.id

    def refer_images(self) -> None:
        """Have the index know of which images there are checkpoints."""
        self.host.index.checkpoints = [
            (c.container.image_id, f"checkpoint {c.name} of container {c.container.name}")
            for c in self.host.checkpoints.all()
        ]


async def _suspend(pod: LockedPod, container: Container, trace: Trace) -> None:
    """The container goes on if it cannot be saved."""
    record, path = container.record, pod.pod.suspended_folder
    with saved.making(path) as made:
        moment = await snapshot.take(pod, container, made.memory, made.state, None, trace)
        try:
            await in_thread(_sync_disk, copies.disk(pod))
            await made.commit()
            record.state, pod.record.suspended, pod.record.held = "suspended", moment, False
            pod.owner.save(pod.record, durable=True)
        except BaseException:
            record.state, pod.record.suspended = "running", None
            await to_its_end(snapshot.go_on(pod, container))
            raise
    why = WrongState("talk to", record.name, "suspended")
    for exec_ in pod.execs.values():
        exec_.lost(why)
    pod.execs.clear()
    container.output.cut()
    try:
        await sleep(pod)
    finally:  # whoever waits for it is told, whatever is left on the host
        container.rest(why)
        await container.output.end()
    pod.emit("suspend", container)


async def sleep(pod: LockedPod) -> None:
    """Free what a suspended pod holds on the host, but its addresses and ports."""
    nic = pod.record.nic
    await pod.machine.release()
    pod.record.nic = nic
    pod.machine.note()


async def _resume(pod: LockedPod, container: Container, trace: Trace) -> None:
    record, moment = pod.record, pod.record.suspended
    assert moment  # noqa: S101  the caller has looked
    await snapshot.check_fits(pod.site, record, moment, "resume")
    loaded = await saved.load(pod.pod.suspended_folder)
    try:
        nic = record.nic
        try:
            await snapshot.wake(pod, container, Origin(snapshot=loaded.seal(), moment=moment), trace, new_run=False)
            await snapshot.thaw(pod, container, trace)
        except BaseException:
            if record.suspended:
                record.nic = nic
                pod.machine.note()
            raise
    finally:
        loaded.close()
        if record.suspended is None:  # its disk is another by now
            shutil.rmtree(pod.pod.suspended_folder, ignore_errors=True)


async def _checkpoint(
    store: CheckpointStore, pod: LockedPod, container: Container, name: str, trace: Trace, leave_running: bool
) -> None:
    with store.making(container.record.id, name) as made:
        moment = await snapshot.take(
            pod, container, made.memory, made.state, lambda disk: scratch.copy(disk, made.folder / DISK), trace
        )
        try:
            store.write(made, Checkpoint(version=VERSION, name=name, moment=moment, pod=pod.record))
            if not leave_running:
                await made.commit()
        except BaseException:
            await to_its_end(snapshot.go_on(pod, container))
            raise
        if leave_running:
            await snapshot.go_on(pod, container)
            await made.commit()
    pod.emit("checkpoint", container, checkpoint=name)
    if not leave_running:
        await pod.end(container)


def _check_idle(pod: Pod, container: Container) -> None:
    state = container.record.state
    pod.machine.check_reached("restore", container.record.name)
    if pod.removed or state not in ("created", "exited", "restarting") or pod.machine.vm:
        raise WrongState("restore", container.record.name, state, "stop it first, or restore it under another name")


async def _restore(host: Host, pod: LockedPod, container: Container, found: Checkpoint, trace: Trace) -> None:
    """In place of what the container has now; if that fails it stays as it is."""
    folder, path = host.checkpoints.folder(found), copies.disk(pod)
    before, new = path.with_name(path.name + BEFORE), path.with_name(path.name + ".new")
    loaded = await saved.load(folder)
    try:
        new.unlink(missing_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        await in_thread(scratch.copy, folder / DISK, new)
        try:
            if path.exists():
                os.replace(path, before)
            os.replace(new, path)
            origin = Origin(snapshot=loaded.seal(), moment=found.moment)
            pod.record.nic = allocate.free(host, pod.record, found.pod.nic)
            await snapshot.wake(pod, container, origin, trace, new_run=True)
            await snapshot.thaw(pod, container, trace)
        except BaseException:
            if before.exists() and pod.machine.vm is None:  # else it is that machine's, which runs on
                os.replace(before, path)
            raise
        finally:
            before.unlink(missing_ok=True)
    finally:
        loaded.close()


# our own restart


async def keep_suspended(pod: LockedPod) -> None:
    """What is on disk counts: a guest that was to be saved, or had not begun to go on, ends."""
    for container in pod.containers.values():
        container.record.state = "suspended"
        container.rest()
        await sleep(pod)
    saved.sweep(pod.pod.folder)


async def mend(pod: LockedPod) -> None:
    """Bring to an end what we were doing to a pod that is not suspended. Its guest, if there is one, goes on."""
    saved.sweep(pod.pod.folder)
    shutil.rmtree(pod.pod.suspended_folder, ignore_errors=True)
    for container in pod.containers.values():
        _mend_disk(container)
        if pod.record.held:
            await snapshot.go_on(pod, container)


def _mend_disk(container: Container) -> None:
    """In the middle of a restore: the disk is that of what runs, or what it was before."""
    upper = container.record.upper
    if upper is None:
        return
    path = Path(upper.path)
    before = path.with_name(path.name + BEFORE)
    if before.exists() and not container.running:
        os.replace(before, path)
    before.unlink(missing_ok=True)
    path.with_name(path.name + ".new").unlink(missing_ok=True)


def _sync_disk(path: Path) -> None:
    with files.telling(f"write {path}"):
        files.fsync(path)


def _document(store: CheckpointStore, checkpoint: Checkpoint) -> doc.Checkpoint:
    return doc.Checkpoint(
        name=checkpoint.name,
        container_id=checkpoint.container.id,
        container_name=checkpoint.container.name,
        image=checkpoint.container.image_name,
        created_at=clock.rfc3339(checkpoint.moment.time_ns),
        size=store.size(checkpoint),
        vmm=checkpoint.moment.vmm,
    )
