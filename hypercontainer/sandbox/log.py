"""A container's log: JSON lines, rotated, bounded; and how far each output stream has been written down.

The last line tells which bytes are safe on disk, so a hyperd that was killed asks the guest for exactly the rest.
An entry holds a chunk as it arrived, not a line: readers split.
"""

import base64
import os
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from hypercontainer.lib import clock, files
from hypercontainer.lib.document import NOT_JSON
from hypercontainer.model.documents import LogEntry

STREAMS: dict[str, Literal[1, 2]] = {"stdout": 1, "stderr": 2}


class Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line of the file. `run` counts the container's starts; `offsets` are those of stdout and stderr after it."""

    stream: Literal["stdout", "stderr"]
    time_ns: int
    run: int
    offsets: tuple[int, int]
    log: str = ""
    base64: str = ""  # in place of `log` when the bytes are not UTF-8


class LogPosition(NamedTuple):
    """A place in the log: the file's inode, which rotation keeps, and an offset in it."""

    file: int
    offset: int


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Line)


class Log:
    """The log files of one container: `container.log` and older ones, `container.log.1` …, in folder `path`."""

    def __init__(self, path: Path, *, max_bytes: int, files: int) -> None:
        self.path, self.max_bytes, self.files = path / "container.log", max_bytes, files
        self._fd = -1
        self._size = 0
        self._offsets = [0, 0]

    def open(self, run: int) -> tuple[int, int]:
        """Be ready to append for start number `run`; return the offsets (stdout, stderr) that are on disk already.

        Needs no room: the file is made when there is something to write."""
        self.close()
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
        size = os.fstat(self._fd).st_size
        end = size
        while end > 0:
            begin = max(0, end - 65536)
            block = os.pread(self._fd, end - begin, begin)
            newline = block.rfind(b"\n")
            if newline >= 0:
                end = begin + newline + 1
                break
            end = begin
        if end != size:
            os.ftruncate(self._fd, end)
        return end

    def _last(self) -> Line | None:
        for path in (self.path, self.path.with_name("container.log.1")):
            if last := deque(_lines(_rows(path)), maxlen=1):
                return last[0]
        return None

    @property
    def offsets(self) -> tuple[int, int]:
        """Those of stdout and stderr after what is on disk."""
        return self._offsets[0], self._offsets[1]

    def begin(self, run: int, offsets: tuple[int, int]) -> None:
        """Write down that start number `run` goes on with streams of which so much was handed to somebody else."""
        self.open(run)
        self._write(Line(stream="stdout", time_ns=clock.now_ns(), run=run, offsets=offsets))

    def append(self, run: int, stream: int, data: bytes, time_ns: int) -> None:
        """Write one chunk of stream 1 or 2. OSError (disk full) leaves the log as it was: try again later."""
        offsets = list(self._offsets)
        offsets[stream - 1] += len(data)
        line = Line(
            stream="stdout" if stream == 1 else "stderr", time_ns=time_ns, run=run, offsets=(offsets[0], offsets[1])
        )
        try:
            line.log = data.decode()
        except UnicodeDecodeError:
            line.base64 = base64.b64encode(data).decode()
        self._write(line)

    def _write(self, line: Line) -> None:
        row = _encoder.encode(line) + b"\n"
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

    def end(self) -> LogPosition:
        """Where the log ends now."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return LogPosition(0, 0)
        return LogPosition(status.st_ino, status.st_size)

    def after(self, place: LogPosition) -> tuple[list[LogEntry], LogPosition]:
        """What was written since `place`, 1 MiB of it at most, and the place after that."""
        now = self.end()
        if now == place:
            return [], place
        begin = place.offset if now.file == place.file else 0
        if now.file != place.file and (rest := self._rest(place)):
            return rest, LogPosition(now.file, 0)
        with open(self.path, "rb") as f:
            f.seek(begin)
            block = f.read(1 << 20)
        whole = block[: block.rfind(b"\n") + 1]
        return list(_pieces(whole.splitlines())), LogPosition(now.file, begin + len(whole))

    def _rest(self, place: LogPosition) -> list[LogEntry]:
        """What a file that was rotated away since holds after `place`."""
        for n in range(1, self.files):
            path = self.path.with_name(f"container.log.{n}")
            if path.exists() and path.stat().st_ino == place.file:
                with open(path, "rb") as f:
                    f.seek(place.offset)
                    return list(_pieces(f.read().splitlines()))
        return []

    def read(
        self, *, since_ns: int, until_ns: int, tail: int | None, streams: set[int], end: LogPosition | None = None
    ) -> list[LogEntry]:
        """The entries between two times (0 = open), of them the last `tail` lines, none written after `end`.

        Bounded by the files' own bound: what is in them, not how it is cut into lines."""
        last = _Tail(tail)
        for entry in self._entries(since_ns, until_ns, streams, end) if tail != 0 else ():
            last.add(entry)
        return last.entries()

    def _entries(self, since_ns: int, until_ns: int, streams: set[int], end: LogPosition | None) -> Iterator[LogEntry]:
        older = [self.path.with_name(f"container.log.{n}") for n in range(self.files - 1, 0, -1)]
        for path in [*older, self.path]:
            for entry in _pieces(_rows(path, end)):
                in_time = entry.time_ns >= since_ns and (not until_ns or entry.time_ns <= until_ns)
                if entry.stream in streams and in_time:
                    yield entry


