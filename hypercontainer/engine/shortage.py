"""Lack of memory in a machine, told by the control group of the stand-in: engines watch that for their OOM events."""

from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
LEFT = 1 << 20  # bytes, for who ends there
ALL = str(1 << 40)  # bytes


def leave_little(pid: int, root: Path = CGROUPS) -> bool:
    """Leave so little memory in the group of `pid` that the next who wants some ends for lack of it. Again is no error.
    False, and nothing is changed, where anybody else is in that group, or memory is not counted there."""
    found = _group(pid, root)
    if found is None or not found.is_dir():
        return False
    v2 = (found / "memory.max").exists()
    try:
        if (found / "cgroup.procs").read_text().split() != [str(pid)]:
            return False
        with suppress(OSError):  # a kernel without swap
            (found / ("memory.swap.max" if v2 else "memory.swappiness")).write_text("0")
        with suppress(OSError):  # what files have there would be taken back before anybody ends
            (found / ("memory.reclaim" if v2 else "memory.force_empty")).write_text(ALL if v2 else "0")
        usage = int((found / ("memory.current" if v2 else "memory.usage_in_bytes")).read_text())
        (found / ("memory.max" if v2 else "memory.limit_in_bytes")).write_text(str(usage + LEFT))
    except OSError:
        return False
    return True


def _group(pid: int, root: Path) -> Path | None:
    """Whose memory is counted with that of `pid`; None: the root's, or none."""
    v2 = (root / "cgroup.controllers").exists()
    try:
        lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    except OSError:
        return None
    for _, controllers, path in lines:
        if path != "/" and (not controllers if v2 else "memory" in controllers.split(",")):
            return (root if v2 else root / "memory") / path.lstrip("/")
    return None
