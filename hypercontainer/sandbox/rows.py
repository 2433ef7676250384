"""The rows of a log file: one JSON document each. Read forwards or backwards, a piece at a time, however large the file
and whatever somebody made of it."""

import base64
import os
from collections.abc import Iterator
from typing import Literal

import msgspec

from hypercontainer.lib.document import NOT_JSON
from hypercontainer.model.documents import LogEntry

STREAMS: dict[str, Literal[1, 2]] = {"stdout": 1, "stderr": 2}
PIECE = 1 << 18  # bytes of a file that are read at once
MAX_ROW = 2 << 20  # a chunk is 256 KiB at most, of which JSON may make six times as much


class Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One row. `run` counts the container's starts; `offsets` are those of stdout and stderr after it."""

    stream: Literal["stdout", "stderr"]
    time_ns: int
    run: int
    offsets: tuple[int, int]
    log: str = ""
    base64: str = ""  # in place of `log` when the bytes are not UTF-8


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Line)


def encode(line: Line) -> bytes:
    return _encoder.encode(line) + b"\n"


def decode(row: bytes) -> Line | None:
    """None for what is not ours: somebody edited the file."""
    try:
        return _decoder.decode(row)
    except NOT_JSON:
        return None


def entry(row: bytes) -> LogEntry | None:
    """What a row says of the output. None also for one that says nothing of it."""
    line = decode(row)
    if line is None or not (line.log or line.base64):
        return None
    try:
        data = base64.b64decode(line.base64) if line.base64 else line.log.encode()
    except ValueError:
        return None
    return LogEntry(stream=STREAMS[line.stream], time_ns=line.time_ns, data=data)


def end(fd: int) -> int:
    """Where the last whole row of a file ends. What follows was cut short by a crash or a full disk."""
    at = os.fstat(fd).st_size
    while at > 0:
        begin = max(0, at - (1 << 16))
        newline = os.pread(fd, at - begin, begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        at = begin
    return 0


def forwards(fd: int, at: int, end: int) -> Iterator[tuple[list[bytes], int]]:
    """The rows between two places where rows end, in batches; and where each batch ends."""
    rest = b""
    while at < end and (block := os.pread(fd, min(PIECE, end - at), at)):
        at += len(block)
        *rows, rest = (rest + block).split(b"\n")
        if len(rest) > MAX_ROW:
            rest = b""
        if rows or not rest:
            yield rows, at - len(rest)


def backwards(fd: int, end: int) -> Iterator[list[tuple[int, bytes]]]:
    """The rows before a place where one ends, the last one first, in batches; and where each begins."""
    rest = b""
    while end > 0:
        begin = max(0, end - PIECE)
        *rows, _ = (os.pread(fd, end - begin, begin) + rest).split(b"\n")
        if begin:  # the first one may begin further to the front
            rest = (rows[0] if len(rows[0]) <= MAX_ROW else b"") + b"\n"
        placed, at = [], begin
        for row in rows:
            placed.append((at, row))
            at += len(row) + 1
        yield placed[:0:-1] if begin else placed[::-1]
        end = begin
