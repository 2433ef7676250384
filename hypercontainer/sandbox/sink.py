"""Where a container's output goes, of any kind; and how far that has got, kept for the next hyperd."""

import os
import struct
import sys
from pathlib import Path
from typing import NamedTuple, Protocol

from hypercontainer.lib import files

Offsets = tuple[int, int]  # bytes of stdout and of stderr, from the beginning of the run

UNWANTED = sys.maxsize  # the offset of a stream that a sink does not take: it has all that will ever come


class Sink(Protocol):
    """Takes the output of one container, over all its runs.

    Whoever keeps what he was given knows how far he got, also after a SIGKILL of hyperd: the guest is asked for the
    rest. `testing.sink_contract` says what each kind must do."""

    @property
    def where(self) -> str:
        """What it writes to, in words."""

    @property
    def offsets(self) -> Offsets | None:
        """How much of each stream of the open run it has; None from one that keeps nothing, and takes what comes."""

    def open(self, run: int) -> Offsets | None:
        """Be ready for start number `run`, whether it begins or goes on. Returns `offsets`. Needs no room on a disk."""

    def begin(self, run: int, offsets: Offsets) -> None:
        """Be ready for start number `run`, of whose streams so much was handed to somebody else."""

    async def write(self, stream: int, data: bytes, time_ns: int) -> None:
        """Take the next bytes of stream 1 or 2, waiting for room; of one that is unwanted too. OSError: it has no
        more than `offsets` say, and can be given the rest later."""

    def close(self) -> None:
        """The run is over, or hyperd goes: a write that waits ends with OSError. May be repeated."""


class Mark(NamedTuple):
    """How far a sink has got in a run, and the write that is under way then, if `stream` is not 0."""

    run: int = 0
    stdout: int = 0
    stderr: int = 0
    stream: int = 0
    length: int = 0
    size: int = 0  # that the file has before this write
    device: int = 0  # of the file, where the sink may go on in another one
    inode: int = 0

    @property
    def offsets(self) -> Offsets:
        return self.stdout, self.stderr


_MARK = struct.Struct("<8Q")


class Position:
    """A sink's mark in a file of its own. Written before and after each write to the sink, it tells a hyperd that
    comes after a SIGKILL what is there, and what may be there in part. Not synced: a guest outlives no power cut."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def read(self) -> Mark:
        """The last mark; an empty one if there is none."""
        try:
            data = files.beginning(self._path, _MARK.size)
        except FileNotFoundError:
            return Mark()
        return Mark(*_MARK.unpack(data)) if len(data) == _MARK.size else Mark()

    def write(self, mark: Mark) -> None:
        if self._fd < 0:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.pwrite(self._fd, _MARK.pack(*mark), 0)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def after(offsets: Offsets, stream: int, count: int) -> Offsets:
    """Those after `count` more bytes of `stream`."""
    out, err = offsets
    return (out + count, err) if stream == 1 else (out, err + count)
