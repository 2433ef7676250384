"""What the cgroup of one VMM may have: lib/cgroup.py makes it."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from hypercontainer.lib import cgroup

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


def _bytes(memory_mib: int) -> int:
    return (memory_mib + OVERHEAD_MIB) << 20
