"""Limits on the host: a cgroup of its own in each hierarchy that has what we need, version 2 or 1.

Whoever makes one writes down what `plan` said before, so that the next hyperd finds what a killed one left."""

import errno
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from hypercontainer.lib.engine_cgroup import COUNTED as COUNTED

CGROUPS = Path("/sys/fs/cgroup")
PARENT = "hyper"
BOUNDS = ("memory.max", "memory.limit_in_bytes", "pids.max")
PERIOD_US = 100_000
USUAL_SHARES, USUAL_IO_WEIGHT = 1024, 100
USUAL_BFQ_WEIGHT = 100


def in_container(groups: str) -> bool:
    """Whether this host is a container by docker's rule, which looks at `groups`, /proc/1/cgroup: its first process is
    in a group that is neither the root's nor systemd's for it."""
    return any(line and not line.endswith((":/", ":/init.scope")) for line in groups.splitlines())


def plan(name: str, controllers: Sequence[str] = ("memory", "pids")) -> list[Path]:
    """The folders that `create` will make for `name`, to have these controllers of version 1; none where the host's
    cgroups are not ours to use."""
    if (CGROUPS / "cgroup.controllers").exists():
        roots = [CGROUPS]
    else:
        roots = [CGROUPS / controller for controller in controllers]
    return [root / PARENT / name for root in roots if os.access(root, os.W_OK) and root.is_dir()]


def create(folders: Sequence[Path], *, memory: int | None, tasks: int) -> None:
    """Make the folders that `plan` named and set their limits: bytes of memory, if any, and threads. Again is
    harmless."""
    for folder in folders:
        folder.parent.mkdir(exist_ok=True)
        for parent in (folder.parent.parent, folder.parent):  # version 2: children may have these controllers
            _give(parent, ("memory", "pids"))
        folder.mkdir(exist_ok=True)
        _set(folder / "pids.max", str(tasks))
    if memory is not None:
        limit(folders, memory)


def weigh(folders: Sequence[Path], *, quota_us: int, shares: int, io_weight: int) -> None:
    """Make the folders that `plan` named, and set what those in them may take of processors and disks: microseconds in
    each PERIOD_US, or 0 for no limit; shares of version 1; an io.weight of version 2. Again is harmless.

    OSError: the host gives none of its processors or disks to groups."""
    for folder in folders:
        folder.parent.mkdir(exist_ok=True)
        asked = [
            *(["cpu"] if quota_us or shares != USUAL_SHARES else []),
            *(["io"] if io_weight != USUAL_IO_WEIGHT else []),
        ]
        for name in asked:  # one by one: what there is of one is not lost with the other
            for parent in (folder.parent.parent, folder.parent):
                _give(parent, (name,))
        folder.mkdir(exist_ok=True)
        _set(folder / "cpu.cfs_period_us", str(PERIOD_US))
        _set(folder / "cpu.cfs_quota_us", str(quota_us or -1))
        _set(folder / "cpu.shares", str(shares))
        _set(folder / "cpu.max", f"{quota_us or 'max'} {PERIOD_US}")
        _set(folder / "cpu.weight", str(1 + max(0, shares - 2) * 9999 // 262142))
        _set(folder / "io.weight", f"default {io_weight}")
        bfq = USUAL_BFQ_WEIGHT if io_weight == USUAL_IO_WEIGHT else 10 + max(0, io_weight - 1) * 990 // 9999
        for name in ("io.bfq.weight", "blkio.bfq.weight", "blkio.weight"):
            _set(folder / name, str(bfq))


def move(source: Path, folders: Sequence[Path]) -> None:
    """Have all who are in `source` be in `folders`; and who is started meanwhile."""
    moved: set[str] = set()
    while folders and (there := set((source / "cgroup.procs").read_text().split()) - moved):
        moved |= there
        put(there, folders)


def put(pids: Iterable[str], folders: Sequence[Path]) -> None:
    """Have these processes be in `folders`, of which a hierarchy has one. In the first they are last: who is there is
    in all of them, whoever was killed in between."""
    for pid in pids:
        for folder in reversed(folders):
            try:
                _set(folder / "cgroup.procs", pid)
            except ProcessLookupError:
                pass  # it has ended


def _give(folder: Path, wanted: Sequence[str]) -> None:
    """Version 2: let what is below `folder` have these controllers, of those that it has itself."""
    try:
        there = (folder / "cgroup.controllers").read_text().split()
    except FileNotFoundError:
        return
    _set(folder / "cgroup.subtree_control", " ".join(f"+{name}" for name in wanted if name in there))


def bound(folders: Sequence[Path], like: Sequence[Path]) -> None:
    """Give `folders`, which are there, the limits of memory and threads of the groups `like`."""
    for name in BOUNDS:
        for found in [folder / name for folder in like if (folder / name).exists()]:
            for folder in folders:
                _set(folder / name, found.read_text().strip())


def narrower(folders: Sequence[Path], like: Sequence[Path], root: Path = CGROUPS) -> Path | None:
    """A group around one of `folders` that has less memory or threads than the groups `like` have, if there is one."""
    for name in BOUNDS:
        wanted = max((_bound(folder / name) for folder in like if (folder / name).exists()), default=0.0)
        for folder in folders:
            for around in folder.parents:
                if not around.is_relative_to(root):
                    break
                if (around / name).exists() and _bound(around / name) < wanted:
                    return around
    return None


def _bound(path: Path) -> float:
    found = path.read_text().strip()
    return math.inf if found == "max" else float(found)


def limit(folders: Sequence[Path], memory: int) -> None:
    """Set another limit of memory. One that has more than that in use keeps its limit."""
    for folder in folders:
        try:
            _set(folder / "memory.max", str(memory))
            _set(folder / "memory.limit_in_bytes", str(memory))
        except OSError as e:
            if e.errno != errno.EBUSY:
                raise


def join(folders: Sequence[Path]) -> None:
    """Let this process be in there, and what it starts."""
    for folder in folders:
        _set(folder / "cgroup.procs", "0")


def remove(folders: Sequence[Path]) -> bool:
    """Remove them. What is not there is no error; False while one still holds a process that is about to be gone."""
    for folder in folders:
        try:
            folder.rmdir()
        except FileNotFoundError:
            pass
        except OSError as e:
            if e.errno != errno.EBUSY:
                raise
            return False
    return True


def out_of_memory(folders: Sequence[Path]) -> bool:
    """Whether the kernel killed a process in there because the limit was reached."""
    for folder in folders:
        for name in ("memory.events", "memory.oom_control"):
            try:
                words = (folder / name).read_text().split()
            except OSError:
                continue
            if dict(zip(words[::2], words[1::2], strict=False)).get("oom_kill", "0") != "0":
                return True
    return False


def _set(path: Path, value: str) -> None:
    """Write a limit where this hierarchy has such a file."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)  # never to create it, which cgroupfs forbids
    except FileNotFoundError:
        return
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
