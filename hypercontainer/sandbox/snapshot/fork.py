"""Copies of a container that runs: pods of their own, which go on where it was."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from hypercontainer.lib.tasks import all_of, in_thread, uninterrupted
from hypercontainer.lib.trace import Trace
from hypercontainer.model.record import SnapshotInfo
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.locked import LockedPod
from hypercontainer.sandbox.machine import RestoreFrom
from hypercontainer.sandbox.pod import Pod
from hypercontainer.sandbox.snapshot.capture import capture, check, continue_, info
from hypercontainer.sandbox.snapshot.files import LoadedSnapshot
from hypercontainer.sandbox.snapshot.restore import restore_frozen, thaw
from hypercontainer.storage import scratch


def only(pod: Pod | LockedPod) -> Container:
    """The container of a pod that was made for it."""
    return next(iter(pod.containers.values()))


async def fork(source: Pod, copies: Sequence[Pod], trace: Trace) -> None:
    """Have `copies`, which are provisional, run where `source` is, which goes on as soon as its state has been taken.
    All of them, or an error."""
    kept = LoadedSnapshot()
    try:
        for copy in copies:
            scratch.blank(only(source).scratch, only(copy).scratch)
        await _fork(source, kept, copies, trace)
        await publish(copies, trace)
    finally:
        kept.close()


async def _fork(source: Pod, kept: LoadedSnapshot, copies: Sequence[Pod], trace: Trace) -> None:
    """Have `copies`, whose disks are blank, go on from the source. Their VMMs start while it is being copied."""
    disks = [only(copy).scratch for copy in copies]
    complete = asyncio.Event()
    async with source.locked() as locked:
        check(source, only(source), "fork")
        begins = await info(locked, only(source))
        os.truncate(kept.memory.fileno(), begins.memory_mib << 20)
        origin = RestoreFrom(snapshot=kept.snapshot(complete.wait), info=begins)
        restoring = asyncio.create_task(all_of(*(restore_copy(copy, origin, trace) for copy in copies)), name="fork")
        try:
            await _capture(locked, kept, begins, disks[0], trace)
        except BaseException:
            await _give_up(restoring)
            raise
    try:
        kept.seal()
        with trace.step("disks"):
            await in_thread(_copy_disks, disks)
        complete.set()
        await restoring
    except BaseException:
        await _give_up(restoring)
        raise


async def _give_up(restoring: "asyncio.Task[None]") -> None:
    restoring.cancel()
    await asyncio.gather(restoring, return_exceptions=True)


async def _capture(source: LockedPod, kept: LoadedSnapshot, begins: SnapshotInfo, disk: Path, trace: Trace) -> None:
    """Fill what is kept and the first disk, and say in `begins` where the streams were."""
    files, container = (kept.memory.fileno(), kept.state.fileno()), only(source)
    taken = await capture(source, container, *files, lambda path: scratch.fill(disk, path), trace)
    await uninterrupted(continue_(source, container))
    begins.offsets, begins.time_ns = taken.offsets, taken.time_ns


def _copy_disks(disks: Sequence[Path]) -> None:
    for path in disks[1:]:
        scratch.fill(path, disks[0])


async def restore_copy(copy: Pod, source: RestoreFrom, trace: Trace) -> None:
    """Have a provisional pod, whose disk is there, go on from `source`, still frozen; `publish` follows."""
    async with copy.locked() as locked:
        await restore_frozen(locked, only(copy), source, trace, new_run=True)


async def publish(copies: Sequence[Pod], trace: Trace) -> None:
    """Let those that were restored run: all of them, or an error."""
    await all_of(*(_thaw(copy, trace) for copy in copies))


async def _thaw(copy: Pod, trace: Trace) -> None:
    async with copy.locked() as locked:
        await thaw(locked, only(copy), trace)
