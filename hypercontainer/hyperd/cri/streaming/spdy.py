"""Frames of SPDY/3.1 to bytes and back (draft-mbelshe-httpbis-spdy-00, section 2). No socket here.

What kubelets and API servers speak with a container runtime where there is no WebSocket; nothing else does any more.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.cri.streaming.headers import Packer, Unpacker

VERSION, CONTROL = 3, 0x8000
HEAD = 8  # bytes of any frame's
MAX_CONTROL = 1 << 14  # bytes of a control frame behind its head; data may be longer, and is given as it comes
MAX_DATA = (1 << 24) - 1
MAX_ID = (1 << 31) - 1
FIN = 1  # a flag: the sender says no more in this stream
WINDOW_SETTING = 7  # how much data of a stream the sender of the setting takes unasked

WORD, TWO, SETTING = struct.Struct(">I"), struct.Struct(">II"), struct.Struct(">II")
OPENING = struct.Struct(">IIH")  # stream, associated stream, priority and slot


class Kind(IntEnum):
    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


class Open(NamedTuple):
    """SYN_STREAM."""

    stream: int
    headers: dict[str, str]
    fin: bool = False


class Reply(NamedTuple):
    """SYN_REPLY."""

    stream: int
    headers: dict[str, str]
    fin: bool = False


class Data(NamedTuple):
    """A piece of a stream. Of those that come, a long frame is several, and `fin` is of the last."""

    stream: int
    data: bytes
    fin: bool = False


class Reset(NamedTuple):
    """RST_STREAM: the sender wants to hear no more of it."""

    stream: int
    status: int


class Settings(NamedTuple):
    values: dict[int, int]


class Ping(NamedTuple):
    number: int


class GoAway(NamedTuple):
    last_stream: int
    status: int


class Headers(NamedTuple):
    """More headers of a stream that is open."""

    stream: int
    headers: dict[str, str]
    fin: bool = False


class Window(NamedTuple):
    """WINDOW_UPDATE: so much more may be sent; of stream 0, in all together."""

    stream: int
    more: int


Frame = Open | Reply | Data | Reset | Settings | Ping | GoAway | Headers | Window


class Encoder:
    """Frames of one direction, in the order in which they are sent."""

    def __init__(self) -> None:
        self._packer = Packer()

    def encode(self, frame: Frame) -> bytes:
        match frame:
            case Data(stream, data, fin):
                return TWO.pack(stream, fin * FIN << 24 | len(data)) + data
            case Open(stream, headers, fin):
                return _control(Kind.SYN_STREAM, OPENING.pack(stream, 0, 0) + self._packer.pack(headers), fin)
            case Reply(stream, headers, fin):
                return _control(Kind.SYN_REPLY, WORD.pack(stream) + self._packer.pack(headers), fin)
            case Headers(stream, headers, fin):
                return _control(Kind.HEADERS, WORD.pack(stream) + self._packer.pack(headers), fin)
            case Reset(stream, status):
                return _control(Kind.RST_STREAM, TWO.pack(stream, status))
            case Settings(values):
                pairs = [SETTING.pack(key, value) for key, value in values.items()]
                return _control(Kind.SETTINGS, WORD.pack(len(pairs)) + b"".join(pairs))
            case Ping(number):
                return _control(Kind.PING, WORD.pack(number))
            case GoAway(last, status):
                return _control(Kind.GOAWAY, TWO.pack(last, status))
            case Window(stream, more):
                return _control(Kind.WINDOW_UPDATE, TWO.pack(stream, more))


def _control(kind: Kind, payload: bytes, fin: bool = False) -> bytes:
    return TWO.pack((CONTROL | VERSION) << 16 | kind, fin * FIN << 24 | len(payload)) + payload


class Decoder:
    """Frames of one direction, in the order in which they came. It keeps no more than one control frame."""

    def __init__(self) -> None:
        self._unpacker = Unpacker()
        self._buffer = bytearray()
        self._stream, self._fin, self._left = 0, False, 0  # of the data frame that has not come whole

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Frames that are whole with `data`. InvalidInput for what is none: nothing after that makes sense."""
        self._buffer += data
        while True:
            if self._left:
                if not self._buffer:
                    return
                yield self._piece()
            elif len(self._buffer) < HEAD:
                return
            else:
                first, second = TWO.unpack_from(self._buffer)
                flags, length = second >> 24, second & MAX_DATA
                if first >> 31:
                    if length > MAX_CONTROL:
                        raise InvalidInput(f"cannot read a control frame of {length} bytes: at most {MAX_CONTROL}")
                    if len(self._buffer) < HEAD + length:
                        return
                    payload = bytes(self._buffer[HEAD : HEAD + length])
                    del self._buffer[: HEAD + length]
                    if (frame := self._control(first, flags, payload)) is not None:
                        yield frame
                else:
                    del self._buffer[:HEAD]
                    self._stream, self._fin, self._left = first, bool(flags & FIN), length
                    if not length and self._fin:
                        yield Data(first, b"", True)

    def _piece(self) -> Data:
        """As much as is there of the data frame."""
        data = bytes(self._buffer[: self._left])
        del self._buffer[: self._left]
        self._left -= len(data)
        return Data(self._stream, data, self._fin and not self._left)

    def _control(self, first: int, flags: int, payload: bytes) -> Frame | None:
        """None for a kind of frame that there is not in this version: it is passed over."""
        version, number = first >> 16 & 0x7FFF, first & 0xFFFF
        if version != VERSION:
            raise InvalidInput(f"cannot read a frame of SPDY/{version}: this is SPDY/{VERSION}.1")
        try:
            kind = Kind(number)
        except ValueError:
            return None
        try:
            return self._frame(kind, bool(flags & FIN), payload)
        except struct.error:
            raise InvalidInput(f"cannot read a {kind.name} of {len(payload)} bytes: that is not its length") from None

    def _frame(self, kind: Kind, fin: bool, payload: bytes) -> Frame:
        match kind:
            case Kind.SYN_STREAM:
                stream, *_ = OPENING.unpack(payload[: OPENING.size])
                return Open(stream & MAX_ID, self._unpacker.unpack(payload[OPENING.size :]), fin)
            case Kind.SYN_REPLY | Kind.HEADERS:
                (stream,) = WORD.unpack(payload[: WORD.size])
                made = Reply if kind is Kind.SYN_REPLY else Headers
                return made(stream & MAX_ID, self._unpacker.unpack(payload[WORD.size :]), fin)
            case Kind.SETTINGS:
                return _settings(payload)
            case Kind.PING:
                return Ping(*WORD.unpack(payload))
        one, two = TWO.unpack(payload)
        if kind is Kind.RST_STREAM:
            return Reset(one & MAX_ID, two)
        return GoAway(one & MAX_ID, two) if kind is Kind.GOAWAY else Window(one & MAX_ID, two & MAX_ID)


def _settings(payload: bytes) -> Settings:
    (count,) = WORD.unpack(payload[: WORD.size])
    if len(payload) != WORD.size + count * SETTING.size:
        raise struct.error
    return Settings({key & 0xFFFFFF: value for key, value in SETTING.iter_unpack(payload[WORD.size :])})
