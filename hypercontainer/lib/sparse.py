"""Sparse files: copies with blocks shared where the file system can, else of the data alone, holes as holes; and which
zeros need not be written."""

import errno
import fcntl
import os
from collections.abc import Iterator

FICLONE = 0x40049409
STEP = 1 << 20  # bytes that are copied at once
LEAST_HOLE = 1 << 16  # bytes: smaller ones are not worth a seek


def copy(source: int, target: int) -> None:
    """Make the file open at `target`, empty or nothing but a hole, what the one at `source` is, which nobody changes
    meanwhile. Blocks.

    OSError, ENOSPC among others."""
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError:  # not this file system, or two of them
        size = os.fstat(source).st_size
        os.truncate(target, size)
        for begin, end in data(source, size):
            copy_range(source, begin, target, begin, end - begin)


def data(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """The parts of the first `size` bytes of a file that are not holes: begin, end."""
    end = 0
    while end < size:
        try:
            begin = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as e:
            if e.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        if begin >= size:
            return
        end = min(os.lseek(fd, begin, os.SEEK_HOLE), size)
        yield begin, end


def copy_range(source: int, at: int, target: int, to: int, size: int) -> None:
    """Copy `size` bytes from place `at` to place `to`; EIO when they are not there."""
    buffer = memoryview(bytearray(min(size, STEP)))
    end = at + size
    while at < end:
        count = os.preadv(source, [buffer[: end - at]], at)
        if not count:
            raise OSError(errno.EIO, "it is shorter than it was")
        write(target, buffer[:count], to)
        at, to = at + count, to + count


def write(fd: int, data: bytes | memoryview, at: int) -> None:
    """All of `data` to place `at`."""
    rest = memoryview(data)
    while rest:
        count = os.pwrite(fd, rest, at)
        rest, at = rest[count:], at + count


def hole(piece: bytes | memoryview) -> bool:
    """Whether a piece of a new file can be skipped instead of written: it is large, and all zeros."""
    if len(piece) < LEAST_HOLE or piece[0] or piece[-1]:
        return False
    return bytes(piece) == bytes(len(piece))
