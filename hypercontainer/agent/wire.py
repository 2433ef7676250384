"""Frames <-> bytes, as docs/wire.md sections 1 and 2 say. No socket here: tests feed one byte at a time."""

import re
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from hypercontainer.errors import HyperError

VERSION = 1
MAX_PAYLOAD = 32768
WINDOW = 262144  # bytes of one stream that may be unacknowledged
MAX_STREAM = 2**32 - 1
MAX_OFFSET = 2**64 - 1
HELLO_STREAM = 0x48595052  # "HYPR"

END = 0xA5
HEADER = struct.Struct(">BBHIQ")  # kind, flags, length of the payload, stream, offset
MAX_FRAME = HEADER.size + MAX_PAYLOAD + 1
PREAMBLE = bytes(MAX_FRAME)  # completes, and so spoils, whatever half a frame a predecessor left behind

_END = bytes([END])
_STREAM_AT = 4  # where the header holds stream and offset
_NOT_ZERO = re.compile(rb"[^\0]")
_ROOM = 2 * MAX_FRAME  # of a decoder: what one read of a socket may bring


class WireError(HyperError):
    """The guest's agent breaks the protocol. Nothing more is believed of it."""

    kind = "guest"


class Kind(IntEnum):
    HELLO = 1
    DATA = 2
    ACK = 3
    EOF = 4
    STOP = 5


class Frame(NamedTuple):
    kind: int
    stream: int
    offset: int
    payload: bytes = b""


def encode(kind: int, stream: int, offset: int, payload: bytes | bytearray | memoryview = b"") -> bytes:
    """One frame. Our own numbers are trusted: struct.error is a bug of ours."""
    return b"".join((HEADER.pack(kind, 0, len(payload), stream, offset), payload, _END))


def hello(nonce: int, payload: bytes) -> bytes:
    """How a host opens a connection: the preamble, then HELLO."""
    return PREAMBLE + encode(Kind.HELLO, HELLO_STREAM, nonce, payload)


class Decoder:
    """Takes bytes in any pieces, gives the frames in them. Between calls it holds less than one frame.

    It begins *lost*: it skips everything but a HELLO, and with a `nonce`, everything but the HELLO that has it.
    Found, a host's decoder (`nonce` given) raises WireError for whatever is no frame; a guest's is lost again.
    Use: read into `room()`, then iterate over `take(count)` to its end.
    """

    def __init__(self, nonce: int | None = None) -> None:
        self.lost = True
        self._nonce = nonce
        self._needle = struct.pack(">I", HELLO_STREAM) + (b"" if nonce is None else struct.pack(">Q", nonce))
        self._buffer = bytearray(_ROOM)
        self._view = memoryview(self._buffer)
        self._start = self._stop = 0  # what has come and is not used yet

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes, for those who hold bytes instead of reading them in place."""
        for at in range(0, len(data), MAX_FRAME):
            piece = data[at : at + MAX_FRAME]
            self.room()[: len(piece)] = piece
            yield from self.take(len(piece))

    def room(self) -> memoryview:
        """Where the next bytes go: never empty."""
        return self._view[self._stop :]

    @property
    def held(self) -> int:
        """Bytes that have come and make no whole frame yet."""
        return self._stop - self._start

    def take(self, count: int) -> Iterator[Frame]:
        """The frames that `count` more bytes in `room()` complete."""
        self._stop += count
        try:
            while (frame := self._find_hello() if self.lost else self._next()) is not None:
                yield frame
        finally:
            self._make_room()

    def _make_room(self) -> None:
        held = self.held
        if self._start:
            self._view[:held] = self._view[self._start : self._stop]
        self._start, self._stop = 0, held

    def _next(self) -> Frame | None:
        """The frame at the front, zeros before it skipped; None if more bytes are needed or the place is lost."""
        if not (found := _NOT_ZERO.search(self._buffer, self._start, self._stop)):
            self._start = self._stop
            return None
        at = self._start = found.start()
        if self.held < HEADER.size:
            return None
        kind, flags, length, stream, offset = HEADER.unpack_from(self._buffer, at)
        if not is_sound(kind, flags, length):
            return self._lose(HEADER.size, f"a frame of kind {kind}, flags {flags} and length {length}")
        end = at + HEADER.size + length
        if end >= self._stop:
            return None
        if self._buffer[end] != END:
            return self._lose(HEADER.size + length + 1, f"a frame that ends in {self._buffer[end]:#04x}")
        self._start = end + 1
        return Frame(kind, stream, offset, bytes(self._view[at + HEADER.size : end]))

    def _lose(self, size: int, what: str) -> Frame | None:
        # What a cut frame claims as its own is dropped whole: a HELLO inside its payload would be a forgery.
        self._start += size
        if self._nonce is not None:
            raise WireError(f"cannot understand the guest's agent: it sent {what}")
        self.lost = True
        return self._find_hello()

    def _find_hello(self) -> Frame | None:
        """The next HELLO; whatever comes before it is dropped. None if more bytes are needed."""
        while (at := self._buffer.find(self._needle, self._start + _STREAM_AT, self._stop) - _STREAM_AT) >= 0:
            self._start = at
            if self.held < HEADER.size:
                return None
            kind, flags, length, stream, offset = HEADER.unpack_from(self._buffer, at)
            end = at + HEADER.size + length
            if kind == Kind.HELLO and is_sound(kind, flags, length):
                if end >= self._stop:
                    return None
                if self._buffer[end] == END:
                    self._start, self.lost = end + 1, False
                    return Frame(kind, stream, offset, bytes(self._view[at + HEADER.size : end]))
            self._start = at + 1
        self._start = max(self._start, self._stop - _STREAM_AT - len(self._needle) + 1)
        return None


def is_sound(kind: int, flags: int, length: int) -> bool:
    """Whether a header's fields are within their bounds."""
    if flags or not Kind.HELLO <= kind <= Kind.STOP:
        return False
    return length <= (MAX_PAYLOAD if kind <= Kind.DATA else 0)
