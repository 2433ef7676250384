"""Header blocks of SPDY/3.1 (draft-mbelshe-httpbis-spdy-00, 2.6.10): names and values, compressed by zlib with what all
blocks of a direction before it said. No socket here."""

import struct
import zlib
from collections.abc import Mapping

from hypercontainer.errors import InvalidInput

U32 = struct.Struct(">I")
MAX_BLOCK = 1 << 14  # bytes of a block once it is unpacked: what clients of Kubernetes say takes some hundred
MAX_HEADERS = 64

_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie "
    "keep-alive origin"
)
_REST = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative "
    "Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 "
    "Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec "
    "00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,"
    "application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8"
    "charset=iso-8859-1,utf-,*,enq=0."
)


def _counted(text: bytes) -> bytes:
    return U32.pack(len(text)) + text


# What both ends behave as if they had said before.
DICTIONARY = b"".join(_counted(word.replace("_", " ").encode()) for word in _WORDS.split()) + _REST.encode()


class Packer:
    """Blocks of one direction, in the order in which they are sent."""

    def __init__(self) -> None:
        self._zlib = zlib.compressobj(wbits=11, memLevel=5, zdict=DICTIONARY)

    def pack(self, headers: Mapping[str, str]) -> bytes:
        texts = [text.encode("latin-1") for pair in headers.items() for text in pair]
        block = U32.pack(len(headers)) + b"".join(map(_counted, texts))
        return self._zlib.compress(block) + self._zlib.flush(zlib.Z_SYNC_FLUSH)


class Unpacker:
    """Blocks of one direction, in the order in which they came. One that is refused is the last."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(zdict=DICTIONARY)

    def unpack(self, data: bytes) -> dict[str, str]:
        """Names, in small letters, and values; several of a name have \\0 between them. InvalidInput."""
        try:
            block = self._zlib.decompress(data, MAX_BLOCK + 1)
        except zlib.error as e:
            raise InvalidInput(f"cannot unpack headers: {e}") from e
        if len(block) > MAX_BLOCK or self._zlib.unconsumed_tail or self._zlib.eof:
            raise InvalidInput(f"cannot unpack headers: they are no block of at most {MAX_BLOCK} bytes")
        return _read(block)


def _read(block: bytes) -> dict[str, str]:
    words = _Words(block)
    count = words.number()
    if count > MAX_HEADERS:
        raise InvalidInput(f"cannot read {count} headers: at most {MAX_HEADERS} are taken")
    found: dict[str, str] = {}
    for _ in range(count):
        name, value = words.text().lower(), words.text()
        if not name or name in found:
            raise InvalidInput(f"cannot read headers: {name[:60]!r} is there twice, or is no name")
        found[name] = value
    if words.left:
        raise InvalidInput(f"cannot read headers: {words.left} bytes are behind them")
    return found


class _Words:
    """Numbers and texts off the front of a block."""

    def __init__(self, block: bytes) -> None:
        self._block, self._at = block, 0

    @property
    def left(self) -> int:
        return len(self._block) - self._at

    def number(self) -> int:
        return int.from_bytes(self._take(U32.size), "big")

    def text(self) -> str:
        return self._take(self.number()).decode("latin-1")

    def _take(self, size: int) -> bytes:
        if size > self.left:
            raise InvalidInput(f"cannot read headers: {size} bytes are wanted, and {self.left} are there")
        self._at += size
        return self._block[self._at - size : self._at]
