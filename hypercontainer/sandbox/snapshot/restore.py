"""A container that goes on from a snapshot: first its machine, with the container still frozen in it, then that too."""

import os
from pathlib import Path

from msgspec.structs import replace

from hypercontainer.lib import clock
from hypercontainer.lib.tasks import in_thread, uninterrupted
from hypercontainer.lib.trace import Trace
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.exec import Exec
from hypercontainer.sandbox.locked import LockedPod
from hypercontainer.sandbox.machine import RestoreFrom
from hypercontainer.sandbox.snapshot.capture import continue_
from hypercontainer.storage import scratch

RUN = ("finished_ns", "error", "exit_code", "stopped_by_user", "oom_killed", "health")  # of a container that runs
COPY = ("provisional", "suspended")  # of a pod: it is no copy any more
BEFORE, NEW = ".before", ".new"  # what follows the name of a disk while another one takes its place


async def restore_frozen(
    pod: LockedPod, container: Container, source: RestoreFrom, trace: Trace, *, new_run: bool
) -> None:
    """Have the container go on from `source`: the machine, the streams, what runs in it. It is still frozen when this
    returns, and nothing of it on record that is not true; `thaw` follows. `new_run`: its log begins one.

    On failure nothing is left of the machine."""
    info, record = source.info, container.record
    vm = await pod.machine.boot(trace, source)
    try:
        with trace.step("identity"):
            if info.container != record.id:
                await vm.agent.rename_container(info.container, record.id)
            record.streams = info.streams
            if new_run:
                record.runs, record.started_ns = record.runs + 1, clock.now_ns()
                container.output.go_on(record.runs, info.offsets)
            container.connect(vm)
            for process in vm.agent.known.processes:
                if process.id != info.container:
                    pod.execs[process.id] = await Exec.orphan(vm, process)
                elif not process.running:
                    pod.pod.spawn(pod.pod.ended(container, process.status, oom=process.oom))
    except BaseException:
        await uninterrupted(_end(pod, container))
        raise
    pod.pod.adopt(vm)


async def _end(pod: LockedPod, container: Container) -> None:
    container.output.cut()
    container.stdin = None
    pod.execs.clear()
    await pod.machine.release()


async def thaw(pod: LockedPod, container: Container, trace: Trace) -> None:
    """Write down that it runs, and let it. From then on it is no copy any more.

    When that cannot be written nothing is left of the machine, and the record is as before; after any later failure
    the machine is still there, and goes on as soon as its guest hears of it."""
    record, before, copied = container.record, replace(container.record), replace(pod.record)
    record.finished_ns, record.error, record.exit_code = 0, "", 0
    record.stopped_by_user = record.oom_killed = False
    if record.state != "suspended":
        record.begin_health()
    pod.record.frozen, pod.record.provisional, pod.record.suspended = True, False, None
    try:
        with record.moving("running"):
            pod.supervisor.save(pod.record, durable=True)
    except BaseException:
        for old, now, names in ((before, record, RUN), (copied, pod.record, COPY)):
            for name in names:
                setattr(now, name, getattr(old, name))
        await uninterrupted(_end(pod, container))
        raise
    container.left.clear()
    with trace.step("thaw"):
        await continue_(pod, container, stopped=False)
    pod.supervisor.began(pod.pod, container)


async def restore(pod: LockedPod, container: Container, source: RestoreFrom, disk: Path, trace: Trace) -> None:
    """Have a container that does not run go on from `source` and a copy of `disk`, in place of what it has now; if that
    fails it stays as it is."""
    path = container.scratch
    before, new = _beside(path, BEFORE), _beside(path, NEW)
    new.unlink(missing_ok=True)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    await in_thread(scratch.copy, disk, new)
    try:
        if path.exists():
            os.replace(path, before)
        os.replace(new, path)
        await restore_frozen(pod, container, source, trace, new_run=True)
        await thaw(pod, container, trace)
    except BaseException:
        if before.exists() and pod.machine.vm is None:  # else it is that machine's, which runs on
            os.replace(before, path)
        raise
    finally:
        before.unlink(missing_ok=True)


def finish_interrupted(container: Container) -> None:
    """After a restart of ours in the middle of `restore`: the disk is that of what runs, or what it was before."""
    path = container.rootfs.scratch
    if path is None:
        return  # it was never to be restored
    before = _beside(path, BEFORE)
    if before.exists() and not container.running:
        os.replace(before, path)
    before.unlink(missing_ok=True)
    _beside(path, NEW).unlink(missing_ok=True)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
