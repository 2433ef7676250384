"""Files that survive a crash: atomic replacement, locks, and folders that leave no half behind."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hypercontainer.errors import Exhausted, HyperError

PIECE = 1 << 16
FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO))  # errnos of a disk that takes no more


def fsync(path: Path) -> None:
    """Make the file `path`, or the names in the folder, outlive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace(path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Replace `path`: readers find the old file or the new, both whole. OSError leaves the old one, and nothing beside.

    One writer at a time: the caller holds a lock on what `path` belongs to. `durable=False` leaves out the
    fsyncs, for what a reboot makes void anyway (SIGKILL loses nothing either way).
    """
    tmp = path.with_name(f".{path.name}.new")
    try:
        fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        try:
            write(fd, data)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(tmp, path)
    except OSError:
        with suppress(OSError):  # the first one is told
            tmp.unlink(missing_ok=True)
        raise
    if durable:
        fsync(path.parent)


def beginning(path: Path, most: int) -> bytes:
    """The first `most` bytes of a file. Takes as much memory as there are: read(most) would take `most`."""
    pieces = []
    with open(path, "rb", buffering=0) as f:
        while most > 0 and (piece := f.read(min(most, PIECE))):
            pieces.append(piece)
            most -= len(piece)
    return b"".join(pieces)


def write(fd: int, data: bytes) -> None:
    """All of `data` to where the file open at `fd` stands. OSError: a part of it may be there."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


@contextmanager
def telling(what: str, otherwise: type[HyperError] = HyperError) -> Iterator[None]:
    """Within the block an OSError is raised as Exhausted where the disk takes no more, else as `otherwise`: "cannot
    WHAT: WHY"."""
    try:
        yield
    except OSError as e:
        kind = Exhausted if e.errno in FULL else otherwise
        raise kind(f"cannot {what}: {e.strerror or e}") from e


def taken(fd: int) -> bool:
    """Take the flock on an open file, alone, if nobody has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a flock on `path` (made if missing) for the block. Blocks; between processes, not threads."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
