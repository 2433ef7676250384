"""A pod that sleeps on disk, and wakes: its one container goes on where it was."""

import shutil

from hypercontainer.errors import WrongState
from hypercontainer.lib import files
from hypercontainer.lib.tasks import in_thread, uninterrupted
from hypercontainer.lib.trace import Trace
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.locked import LockedPod
from hypercontainer.sandbox.machine import RestoreFrom
from hypercontainer.sandbox.snapshot import restore
from hypercontainer.sandbox.snapshot.capture import capture, continue_
from hypercontainer.sandbox.snapshot.files import SnapshotDir, load, sweep
from hypercontainer.sandbox.snapshot.shape import check_fits


async def suspend(pod: LockedPod, container: Container, trace: Trace) -> None:
    """Save the machine and end it. The container goes on if it cannot be saved."""
    record = container.record
    with SnapshotDir.make(pod.pod.suspended_folder) as made:
        info = await capture(pod, container, made.memory, made.state, None, trace)
        try:
            await in_thread(_sync, container)
            await made.commit()
            pod.record.suspended, pod.record.frozen = info, False
            with record.moving("suspended"):
                pod.supervisor.save(pod.record, durable=True)
        except BaseException:
            pod.record.suspended = None
            await uninterrupted(continue_(pod, container))
            raise
    why = WrongState("talk to", record.name, "suspended")
    pod.end_execs(why)
    container.output.cut()
    try:
        await release_suspended(pod)
    finally:  # whoever waits for it is told, whatever is left on the host
        container.rest(why)
        await container.output.end()
    pod.emit("suspend", container)


def _sync(container: Container) -> None:
    with files.telling(f"write {container.scratch}"):
        files.fsync(container.scratch)


async def release_suspended(pod: LockedPod) -> None:
    """Free what a suspended pod holds on the host, but its addresses and ports."""
    nics = list(pod.record.nics)
    await pod.machine.release()
    pod.record.nics = nics
    pod.machine.note()


async def resume(pod: LockedPod, container: Container, trace: Trace) -> None:
    """Have a suspended container go on. WrongState when it is none, or cannot go on here any more; if that fails
    otherwise it stays suspended."""
    container.record.check("resume")
    record, info, folder = pod.record, pod.record.suspended, pod.pod.suspended_folder
    assert info  # noqa: S101  it is suspended
    await check_fits(pod.site, record, info, "resume")
    loaded = await load(folder)
    try:
        nics = list(record.nics)
        try:
            source = RestoreFrom(snapshot=loaded.seal(), info=info)
            await restore.restore_frozen(pod, container, source, trace, new_run=False)
            await restore.thaw(pod, container, trace)
        except BaseException:
            if record.suspended:
                record.nics = nics
                pod.machine.note()
            raise
    finally:
        loaded.close()
        if record.suspended is None:  # its disk is another by now
            shutil.rmtree(folder, ignore_errors=True)


# our own restart


async def mark_suspended(pod: LockedPod) -> None:
    """What is on disk counts: a guest that was to be saved, or had not begun to go on, ends."""
    for container in pod.containers.values():
        container.record.move("suspended")
        container.rest()
        await release_suspended(pod)
    sweep(pod.pod.folder)


async def finish_interrupted(pod: LockedPod) -> None:
    """Bring to an end what we were doing to a pod that is not suspended. Its guest, if there is one, goes on."""
    sweep(pod.pod.folder)
    shutil.rmtree(pod.pod.suspended_folder, ignore_errors=True)
    for container in pod.containers.values():
        restore.finish_interrupted(container)
        if pod.record.frozen:
            await continue_(pod, container)
