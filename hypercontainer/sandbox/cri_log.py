"""A container's output in the format of Kubernetes' logs, at a path that the kubelet chose and rotates.

A row is `2016-10-06T00:17:09.669794202Z stdout F a line`; `P` marks a part of a line that goes on in the stream's next
row. To rotate, the kubelet renames the file and asks for it to be opened again. Until then the rows go on in the file
that was renamed, whatever hyperd writes them: if nobody answers, the kubelet names it back.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hypercontainer.lib import clock, files
from hypercontainer.sandbox.sink import Mark, Offsets, Position, after

log = logging.getLogger(__name__)

NAMES = {1: b"stdout", 2: b"stderr"}
LONGEST = 16 << 10  # bytes of a line in one row: as containerd cuts them
ROW = 64  # bytes of a row beside those of the stream, at most


class CriLog:
    """A Sink. `position` is the file of ours that says how far it has got, wherever its rows were moved to since."""

    def __init__(self, path: Path, position: Path) -> None:
        self._path, self._position = path, Position(position)
        self._fd = -1
        self._run = 0
        self._offsets: Offsets = (0, 0)

    @property
    def where(self) -> str:
        return str(self._path)

    @property
    def offsets(self) -> Offsets:
        return self._offsets

    def open(self, run: int) -> Offsets:
        self.close()
        mark = self._position.read()
        self._run, self._offsets = run, (0, 0)
        if mark.run == run:
            self._fd = self._find(mark.device, mark.inode)
            self._offsets = after(mark.offsets, mark.stream, self._there(mark)) if mark.stream else mark.offsets
        return self._offsets

    def begin(self, run: int, offsets: Offsets) -> None:
        self.open(run)
        self._position.write(Mark(run, *offsets))
        self._offsets = offsets

    async def write(self, stream: int, data: bytes, time_ns: int) -> None:
        if self._fd < 0:
            self._fd = self._make()
        size = os.fstat(self._fd).st_size
        self._mark(self._fd, stream, len(data), size)
        try:
            files.write(self._fd, b"".join(_rows(stream, data, time_ns)))
        except OSError:
            os.ftruncate(self._fd, size)
            raise
        self._offsets = after(self._offsets, stream, len(data))
        self._mark(self._fd)

    def reopen(self) -> None:
        """Go on in a new file: the one so far was renamed. OSError leaves all as it was."""
        new = self._make()
        try:
            self._mark(new)
        except BaseException:
            os.close(new)
            raise
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = new

    def _mark(self, fd: int, stream: int = 0, length: int = 0, size: int = 0) -> None:
        file = os.fstat(fd)
        self._position.write(Mark(self._run, *self._offsets, stream, length, size, file.st_dev, file.st_ino))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._position.close()

    def _make(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self._path, flags, 0o640)

    def _find(self, device: int, inode: int) -> int:
        """The file, open, whatever it is called by now; -1 where it is not in its folder."""
        with suppress(OSError):
            for path in self._path.parent.iterdir():
                file = path.lstat()
                if path.name.startswith(self._path.name) and (file.st_dev, file.st_ino) == (device, inode):
                    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        return -1

    def _there(self, mark: Mark) -> int:
        """How many bytes of the write that was under way are in the file. Cuts off a row that is there in part."""
        if self._fd < 0:
            log.warning("the file that was %s is gone, and maybe output with it, which is written again", self._path)
            return 0
        rows = os.pread(self._fd, mark.length * (ROW + 1), mark.size)
        whole = rows[: rows.rfind(b"\n") + 1]
        os.ftruncate(self._fd, mark.size + len(whole))
        return min(mark.length, sum(map(_content, whole.splitlines(keepends=True))))


def _rows(stream: int, data: bytes, time_ns: int) -> Iterator[bytes]:
    head = b"%s %s " % (clock.rfc3339(time_ns).encode(), NAMES[stream])
    at = 0
    while at < len(data):
        newline = data.find(b"\n", at, at + LONGEST + 1)
        end = newline if newline >= 0 else min(at + LONGEST, len(data))
        yield b"%s%s %s\n" % (head, b"F" if newline >= 0 else b"P", data[at:end])
        at = end + (newline >= 0)


def _content(row: bytes) -> int:
    """How many bytes of the stream a row stands for."""
    _, _, tag, content = row.split(b" ", 3)
    return len(content) - (tag == b"P")
