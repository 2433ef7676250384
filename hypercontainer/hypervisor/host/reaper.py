"""Removing what a VMM is on the host, however far its start had come."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

from hypercontainer.errors import HyperError
from hypercontainer.hypervisor.host.rundir import RunDir
from hypercontainer.lib import cgroup, proc
from hypercontainer.lib.tasks import all_of
from hypercontainer.model.record import ProcessRef

LOOK_S = 0.001  # between two looks; whoever removes a container waits


async def reap(run: RunDir, *, timeout_s: float = 20.0) -> None:
    """Kill the processes of `run`, remove its cgroups and its files. Again is harmless.

    A starter that was killed may have left a hyper-jail that is still at work: whoever belongs to this VMM holds
    the lock, and has written its pid before it runs anything."""
    try:
        async with asyncio.timeout(timeout_s):
            while (lock := _kill_all(run)) is None:
                with suppress(TimeoutError):  # by then more may be known
                    async with asyncio.timeout(5 * LOOK_S):
                        await all_of(*(proc.gone(each.pid, each.start_time) for each in _known(run)))
                await asyncio.sleep(LOOK_S)  # others hold it, too: nothing tells when a flock is free
            try:
                known = run.load()
                folders = [Path(folder) for folder in known.cgroups] if known else []
                while not cgroup.remove(folders):  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_S)  # a process leaves its cgroup last, after it has closed its files
                run.clear()
            finally:
                os.close(lock)
    except TimeoutError as e:
        raise HyperError(f"cannot end the virtual machine in {run.path}: it did not die within {timeout_s:g} s") from e


def _known(run: RunDir) -> list[ProcessRef]:
    return [process for program in run.programs for process in run.processes(program)]


def _kill_all(run: RunDir) -> int | None:
    """Kill what is known to live. Returns the lock once nothing does: a hostile VMM may have let go of it before."""
    for program in run.programs:
        for process in run.processes(program)[1:]:  # not the keepers: they write the status and end by themselves
            proc.kill(process.pid, process.start_time)
    return run.lock()
