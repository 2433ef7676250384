"""The frames of an upgraded connection (`Upgrade: hyper-stream`): docs/api.md. Pure: no socket here.

u8 kind, 3 zero bytes, u32 big-endian length (at most 65536), payload.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

STDIN, STDOUT, STDERR, EXIT, INFO, STDIN_END, RESIZE, SIGNAL, DETACH, ERROR = range(10)
HEADER = 8
MAX_PAYLOAD = 65536
FROM_SERVER = frozenset({STDOUT, STDERR, EXIT, INFO, ERROR})


def header(kind: int, length: int) -> bytes:
    return (kind << 56 | length).to_bytes(HEADER, "big")


def frame(kind: int, payload: bytes = b"") -> bytes:
    return header(kind, len(payload)) + payload


class Decoder:
    """Cuts what a server sends into frames, without copying: receive into `space()`, then `received(n)`.

    The payloads that iteration gives point into the buffer: use or copy them before the next `space()`.
    """

    def __init__(self, capacity: int = 4 * (MAX_PAYLOAD + HEADER)) -> None:
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

    def feed(self, data: bytes) -> None:
        """Put in what came with the response's head; it must fit."""
        self.space()[: len(data)] = data
        self.received(len(data))

    def __iter__(self) -> Iterator[tuple[int, memoryview]]:
        """Each whole frame. ValueError for one that no server of ours sends."""
        while self._end - self._begin >= HEADER:
            head = int.from_bytes(self._view[self._begin : self._begin + HEADER], "big")
            kind, length = head >> 56, head & 0xFFFFFFFFFFFFFF
            if kind not in FROM_SERVER or length > MAX_PAYLOAD:
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
