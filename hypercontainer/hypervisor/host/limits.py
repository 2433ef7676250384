"""What the cgroup of one VMM may have: lib/cgroup.py makes it."""

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from hypercontainer.hypervisor.base import Limits
from hypercontainer.hypervisor.host.rundir import RunDir, VmmFile
from hypercontainer.lib import cgroup, engine_cgroup, proc
from hypercontainer.lib.trace import Trace

log = logging.getLogger(__name__)

TASKS = 256  # threads of a VMM, its keeper and its virtiofsd

# Beyond the guest's memory: the VMM itself (60 MiB), translated code (64), virtiofsd, and the cache of the disk files
# it reads, which the kernel takes back when it must.
OVERHEAD_MIB = 256


def cgroup_name(run_dir: Path) -> str:
    """Of this run directory alone, whatever other daemons with other roots call theirs."""
    return f"{run_dir.name}-{hashlib.sha256(os.fsencode(run_dir.resolve())).hexdigest()[:8]}"


def begin(run: RunDir, memory_mib: int, trace: Trace) -> list[Path]:
    """Make the groups of a VMM that is to come, for a guest of `memory_mib`: recorded, before anything is made."""
    with trace.step("record"):
        groups = cgroup.plan(cgroup_name(run.path))
        run.save(VmmFile(boot_id=proc.boot_id(), cgroups=[str(folder) for folder in groups]))
    with trace.step("cgroup"):
        cgroup.create(groups, memory=_bytes(memory_mib), tasks=TASKS)
    return groups


def change(folders: Sequence[Path], memory_mib: int) -> None:
    """Let the VMM of a guest of `memory_mib` have what it needs. One that has more than that in use keeps its limit."""
    cgroup.limit(folders, _bytes(memory_mib))


def hold(run: RunDir, wanted: Limits) -> None:
    """Have the VMM of `run`, with all that is in its groups, take no more than that of this host's processors and
    disks. Groups for these are made for whoever asks for any, and recorded before; what this host lacks is logged."""
    known = run.load()
    if known is None or not known.cgroups:
        return
    own = Path(known.cgroups[0])
    asked = [
        *(["cpu"] if wanted.cpu_quota_us or wanted.cpu_shares else []),
        *(["blkio"] if wanted.io_weight else []),
    ]
    needed = [folder for folder in cgroup.plan(own.name, asked) if folder != own]
    lent = [Path(folder) for folder in known.lent if os.path.isdir(folder)]
    try:
        known = _have(run, known, needed)
        cgroup.bound(lent, [own])
        cgroup.weigh(
            [*map(Path, known.cgroups), *lent],
            quota_us=wanted.cpu_quota_us,
            shares=wanted.cpu_shares or cgroup.USUAL_SHARES,
            io_weight=wanted.io_weight or cgroup.USUAL_IO_WEIGHT,
        )
        # also of a hyperd before us, who may have died in between
        cgroup.move(own, lent or needed)
    except OSError as e:
        log.warning("cannot hold the virtual machine in %s to its share of this host: %s", run.path, e)
    keep(run)


def keep(run: RunDir) -> None:
    """Have systemd know what limits the VMM of `run` has, if it is in a group of its."""
    known = run.load()
    try:
        if known and known.lent:
            engine_cgroup.keep(known.lent)
    except OSError as e:
        log.warning("systemd may lift limits of the virtual machine in %s when it is reloaded: %s", run.path, e)


def enter(run: RunDir, groups: Sequence[Path]) -> None:
    """Have the VMM of `run`, with all that is in its groups, be in these of somebody else's, with the limits of its
    own, which stay. They are recorded before, and again is harmless. What this host lacks is logged, and the VMM stays
    where it is limited; so it does where less is left around `groups` than it may need, and it would die of that."""
    known = run.load()
    if known is None or not known.cgroups or known.lent == [str(folder) for folder in groups]:
        return
    own = Path(known.cgroups[0])
    try:
        if around := cgroup.narrower(groups, known.groups()):
            log.info("the virtual machine in %s is not counted in %s: %s has less", run.path, groups[0], around)
            return
        cgroup.bound(groups, known.groups())
        run.save(msgspec.structs.replace(known, lent=[str(folder) for folder in groups]))
        cgroup.move(own, groups)
    except OSError as e:
        log.warning("cannot have the virtual machine in %s be in other control groups: %s", run.path, e)


def leave(run: RunDir, groups: Sequence[Path]) -> None:
    """Have the VMM of `run` be in its own groups again, if it is in these. Again is harmless."""
    known = run.load()
    if known is None or set(known.lent).isdisjoint(map(str, groups)):
        return
    try:
        known = _have(run, known, cgroup.plan(Path(known.cgroups[0]).name, cgroup.COUNTED))
        there = {pid for folder in known.lent for pid in _its(run, Path(folder))}
        cgroup.put(there, [Path(folder) for folder in known.cgroups])
        run.save(msgspec.structs.replace(known, lent=[]))
    except OSError as e:
        log.warning("cannot have the virtual machine in %s leave other control groups: %s", run.path, e)


def _have(run: RunDir, known: VmmFile, folders: Sequence[Path]) -> VmmFile:
    """Make groups of its own that are not there yet."""
    if new := [str(folder) for folder in folders if str(folder) not in known.cgroups]:
        known = msgspec.structs.replace(known, cgroups=[*known.cgroups, *new])
        run.save(known)
        for folder in map(Path, new):
            folder.parent.mkdir(exist_ok=True)
            folder.mkdir(exist_ok=True)
    return known


def _its(run: RunDir, group: Path) -> list[str]:
    """Who is in there of the VMM and virtiofsd: they, who keeps them, and whoever they have started."""
    known = [one for program in run.programs for one in run.processes(program)]
    kept = {one.pid for one in known if proc.start_time(one.pid) == one.start_time}

    def is_its(pid: int) -> bool:
        while pid and pid not in kept:
            pid = proc.parent(pid)
        return bool(pid)

    try:
        return [pid for pid in (group / "cgroup.procs").read_text().split() if is_its(int(pid))]
    except FileNotFoundError:
        return []  # it went


def _bytes(memory_mib: int) -> int:
    return (memory_mib + OVERHEAD_MIB) << 20
