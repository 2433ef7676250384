"""A container's log: JSON lines, rotated, bounded; and how far each output stream has been written down.

The last line tells which bytes are safe on disk, so a hyperd that was killed asks the guest for exactly the rest.
An entry holds a chunk as it arrived, not a line: readers split.
"""

import base64
import os
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import NamedTuple

from hypercontainer.lib import clock, files
from hypercontainer.model.documents import LogEntry
from hypercontainer.sandbox import rows
from hypercontainer.sandbox.rows import Line


class Log:
    """The log files of one container, a Sink: `container.log` and older ones, `container.log.1` …, in folder `path`."""

    def __init__(self, path: Path, *, max_bytes: int, files: int) -> None:
        self.path, self.max_bytes, self.files = path / "container.log", max_bytes, files
        self._fd = -1
        self._run = 0
        self._size = 0
        self._offsets = [0, 0]

    def open(self, run: int) -> tuple[int, int]:
        """Be ready to append for start number `run`; return the offsets (stdout, stderr) that are on disk already.

        Needs no room: the file is made when there is something to write."""
        self.close()
        self._run = run
        last = self._last()
        self._offsets = list(last.offsets) if last and last.run == run else [0, 0]
        return self._offsets[0], self._offsets[1]

    def _make(self) -> None:
        """Have the file open, made if it is missing, without a last line that a crash or a full disk left half."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = self._mend()

    def _mend(self) -> int:
        """Cut off a half last line; return the file's size."""
        end = rows.end(self._fd)
        if end != os.fstat(self._fd).st_size:
            os.ftruncate(self._fd, end)
        return end

    def _last(self) -> Line | None:
        for path in self.paths()[:-3:-1]:
            with open(path, "rb", buffering=0) as f:
                for batch in rows.backwards(f.fileno(), rows.end(f.fileno())):
                    for _, row in batch:
                        if line := rows.decode(row):
                            return line
        return None

    @property
    def where(self) -> str:
        return str(self.path)

    @property
    def offsets(self) -> tuple[int, int]:
        """Those of stdout and stderr after what is on disk."""
        return self._offsets[0], self._offsets[1]

    def begin(self, run: int, offsets: tuple[int, int]) -> None:
        """Write down that start number `run` goes on with streams of which so much was handed to somebody else."""
        self.open(run)
        self._write(Line(stream="stdout", time_ns=clock.now_ns(), run=run, offsets=offsets))

    async def write(self, stream: int, data: bytes, time_ns: int) -> None:
        self.append(stream, data, time_ns)

    def append(self, stream: int, data: bytes, time_ns: int) -> None:
        """Write one chunk of stream 1 or 2 of the open run. OSError (disk full) leaves the log as it was."""
        offsets = list(self._offsets)
        offsets[stream - 1] += len(data)
        line = Line(
            stream="stdout" if stream == 1 else "stderr",
            time_ns=time_ns,
            run=self._run,
            offsets=(offsets[0], offsets[1]),
        )
        try:
            line.log = data.decode()
        except UnicodeDecodeError:
            line.base64 = base64.b64encode(data).decode()
        self._write(line)

    def _write(self, line: Line) -> None:
        row = rows.encode(line)
        if self._fd < 0:
            self._make()
        if self._size and self._size + len(row) > self.max_bytes:
            self._rotate()
        try:
            files.write(self._fd, row)
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(row)
        self._offsets = list(line.offsets)

    def _rotate(self) -> None:
        for n in range(self.files - 1, 0, -1):
            older = self.path.with_name(f"container.log.{n}")
            newer = self.path.with_name(f"container.log.{n - 1}") if n > 1 else self.path
            if newer.exists():
                os.replace(newer, older)
        self.close()
        self._make()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def paths(self) -> list[Path]:
        """The files that there are, the oldest first."""
        older = [self.path.with_name(f"container.log.{n}") for n in range(self.files - 1, 0, -1)]
        return [path for path in (*older, self.path) if path.exists()]


