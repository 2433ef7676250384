"""What is left of a container that has been deleted: nothing may be."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.oci import reaper

CGROUPS = Path("/sys/fs/cgroup")


class Process(NamedTuple):
    """A process that may have ended: another one with its pid has another start."""

    pid: int
    start: str


def stat(pid: int) -> tuple[int, str]:
    """The parent's pid and the start of a process. OSError: it is gone."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1]), fields[19]


def below(ancestor: int) -> set[Process]:
    """All that descends from a process."""
    parents: dict[int, int] = {}
    starts: dict[int, str] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                parents[int(name)], starts[int(name)] = stat(int(name))
    found: set[Process] = set()
    for pid in parents:
        up: int | None = pid
        while up is not None and up != ancestor:
            up = parents.get(up)
        if up == ancestor and pid != ancestor:
            found.add(Process(pid, starts[pid]))
    return found


def processes(before: set[Process], limit_s: float = reaper.LIMIT_S) -> list[str]:
    """Those below us that were not there before and do not end in time."""
    deadline = time.monotonic() + limit_s
    while left := below(os.getpid()) - before:
        for process in left:
            reaper.ended(process.pid, max(0, deadline - time.monotonic()))
        reaper.forget()
        if time.monotonic() > deadline:
            return [named(process.pid) for process in left]
    return []


def kill(before: set[Process]) -> None:
    """Those below us that were not there before."""
    for process in below(os.getpid()) - before:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        reaper.ended(process.pid)
    reaper.forget()


def named(pid: int) -> str:
    """A process by its command line, which a zombie does not have."""
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        return f"{pid} {words.decode(errors='replace')}"
    return str(pid)


def mounts(pid: int) -> dict[str, Path]:
    """Where something is mounted in the namespace of a process, by the mounts' numbers and in their order: a folder
    that somebody else renames is no new mount."""
    rows = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    return {row[0]: Path(row[4]) for row in rows}


def cgroups(name: str) -> list[Path]:
    """Those whose path has `name`, in all hierarchies, the lowest last."""
    return [Path(folder) for folder, _, _ in os.walk(CGROUPS) if name in folder]
