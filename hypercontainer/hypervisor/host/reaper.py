"""Removing what a VMM is on the host, however far its start had come."""

import asyncio
import os
from pathlib import Path

from hypercontainer.errors import HyperError
from hypercontainer.hypervisor.host.rundir import RunDir
from hypercontainer.lib import cgroup, proc

LOOK_S = 0.001  # between two looks; whoever removes a container waits


async def reap(run: RunDir, *, timeout_s: float = 20.0) -> None:
    """Kill the processes of `run`, remove its cgroups and its files. Again is harmless.

    A starter that was killed may have left a hyper-jail that is still at work: whoever belongs to this VMM holds
    the lock, and has written its pid before it runs anything."""
    try:
        async with asyncio.timeout(timeout_s):
            while (lock := _kill_all(run)) is None:
                await _ended(run)
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


async def _ended(run: RunDir) -> None:
    """Wait for the ends of those that are known; not for long, for by then more may be.

    No time-out of asyncio's: in a task that was cancelled, as one whose start is given up, it cancels the rest."""
    known = [process for program in run.programs for process in run.processes(program)]
    ends = [asyncio.ensure_future(proc.gone(each.pid, each.start_time)) for each in known]
    try:
        if ends:
            await asyncio.wait(ends, timeout=5 * LOOK_S)
    finally:
        for end in ends:
            end.cancel()


def _kill_all(run: RunDir) -> int | None:
    """Kill what is known to live. Returns the lock once nothing does: a hostile VMM may have let go of it before."""
    for program in run.programs:
        for process in run.processes(program)[1:]:  # not the keepers: they write the status and end by themselves
            proc.kill(process.pid, process.start_time)
    return run.lock()
