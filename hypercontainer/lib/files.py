"""Files that survive a crash: atomic replacement, locks, and folders that leave no half behind."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))  # errnos that say: no room for this file


def fsync(path: Path) -> None:
    """Make the file `path`, or the names in the folder, outlive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace(path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Replace `path`: readers find the old file or the new, both whole.

    One writer at a time: the caller holds a lock on what `path` belongs to. `durable=False` leaves out the
    fsyncs, for what a reboot makes void anyway (SIGKILL loses nothing either way).
    """
    tmp = path.with_name(f".{path.name}.new")
    fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with open(fd, "wb") as f:
        f.write(data)
        if durable:
            f.flush()
            os.fsync(f.fileno())
    os.replace(tmp, path)
    if durable:
        fsync(path.parent)


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a flock on `path` (made if missing) for the block. Blocks; between processes, not threads."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
