"""What the cgroup of one VMM may have: lib/cgroup.py makes it."""

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from hypercontainer.hypervisor.base import Limits
from hypercontainer.hypervisor.host.rundir import RunDir
from hypercontainer.lib import cgroup

log = logging.getLogger(__name__)

TASKS = 256  # threads of a VMM, its keeper and its virtiofsd

# Beyond the guest's memory: the VMM itself (60 MiB), translated code (64), virtiofsd, and the cache of the disk files
# it reads, which the kernel takes back when it must.
OVERHEAD_MIB = 256


def cgroup_name(run_dir: Path) -> str:
    """Of this run directory alone, whatever other daemons with other roots call theirs."""
    return f"{run_dir.name}-{hashlib.sha256(os.fsencode(run_dir.resolve())).hexdigest()[:8]}"


def create(folders: Sequence[Path], memory_mib: int) -> None:
    """Make what `plan` named, for the VMM of a guest of `memory_mib`. Again is harmless."""
    cgroup.create(folders, memory=_bytes(memory_mib), tasks=TASKS)


def change(folders: Sequence[Path], memory_mib: int) -> None:
    """Let the VMM of a guest of `memory_mib` have what it needs. One that has more than that in use keeps its limit."""
    cgroup.limit(folders, _bytes(memory_mib))


def hold(run: RunDir, wanted: Limits) -> None:
    """Have the VMM of `run`, with all that is in its groups, take no more than that of this host's processors and
    disks. Groups for these are made for whoever asks for any, and recorded before; what this host lacks is logged."""
    known = run.load()
    if known is None or not known.cgroups:
        return
    folders = [Path(folder) for folder in known.cgroups]
    asked = [
        *(["cpu"] if wanted.cpu_quota_us or wanted.cpu_shares else []),
        *(["blkio"] if wanted.io_weight else []),
    ]
    needed = [folder for folder in cgroup.plan(folders[0].name, asked) if folder != folders[0]]
    new = [folder for folder in needed if folder not in folders]
    try:
        if new:
            run.save(msgspec.structs.replace(known, cgroups=[*known.cgroups, *map(str, new)]))
        cgroup.weigh(
            [*folders, *new],
            quota_us=wanted.cpu_quota_us,
            shares=wanted.cpu_shares or cgroup.USUAL_SHARES,
            io_weight=wanted.io_weight or cgroup.USUAL_IO_WEIGHT,
        )
        cgroup.move(folders[0], needed)  # also of a hyperd before us, who may have died in between
    except OSError as e:
        log.warning("cannot hold the virtual machine in %s to its share of this host: %s", run.path, e)


def _bytes(memory_mib: int) -> int:
    return (memory_mib + OVERHEAD_MIB) << 20
