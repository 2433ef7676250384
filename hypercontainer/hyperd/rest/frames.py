"""The frames of an upgraded connection, as docs/api.md has them. Pure: no socket here."""

import struct
from collections.abc import Iterator
from typing import Annotated

import msgspec

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.rest.call import Body, Cells
from hypercontainer.model.signals import HIGHEST

STDIN, STDOUT, STDERR, EXIT, INFO, STDIN_END, RESIZE, SIGNAL, DETACH, ERROR = range(10)
HEADER = struct.Struct(">B3xI")  # kind, length of the payload
HEAD = struct.Struct(">BBBBI")  # the same, its padding read as well
MAX_PAYLOAD = 65536
MAX_CONTROL = 1024  # payload of what is no stdin


class ResizeFrame(Body, frozen=True, kw_only=True):
    rows: Cells
    columns: Cells


class SignalFrame(Body, frozen=True, kw_only=True):
    signal: Annotated[int, msgspec.Meta(ge=1, le=HIGHEST)]


def frames(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take each whole frame off the front of `buffer`. InvalidInput for one that no client may send."""
    at = 0
    view = memoryview(buffer)
    try:
        while len(buffer) - at >= HEADER.size:
            kind, a, b, c, length = HEAD.unpack_from(buffer, at)
            if a or b or c or kind not in (STDIN, STDIN_END, RESIZE, SIGNAL, DETACH):
                raise InvalidInput(f"a stream's client sent a frame of unknown kind {kind}")
            if length > (MAX_PAYLOAD if kind == STDIN else MAX_CONTROL):
                raise InvalidInput(f"a stream's client sent a frame of {length} bytes")
            if len(buffer) - at < HEADER.size + length:
                return
            payload = bytes(view[at + HEADER.size : at + HEADER.size + length])
            at += HEADER.size + length
            yield kind, payload
    finally:
        view.release()
        del buffer[:at]


def pieces(kind: int, data: bytes) -> bytes:
    """`data` as frames of at most MAX_PAYLOAD."""
    if len(data) <= MAX_PAYLOAD:
        return HEADER.pack(kind, len(data)) + data
    cut = (data[i : i + MAX_PAYLOAD] for i in range(0, len(data), MAX_PAYLOAD))
    return b"".join(part for piece in cut for part in (HEADER.pack(kind, len(piece)), piece))


def document(kind: int, content: object) -> bytes:
    return pieces(kind, msgspec.json.encode(content)[:MAX_PAYLOAD])
