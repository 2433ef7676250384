"""A container's output as it is, in a fifo or a file that the caller handed over."""

import asyncio
import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from hypercontainer.errors import InvalidInput
from hypercontainer.model.record import RawSinkRecord
from hypercontainer.sandbox.rows import STREAMS
from hypercontainer.sandbox.sink import UNWANTED, Mark, Offsets, Position, after


def handed_over(fd: int, streams: Sequence[Literal["stdout", "stderr"]]) -> RawSinkRecord:
    """What to write down of `fd`, so that the next hyperd can open it again: no descriptor outlives a process.
    InvalidInput for what has no name, as an anonymous pipe, or is neither a fifo nor a file."""
    path, given = os.readlink(f"/proc/self/fd/{fd}"), os.fstat(fd)
    record = RawSinkRecord(path=path, streams=list(streams), device=given.st_dev, inode=given.st_ino)
    with suppress(OSError):
        if _is(os.lstat(path), record):
            return record
    raise InvalidInput(f"cannot write output to {path}: it has no name to open it by again", "hand over a fifo or file")


def _is(found: os.stat_result, record: RawSinkRecord) -> bool:
    kind = stat.S_ISFIFO(found.st_mode) or stat.S_ISREG(found.st_mode)
    return kind and (found.st_dev, found.st_ino) == (record.device, record.inode)


class Raw:
    """A Sink of some streams, to a fifo or file. `position` is the file of ours that says how far it got.

    A fifo never says what was put in it: the bytes of one write come again if hyperd was killed between the write and
    its mark. And it forgets all when nobody has it open any more, so nothing is put in one that nobody reads."""

    def __init__(self, record: RawSinkRecord, position: Path) -> None:
        self._record, self._position = record, Position(position)
        self._streams = {STREAMS[name] for name in record.streams}
        self._fd = -1
        self._run = 0
        self._offsets: Offsets = (0, 0)
        self._one = asyncio.Lock()  # a chunk of one stream is not cut by the other's
        self._closed = True
        self._waiting: asyncio.Event | None = None  # for room

    @property
    def where(self) -> str:
        return self._record.path

    @property
    def offsets(self) -> Offsets:
        out, err = self._offsets
        return out if 1 in self._streams else UNWANTED, err if 2 in self._streams else UNWANTED

    def open(self, run: int) -> Offsets:
        self.close()
        self._closed = False
        mark = self._position.read()
        self._run, self._offsets = run, (0, 0)
        if mark.run == run:
            self._offsets = after(mark.offsets, mark.stream, self._grown(mark)) if mark.stream else mark.offsets
        with suppress(OSError):  # who waits for somebody to write hears of us; what is wrong is for `write` to tell
            self._fd = self._make()
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
                if self._closed:
                    raise OSError(errno.EBADF, "it was closed")
                if self._fd < 0:
                    self._fd = self._make()
                try:
                    rest = rest[self._put(stream, rest) :]
                except BlockingIOError:
                    await self._room()

    def _put(self, stream: int, data: memoryview) -> int:
        size = os.fstat(self._fd).st_size
        self._position.write(Mark(self._run, *self._offsets, stream, len(data), size))
        count = 0
        try:
            count = os.write(self._fd, data)
        finally:
            self._offsets = after(self._offsets, stream, count)
            self._position.write(Mark(self._run, *self._offsets))
        return count

    async def _room(self) -> None:
        """Until there may be some, or the sink is closed."""
        loop = asyncio.get_running_loop()
        self._waiting = asyncio.Event()
        loop.add_writer(self._fd, self._waiting.set)
        try:
            await self._waiting.wait()
        finally:
            if not self._closed:
                loop.remove_writer(self._fd)
            self._waiting = None

    def close(self) -> None:
        self._closed = True
        if self._waiting and self._fd >= 0:
            asyncio.get_running_loop().remove_writer(self._fd)
            self._waiting.set()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._position.close()

    def _make(self) -> int:
        """Open what was handed over, and nothing else that has its path by now. ENXIO: a fifo that nobody reads."""
        found = os.open(self._record.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not _is(os.fstat(found), self._record):
                raise OSError(errno.ESTALE, "it is not what was handed over")
            return os.open(f"/proc/self/fd/{found}", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as e:
            if e.errno == errno.ENXIO:
                raise OSError(errno.ENXIO, "nobody reads it") from e
            raise
        finally:
            os.close(found)

    def _grown(self, mark: Mark) -> int:
        """How many bytes of the write that was under way are there."""
        with suppress(OSError):
            found = os.lstat(self._record.path)
            if stat.S_ISREG(found.st_mode) and _is(found, self._record):
                return max(0, min(mark.length, found.st_size - mark.size))
        return 0