class Wanted(NamedTuple):
    """Which entries: of these streams, between two times (0 = open)."""

    streams: frozenset[int] = frozenset((1, 2))
    since_ns: int = 0
    until_ns: int = 0

    def of(self, row: bytes) -> LogEntry | None:
        entry = rows.entry(row)
        if entry is None or entry.stream not in self.streams or entry.time_ns < self.since_ns:
            return None
        return entry if not self.until_ns or entry.time_ns <= self.until_ns else None

    def among(self, batch: Iterable[bytes]) -> list[LogEntry]:
        return [entry for row in batch if (entry := self.of(row))]


class _Start(NamedTuple):
    """Where to begin: in which file, at which row, without how many of the lines in it."""

    file: int
    at: int = 0
    surplus: int = 0


class Reader:
    """What a log holds when this is made: `past`, and what it gets from then on: `news`. To be closed.

    A log may be as large as the disk. So each step reads and holds a piece of it, after which the caller can let others
    on; and the files of the past stay open, so that rotation takes nothing of it away from a slow reader."""

    def __init__(self, log: Log, wanted: Wanted, tail: int | None = None) -> None:
        """`tail`: no more of the past than so many last lines. A line that goes on in the next entry of its stream is
        one, unless another stream came between."""
        self._log, self._wanted, self._tail = log, wanted, tail
        self._fds = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in log.paths()]
        self._ends = [rows.end(fd) for fd in self._fds]
        self._at = self._ends[-1] if self._ends else 0  # in the newest: where news begin

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())

    def past(self) -> Generator[list[LogEntry], None, None]:
        """The entries, oldest first, in batches, some of them empty."""
        start = _Start(0) if self._tail is None else (yield from self._last(self._tail))
        surplus = start.surplus
        for number in range(start.file, len(self._fds)):
            begin = start.at if number == start.file else 0
            for batch, _ in rows.forwards(self._fds[number], begin, self._ends[number]):
                entries = self._wanted.among(batch)
                if entries and surplus:
                    entries[0], surplus = _without(entries[0], surplus), 0
                yield [entry for entry in entries if entry.data]

    def _last(self, tail: int) -> Generator[list[LogEntry], None, _Start]:
        """Look from the end for where the last `tail` lines begin."""
        start = _Start(len(self._fds))
        lines = 0  # that begin behind the entry at `start`
        first: LogEntry | None = None  # that one
        for number in reversed(range(len(self._fds))) if tail else ():
            for batch in rows.backwards(self._fds[number], self._ends[number]):
                for at, row in batch:
                    if (entry := self._wanted.of(row)) is None:
                        continue
                    if first:
                        goes_on = entry.stream == first.stream and not entry.data.endswith(b"\n")
                        lines += _lines(first) - goes_on
                        if lines >= tail:
                            return start._replace(surplus=lines - tail + goes_on)
                    start, first = _Start(number, at), entry
                yield []
        return start._replace(surplus=max(0, lines + _lines(first) - tail)) if first else start

    @property
    def behind(self) -> bool:
        """Are there news?"""
        return self._newer() is not None or (bool(self._fds) and rows.end(self._fds[-1]) > self._at)

    def news(self) -> list[LogEntry] | None:
        """The next batch; None if nothing was written since. Who is slower than the rotation misses what it removed."""
        end = rows.end(self._fds[-1]) if self._fds else 0
        if end > self._at:
            batch, self._at = next(rows.forwards(self._fds[-1], self._at, end))
            return self._wanted.among(batch)
        if (newer := self._newer()) is None:
            return None
        self.close()
        self._fds, self._at = [os.open(newer, os.O_RDONLY | os.O_CLOEXEC)], 0
        return []

    def _newer(self) -> Path | None:
        """The file after the one that is read; the oldest, if that one was removed."""
        paths = self._log.paths()
        ours = os.fstat(self._fds[-1]) if self._fds else None
        for number, path in enumerate(paths):
            if ours and os.path.samestat(path.stat(), ours):
                return paths[number + 1] if number + 1 < len(paths) else None
        return paths[0] if paths else None


def _lines(entry: LogEntry) -> int:
    """How many lines have a part in it."""
    return entry.data.count(b"\n") + (not entry.data.endswith(b"\n"))


def _without(entry: LogEntry, lines: int) -> LogEntry:
    at = 0
    for _ in range(lines):
        at = entry.data.find(b"\n", at) + 1 or len(entry.data)
    return LogEntry(stream=entry.stream, time_ns=entry.time_ns, data=entry.data[at:])
