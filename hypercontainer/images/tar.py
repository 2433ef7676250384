"""Reading tar archives that a stranger made: ustar, GNU and PAX, sparse files; every length bounded before belief.

The standard library's reader takes extension headers of any size into memory; this one does not, and is faster.
"""

from collections.abc import Iterator
from typing import NamedTuple

from hypercontainer.errors import InvalidInput

BLOCK = 512
RECORD = 20 * BLOCK  # tar(1) fills its last one with zeros
ZERO = bytes(BLOCK)
MAX_EXTENSION = 1 << 20  # bytes of all PAX and GNU long-name headers of one entry
MAX_PATH = 4096
MAX_SPARSE = 10_000  # pieces of one sparse file
MAX_SIZE = 1 << 42
XATTR = b"SCHILY.xattr."
KNOWN = frozenset((b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime"))  # and what is of sparse files, or XATTR
SPARSE = b"GNU.sparse."
MAX_DIGITS = 20
FILE, LINK, SYMLINK, CHAR, BLOCK_DEVICE, FOLDER, FIFO = b"0123456"
REGULAR = frozenset(b"0\x007")  # 7: contiguous; every reader takes it for a file


class TarError(InvalidInput):
    """The archive is damaged, or absurd."""


class Entry(NamedTuple):
    """One member. `size` is the file's own; a sparse one holds less in the archive. `kind` is tar's type byte."""

    name: bytes
    kind: int
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    link: bytes
    major: int
    minor: int
    xattrs: dict[bytes, bytes]
    sparse: list[tuple[int, int]] | None  # (offset, length) of what the archive holds


class Stream:
    """Bytes in pieces of any size, taken in pieces of other sizes."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = iter(chunks)
        self._view = memoryview(b"")

    def take(self, size: int) -> bytes:
        """Exactly `size` bytes, or fewer at the end of the stream."""
        if len(self._view) >= size:
            out = bytes(self._view[:size])
            self._view = self._view[size:]
            return out
        return b"".join(bytes(piece) for piece in self.pieces(size))

    def pieces(self, size: int) -> Iterator[memoryview]:
        """The next `size` bytes; fewer at the end of the stream."""
        while size:
            if not self._view:
                chunk = next(self._chunks, None)
                if chunk is None:
                    return
                self._view = memoryview(chunk)
            piece = self._view[:size]
            self._view = self._view[len(piece) :]
            size -= len(piece)
            if piece:
                yield piece

    def skip(self, size: int) -> int:
        """Pass over `size` bytes; returns how many there were."""
        return sum(len(piece) for piece in self.pieces(size))


def number(field: bytes) -> int:
    """A number of a header: octal, or GNU's base 256."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=False) & ~(0x80 << 8 * (len(field) - 1))
        return value - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else value
    digits = field.split(b"\0", 1)[0].strip()
    if not digits:
        return 0
    if digits.translate(None, b"01234567"):
        raise TarError(f"damaged tar: {show(field)} is not a number")
    return int(digits, 8)


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _check(block: bytes) -> None:
    stored = number(block[148:156])
    if sum(block) - sum(block[148:156]) + 256 != stored:
        raise TarError("damaged tar: a header's checksum is wrong")


def pax(data: bytes) -> dict[bytes, bytes]:
    """The records of a PAX header: "LENGTH KEY=VALUE\\n"."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data) and data[at] != 0:
        space = data.find(b" ", at, at + 12)
        digits = data[at:space]
        if space < 0 or not digits.isdigit():
            raise TarError("damaged tar: a PAX record has no length")
        end = at + int(digits)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not space + 1 < end <= len(data) or data[end - 1] != 10 or not equals or not key:
            raise TarError("damaged tar: a PAX record is cut short")
        records[key] = value
        at = end
    return records


def _amend(records: dict[bytes, bytes], said: dict[bytes, bytes]) -> None:
    """Take over what is of use. An empty value means the header's own (POSIX, pax), but for an attribute."""
    for key, value in said.items():
        if key.startswith(XATTR) or (value and (key in KNOWN or key.startswith(SPARSE))):
            records[key] = value
        else:
            records.pop(key, None)


def _integer(value: bytes, what: str) -> int:
    if not 0 < len(value) <= MAX_DIGITS or not value.lstrip(b"-").isdigit():
        raise TarError(f"damaged tar: PAX {what} is {show(value[:40])}")
    try:
        return int(value)
    except ValueError as e:
        raise TarError(f"damaged tar: PAX {what} is {show(value[:40])}") from e


def _nanoseconds(value: bytes) -> int:
    """A PAX time: decimal seconds, which may be negative and may have a fraction."""
    whole, _, fraction = value.partition(b".")
    negative = whole.startswith(b"-")
    if fraction and not fraction.isdigit():
        raise TarError(f"damaged tar: PAX mtime is {show(value[:40])}")
    rest = int(fraction[:9].ljust(9, b"0"))
    seconds = _integer(whole, "mtime") * 1_000_000_000
    return seconds - rest if negative else seconds + rest


class Reader:
    """Iterates over the entries of a tar; `data` gives the content of the current one.

    Global PAX headers are passed over, as docker does. What follows the end mark is left in `stream`.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._left = 0  # bytes of the current entry's content that nobody has read
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        records: dict[bytes, bytes] = {}
        room = MAX_EXTENSION
        while block := self._header():
            kind = block[156]
            if kind in b"xgLK":
                body = self._extension(block, room)
                room -= BLOCK + len(body)
                if kind == 0x78:
                    _amend(records, pax(body))
                elif kind != 0x67:
                    records[b"path" if kind == 0x4C else b"linkpath"] = _text(body)
                continue
            yield self._entry(block, kind, records)
            self._finish()
            records, room = {}, MAX_EXTENSION

    def data(self) -> Iterator[memoryview]:
        """The current entry's content as the archive holds it. TarError when it ends too early."""
        for piece in self.stream.pieces(self._left):
            self._left -= len(piece)
            yield piece
        if self._left:
            raise TarError("damaged tar: it ends inside a file")

    def _finish(self) -> None:
        wanted = self._left + self._padding
        if self.stream.skip(wanted) < self._left:
            raise TarError("damaged tar: it ends inside a file")
        self._left = self._padding = 0

    def _header(self) -> bytes:
        """The next header, b"" at the end of the archive."""
        block = self.stream.take(BLOCK)
        if not block or block == ZERO:
            return b""
        if len(block) < BLOCK:
            raise TarError("damaged tar: it ends inside a header")
        _check(block)
        return block

    def _extension(self, block: bytes, room: int) -> bytes:
        size = number(block[124:136])
        if not 0 <= size <= room:
            raise TarError(f"absurd tar: extension headers with {size} bytes more, {MAX_EXTENSION} in all at most")
        body = self.stream.take(size)
        if len(body) < size:
            raise TarError("damaged tar: it ends inside a header")
        self.stream.skip(-size % BLOCK)
        return body

    def _entry(self, block: bytes, kind: int, records: dict[bytes, bytes]) -> Entry:
        ustar = block[257:263] == b"ustar\0"
        name = _text(block[:100])
        if ustar and (prefix := _text(block[345:500])):
            name = prefix + b"/" + name
        name = records.get(b"path", name)
        link = records.get(b"linkpath", _text(block[157:257]))
        stored = _integer(records[b"size"], "size") if b"size" in records else number(block[124:136])
        mtime = records.get(b"mtime")
        mtime_ns = _nanoseconds(mtime) if mtime else number(block[136:148]) * 1_000_000_000
        if not 0 <= stored <= MAX_SIZE:
            raise TarError(f"absurd tar: {show(name)} has {stored} bytes")
        if kind not in b"123456":  # those never have content, whatever their size says
            self._left, self._padding = stored, -stored % BLOCK
        size, sparse, name = self._sparse(block, kind, records, stored, name)
        return Entry(
            name,
            _kind(kind, name, sparse is not None),
            number(block[100:108]),
            _integer(records[b"uid"], "uid") if b"uid" in records else number(block[108:116]),
            _integer(records[b"gid"], "gid") if b"gid" in records else number(block[116:124]),
            size,
            mtime_ns,
            link,
            number(block[329:337]) if kind in b"34" else 0,
            number(block[337:345]) if kind in b"34" else 0,
            {key[len(XATTR) :]: value for key, value in records.items() if key.startswith(XATTR)} if records else {},
            sparse,
        )

    def _sparse(
        self, block: bytes, kind: int, records: dict[bytes, bytes], stored: int, name: bytes
    ) -> tuple[int, list[tuple[int, int]] | None, bytes]:
        """(size, map, name) of what may be a sparse file, in GNU's old format or PAX formats 0.0, 0.1 and 1.0."""
        if kind == 0x53:
            size, pieces = number(block[483:495]), self._old_map(block)
        elif b"GNU.sparse.map" in records:
            numbers = [_integer(n, "sparse map") for n in records[b"GNU.sparse.map"].split(b",")[: 2 * MAX_SPARSE + 2]]
            size, pieces = _integer(records.get(b"GNU.sparse.size", b""), "sparse size"), _pairs(numbers)
        elif records.get(b"GNU.sparse.major") == b"1" and records.get(b"GNU.sparse.minor") == b"0":
            size, pieces = _integer(records.get(b"GNU.sparse.realsize", b""), "sparse size"), self._map_in_data()
        elif b"GNU.sparse.size" in records or b"GNU.sparse.major" in records:
            raise TarError(f"cannot read sparse file {show(name)}: its format is not known")
        else:
            return stored, None, name
        at = 0
        for offset, length in pieces:
            if length < 0 or offset < at or offset + length > size:
                raise TarError(f"absurd tar: the map of sparse file {show(name)}")
            at = offset + length
        if not 0 <= size <= MAX_SIZE or sum(length for _, length in pieces) != self._left:
            raise TarError(f"absurd tar: the map of sparse file {show(name)}")
        return size, pieces, records.get(b"GNU.sparse.name", name)

    def _old_map(self, block: bytes) -> list[tuple[int, int]]:
        fields, more = block[386:482], block[482]
        while more:
            extension = self.stream.take(BLOCK)
            if len(extension) < BLOCK or len(fields) > 24 * MAX_SPARSE:
                raise TarError("absurd tar: the map of a sparse file")
            fields, more = fields + extension[:504], extension[504]
        pairs = [(fields[i : i + 12], fields[i + 12 : i + 24]) for i in range(0, len(fields) - 23, 24)]
        return [(number(offset), number(length)) for offset, length in pairs if offset[0]]

    def _map_in_data(self) -> list[tuple[int, int]]:
        """Format 1.0: decimal numbers, a line each, fill the first blocks of the content."""
        lines: list[bytes] = []
        rest, wanted = b"", 1
        while len(lines) < wanted:
            if self._left < BLOCK:
                raise TarError("absurd tar: the map of a sparse file")
            block = self.stream.take(BLOCK)
            *whole, rest = (rest + block).split(b"\n")
            if len(block) < BLOCK or len(rest.rstrip(b"\0")) > MAX_DIGITS:
                raise TarError("absurd tar: the map of a sparse file")
            self._left -= BLOCK
            lines += whole
            if lines:
                wanted = 1 + 2 * min(max(_integer(lines[0], "sparse map"), 0), MAX_SPARSE)
        return _pairs([_integer(n, "sparse map") for n in lines[1:wanted]])


def _kind(kind: int, name: bytes, sparse: bool) -> int:
    if sparse:
        return FILE
    if kind in REGULAR:
        return FOLDER if name.endswith(b"/") else FILE  # as archives were before ustar
    return kind


def _pairs(numbers: list[int]) -> list[tuple[int, int]]:
    if len(numbers) % 2 or len(numbers) > 2 * MAX_SPARSE:
        raise TarError("absurd tar: the map of a sparse file")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def show(name: bytes) -> str:
    """A name for a message: one line, not too long, no terminal's control characters."""
    text = repr(name.decode(errors="backslashreplace"))
    return text if len(text) <= 200 else text[:200] + "…'"
