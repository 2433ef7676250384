"""The frames of an upgraded connection (`Upgrade: hyper-stream`), for both of its ends: docs/api.md. No socket here.

u8 kind, 3 zero bytes, u32 big-endian length, payload. Nothing is imported: `hyperctl` reads this at each call.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

STDIN, STDOUT, STDERR, EXIT, INFO, STDIN_END, RESIZE, SIGNAL, DETACH, ERROR = range(10)
HEADER = 8
MAX_PAYLOAD = 65536
MAX_CONTROL = 1024  # of what a client sends beside stdin

# What each end may send: kinds, and the bytes of their largest payload.
FROM_SERVER = dict.fromkeys((STDOUT, STDERR, EXIT, INFO, ERROR), MAX_PAYLOAD)
FROM_CLIENT = {STDIN: MAX_PAYLOAD, **dict.fromkeys((STDIN_END, RESIZE, SIGNAL, DETACH), MAX_CONTROL)}


def header(kind: int, length: int) -> bytes:
    return (kind << 56 | length).to_bytes(HEADER, "big")


def frame(kind: int, payload: bytes = b"") -> bytes:
    """One frame of a payload that fits in one."""
    return header(kind, len(payload)) + payload


def frames(kind: int, data: bytes) -> bytes:
    """`data` in as many frames as it takes."""
    if len(data) <= MAX_PAYLOAD:
        return frame(kind, data)
    return b"".join(frame(kind, data[at : at + MAX_PAYLOAD]) for at in range(0, len(data), MAX_PAYLOAD))


class Decoder:
    """Cuts what the other end sends into frames, without copying: receive into `space()`, then `received(n)`.

    `allowed` is FROM_SERVER or FROM_CLIENT. The payloads that iteration gives point into the buffer: use or copy them
    before the next `space()`.
    """

    def __init__(self, allowed: Mapping[int, int], capacity: int = 4 * (MAX_PAYLOAD + HEADER)) -> None:
        self._allowed = allowed
        self._buffer = bytearray(capacity)
        self._view = memoryview(self._buffer)
        self._begin = self._end = 0

    def space(self) -> memoryview:
        """Where the next bytes go; there is always room for the rest of a frame."""
        if self._begin == self._end:
            self._begin = self._end = 0
        elif len(self._buffer) - self._begin < HEADER + MAX_PAYLOAD:
            rest = self._end - self._begin
            self._buffer[:rest] = self._buffer[self._begin : self._end]
            self._begin, self._end = 0, rest
        return self._view[self._end :]

    def received(self, n: int) -> None:
        self._end += n

    def feed(self, data: bytes | memoryview) -> int:
        """Put in what came otherwise, as much of it as fits; how much that is."""
        space = self.space()
        n = min(len(data), len(space))
        space[:n] = data[:n]
        self.received(n)
        return n

    def __iter__(self) -> Iterator[tuple[int, memoryview]]:
        """Each whole frame. ValueError for one that the other end may not send."""
        while self._end - self._begin >= HEADER:
            head = int.from_bytes(self._view[self._begin : self._begin + HEADER], "big")
            kind, length = head >> 56, head & 0xFFFFFFFFFFFFFF
            if length > self._allowed.get(kind, -1):
                raise ValueError(f"a frame of kind {kind} and {length} bytes")
            if self._end - self._begin < HEADER + length:
                return
            begin = self._begin + HEADER
            self._begin = begin + length
            yield kind, self._view[begin : begin + length]

    @property
    def partial(self) -> bool:
        """True in the middle of a frame: an end of the connection here is a loss."""
        return self._begin != self._end