class _Tail:
    """Entries as they come, of which the last `lines` lines are kept, all if None. A line that goes on in the next
    entry of its stream is one, unless another stream came between."""

    def __init__(self, lines: int | None) -> None:
        self._most, self._lines = lines, 0
        self._kept: deque[tuple[LogEntry, int]] = deque()  # with the number of lines that begin in it
        self._unfinished: Literal[0, 1, 2] = 0  # the stream whose line goes on
        self._rest = False  # the first one kept goes on with a line that is not

    def add(self, entry: LogEntry) -> None:
        ended = entry.data.endswith(b"\n")
        begun = entry.data.count(b"\n") + (not ended) - (self._unfinished == entry.stream)
        self._unfinished = 0 if ended else entry.stream
        self._kept.append((entry, begun))
        self._lines += begun
        while self._most is not None and self._lines - self._kept[0][1] >= self._most and len(self._kept) > 1:
            gone, count = self._kept.popleft()
            self._lines -= count
            if not gone.data.endswith(b"\n"):
                self._rest = gone.stream == self._kept[0][0].stream
            else:
                self._rest = False

    def entries(self) -> list[LogEntry]:
        kept = [entry for entry, _ in self._kept]
        surplus = (self._lines - self._most if self._most is not None else 0) + self._rest
        if kept and surplus > 0:
            data, at = kept[0].data, 0
            for _ in range(surplus):
                at = data.find(b"\n", at) + 1 or len(data)
            kept[0] = LogEntry(stream=kept[0].stream, time_ns=kept[0].time_ns, data=data[at:])
        return [entry for entry in kept if entry.data]


def _rows(path: Path, end: LogPosition | None = None) -> Iterator[bytes]:
    try:
        with open(path, "rb") as f:
            limit = end.offset if end and os.fstat(f.fileno()).st_ino == end.file else None
            read = 0
            for row in f:
                read += len(row)
                if not row.endswith(b"\n") or (limit is not None and read > limit):
                    return
                yield row
    except FileNotFoundError:
        return


def _lines(rows: Iterable[bytes]) -> Iterator[Line]:
    for row in rows:
        try:
            yield _decoder.decode(row)
        except NOT_JSON:
            continue  # not ours: somebody edited the file


def _pieces(rows: Iterable[bytes]) -> Iterator[LogEntry]:
    for line in _lines(rows):
        if not (line.log or line.base64):
            continue  # of `begin`
        try:
            data = base64.b64decode(line.base64) if line.base64 else line.log.encode()
        except ValueError:
            continue  # not ours either
        yield LogEntry(stream=STREAMS[line.stream], time_ns=line.time_ns, data=data)
