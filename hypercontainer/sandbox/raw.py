"""A container's output as it is, in a pipe or a file that the caller handed over."""

import asyncio
import errno
import os
import stat
from collections.abc import Set
from contextlib import suppress
from pathlib import Path

from hypercontainer.errors import InvalidInput
from hypercontainer.sandbox.sink import UNWANTED, Mark, Offsets, Position, after


def name_of(fd: int) -> Path:
    """The path by which the next hyperd can open again what was handed over as `fd`: no descriptor outlives a process.
    InvalidInput for what has none, as an anonymous pipe, or is neither a pipe nor a file."""
    path = Path(os.readlink(f"/proc/self/fd/{fd}"))
    given = os.fstat(fd)
    with suppress(OSError):
        if _is_kind(given) and os.path.samestat(given, os.lstat(path)):
            return path
    raise InvalidInput(f"cannot write output to {path}: it has no name to open it by again", "hand over a fifo or file")


def _is_kind(status: os.stat_result) -> bool:
    return stat.S_ISFIFO(status.st_mode) or stat.S_ISREG(status.st_mode)


class Raw:
    """A Sink of `streams`, to a fifo or a file that is there. `position` is the file of ours that says how far it got.

    A fifo never says what was put in it: the bytes of one write come again if hyperd was killed between the write and
    its mark. None is missing, and of a file none is there twice."""

    def __init__(self, path: Path, streams: Set[int], position: Path) -> None:
        self._path, self._streams, self._position = path, streams, Position(position)
        self._fd = -1
        self._run = 0
        self._offsets: Offsets = (0, 0)
        self._one = asyncio.Lock()  # a chunk of one stream is not cut by the other's

    @property
    def where(self) -> str:
        return str(self._path)

    @property
    def offsets(self) -> Offsets:
        out, err = self._offsets
        return out if 1 in self._streams else UNWANTED, err if 2 in self._streams else UNWANTED

    def open(self, run: int) -> Offsets:
        self.close()
        mark = self._position.read()
        self._run, self._offsets = run, mark.offsets if mark.run == run else (0, 0)
        with suppress(OSError):  # `write` tells
            self._fd = self._make()
            if mark.run == run and mark.stream:
                self._offsets = after(mark.offsets, mark.stream, self._grown(mark))
        return self.offsets

    def begin(self, run: int, offsets: Offsets) -> None:
        self.open(run)
        self._position.write(Mark(run, *offsets))
        self._offsets = offsets

    async def write(self, stream: int, data: bytes, time_ns: int) -> None:
        if stream not in self._streams:
            return
        async with self._one:
            rest = memoryview(data)
            while rest:
                if self._fd < 0:
                    self._fd = self._make()
                try:
                    rest = rest[self._put(stream, rest) :]
                except BlockingIOError:
                    await self._room()

    def _put(self, stream: int, data: memoryview) -> int:
        status = os.fstat(self._fd)
        file = status.st_dev, status.st_ino, status.st_size
        self._position.write(Mark(self._run, *self._offsets, stream, len(data), *file))
        count = 0
        try:
            count = os.write(self._fd, data)
        finally:
            self._offsets = after(self._offsets, stream, count)
            self._position.write(Mark(self._run, *self._offsets))
        return count

    async def _room(self) -> None:
        loop, room = asyncio.get_running_loop(), asyncio.Event()
        fd = self._fd
        loop.add_writer(fd, room.set)
        try:
            await room.wait()
        finally:
            loop.remove_writer(fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._position.close()

    def _make(self) -> int:
        """A fifo is opened for reading too: whoever reads may come late, or go and come."""
        fifo = stat.S_ISFIFO(os.lstat(self._path).st_mode)
        how = os.O_RDWR | os.O_NONBLOCK if fifo else os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK
        fd = os.open(self._path, how | os.O_NOFOLLOW | os.O_CLOEXEC)
        if not _is_kind(os.fstat(fd)):
            os.close(fd)
            raise OSError(errno.EINVAL, "it is neither a fifo nor a file")
        return fd

    def _grown(self, mark: Mark) -> int:
        """How many bytes of the write that was under way are there."""
        status = os.fstat(self._fd)
        same = stat.S_ISREG(status.st_mode) and (status.st_dev, status.st_ino) == (mark.device, mark.inode)
        return max(0, min(mark.length, status.st_size - mark.size)) if same else 0
