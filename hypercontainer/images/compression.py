"""Compressed or plain: told by the first bytes, never by what a document says."""

import bz2
import lzma
import queue
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Protocol

from hypercontainer.errors import InvalidInput

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE = 1 << 20  # bytes in and bytes out of a decompressor at a time
FIRST = 512  # bytes into a new one, twice as many each time: what is left of them is copied at its end
ZSTD_WINDOW_LOG = 27  # 128 MiB, what the zstd tool itself allows unless told otherwise
XZ_MEMORY = 128 << 20
SKIPPABLE, SKIPPABLE_HEADER = b"\x2a\x4d\x18", 8  # after a byte 0x50 … 0x5f: RFC 8878, section 3.1.2
MAGIC: dict[bytes, str] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\x00": "xz", b"BZh": "bzip2"}


class Decompressor(Protocol):
    """What bz2, lzma and zstd share."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class Gunzip:
    """zlib's decompressor in the manner of the others."""

    def __init__(self) -> None:
        self._z = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._z.eof

    @property
    def needs_input(self) -> bool:
        return not self._z.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._z.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._z.decompress(self._z.unconsumed_tail + data, max_length)


def _unzstd() -> Decompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG})


MAKE: dict[str, Callable[[], Decompressor]] = {
    "gzip": Gunzip,
    "zstd": _unzstd,
    "xz": lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY),
    "bzip2": bz2.BZ2Decompressor,
}
FAILURES = (zlib.error, zstd.ZstdError, lzma.LZMAError, OSError, EOFError)


def kind(head: bytes) -> str:
    """gzip, zstd, xz, bzip2, or "" for what is none of them."""
    if _skippable(head):
        return "zstd"
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), "")


def _skippable(head: bytes) -> bool:
    """A frame of zstd's that holds no content, but what a tool has written for itself: zstd:chunked has them."""
    return head[1:4] == SKIPPABLE and head[0] & 0xF0 == 0x50


def plain(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """`chunks` without their compression, in pieces of PIECE bytes at most unless they were plain to begin with.

    InvalidInput when they are damaged or end early.
    """
    head = b""
    while len(head) < 6 and (chunk := next(chunks, b"")):
        head += chunk
    name = kind(head)
    if name:
        yield from _decompress(name, head, chunks)
    else:
        if head:
            yield head
        yield from chunks


class _Source:
    """Compressed bytes, of which a decompressor may give back what it was given last and did not need."""

    def __init__(self, data: bytes, chunks: Iterator[bytes]) -> None:
        self._data, self._at, self._chunks = data, 0, chunks

    def head(self, size: int) -> bytes:
        """The next `size` bytes, which stay; fewer at the end."""
        while len(self._data) - self._at < size and (more := next(self._chunks, b"")):
            self._data, self._at = self._data[self._at :] + more, 0
        return self._data[self._at : self._at + size]

    def take(self, most: int) -> bytes:
        """Some of the next bytes; none at the end."""
        if self._at == len(self._data):
            self._data, self._at = next(self._chunks, b""), 0
        piece = self._data[self._at : self._at + most]
        self._at += len(piece)
        return piece

    def give_back(self, size: int) -> None:
        """The last `size` bytes of what was taken last."""
        self._at -= size

    def skip(self, size: int) -> bool:
        """Pass over `size` bytes. False when there are fewer."""
        while size > len(self._data) - self._at:
            size -= len(self._data) - self._at
            self._data, self._at = next(self._chunks, b""), 0
            if not self._data:
                return False
        self._at += size
        return True


def _decompress(name: str, data: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """One member after another: gzip and zstd files may be several, end to end."""
    magic = next(m for m, n in MAGIC.items() if n == name)
    source = _Source(data, chunks)
    while True:
        if name == "zstd":
            _pass_skippable(source)
        if source.head(len(magic)) != magic:
            return _only_padding(name, source)
        yield from _member(name, source)


def _member(name: str, source: _Source) -> Iterator[bytes]:
    decompressor, most = MAKE[name](), FIRST
    data = source.take(most)
    while True:
        try:
            out = decompressor.decompress(data, PIECE)
        except FAILURES as e:
            raise InvalidInput(f"damaged {name} data: {e}") from e
        if out:
            yield out
        data = b""
        if decompressor.eof:
            return source.give_back(len(decompressor.unused_data))
        if decompressor.needs_input:
            most = min(2 * most, PIECE)
            data = source.take(most)
            if not data:
                raise InvalidInput(f"damaged {name} data: it ends too early")


def _pass_skippable(source: _Source) -> None:
    """Leave `source` behind its skippable frames."""
    while _skippable(head := source.head(SKIPPABLE_HEADER)):
        if not source.skip(SKIPPABLE_HEADER + int.from_bytes(head[4:], "little")):
            raise InvalidInput("damaged zstd data: it ends too early")


def _only_padding(name: str, source: _Source) -> None:
    while data := source.take(PIECE):
        if data.strip(b"\0"):
            raise InvalidInput(f"damaged {name} data: something else follows it")


class Ahead:
    """Iterates in a thread, some pieces ahead: unpacking overlaps with decompression, which holds no lock.

    `close` (or leaving the block) ends the thread, whatever was taken. What the thread raises, the taker sees.
    """

    def __init__(self, pieces: Iterator[bytes], depth: int = 4) -> None:
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(depth)
        self._closed = False
        self._thread = threading.Thread(target=self._run, args=(pieces,), daemon=True)
        self._thread.start()

    def _run(self, pieces: Iterator[bytes]) -> None:
        try:
            for piece in pieces:
                self._queue.put(piece)
                if self._closed:
                    return
        except BaseException as e:  # noqa: BLE001, RUF100  it is raised again where it is looked for
            self._queue.put(e)
        else:
            self._queue.put(None)

    def __iter__(self) -> Iterator[bytes]:
        while True:
            item = self._queue.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        self._closed = True
        while self._thread.is_alive():
            with suppress(queue.Empty):
                self._queue.get(timeout=0.01)
        self._thread.join()

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
