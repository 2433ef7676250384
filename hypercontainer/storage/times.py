"""Whether the times of files tell every change of them. Where these do, what was read of a file can be believed as long
as its size and times are the same."""

import ctypes
import os
from pathlib import Path

from hypercontainer.lib import mount

# File systems that give a file another time at each change which somebody would notice ("multigrain timestamps", Linux
# 6.13), and overlay, which shows the times of the one below it: statfs(2).
EXACT = frozenset({0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0x794C7630})  # ext4, xfs, btrfs, tmpfs, overlay
CHANGES = 16
STATFS_BYTES = 256  # more than struct statfs has anywhere; its first word is the type


def proved() -> bool:
    """Whether this host's kernel has a file's time differ after each of some changes that are made at once, to a file
    of its own in memory. A kernel that takes the time of its clock's last tick has them equal."""
    fd = os.memfd_create("times", os.MFD_CLOEXEC)
    try:
        seen = set()
        for _ in range(CHANGES):
            os.write(fd, b"x")
            seen.add(os.fstat(fd).st_mtime_ns)
        return len(seen) == CHANGES and exact(fd)
    finally:
        os.close(fd)


def exact(source: Path | int) -> bool:
    """Whether the file system of `source`, a path or an open descriptor, is one of EXACT and keeps times by the
    nanosecond. False where nothing is."""
    try:
        fd = os.dup(source) if isinstance(source, int) else os.open(source, os.O_PATH | os.O_CLOEXEC)
        try:
            return _type(fd) in EXACT and os.fstat(fd).st_ctime_ns % 1_000_000_000 != 0
        finally:
            os.close(fd)
    except OSError:
        return False


def _type(fd: int) -> int:
    found = ctypes.create_string_buffer(STATFS_BYTES)
    if mount.libc().fstatfs(fd, found):
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))
    return ctypes.c_long.from_buffer(found).value
