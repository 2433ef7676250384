"""One call of hyperd's by ttrpc. lib.ttrpc has the whole of it, and imports more than `start` has to spend: what that
knows of messages takes longer than all that `start` does."""

from __future__ import annotations

HEADER_BYTES = 10
MAX_BYTES = 4 << 20
REQUEST = 1
_BYTES = 2  # of protobuf's kinds of fields; a number is 0


def request(service: str, method: str, payload: bytes) -> bytes:
    """The frame of a connection's first call."""
    asked = message({1: service.encode(), 2: method.encode(), 3: payload})
    return len(asked).to_bytes(4, "big") + b"\0\0\0\1" + bytes((REQUEST, 0)) + asked


def message(found: dict[int, int | bytes]) -> bytes:
    """Of protobuf, with these fields."""
    return b"".join(
        _number(number << 3 | _BYTES) + _number(len(value)) + value
        if isinstance(value, bytes)
        else _number(number << 3) + _number(value)
        for number, value in found.items()
    )


def length(header: bytes) -> int:
    """Of the message behind a header. OSError when it is too long."""
    found = int.from_bytes(header[:4], "big")
    if found > MAX_BYTES:
        raise OSError(f"hyperd's answer has {found} bytes")
    return found


def answer(found: bytes) -> bytes:
    """The payload of a response. OSError, with hyperd's words, when that is an error."""
    answered = fields(found)
    status = fields(_bytes(answered.get(1)))
    if status.get(1):
        raise OSError(_bytes(status.get(2)).decode(errors="replace"))
    return _bytes(answered.get(2))


def _bytes(value: int | bytes | None) -> bytes:
    return value if isinstance(value, bytes) else b""


def fields(message: bytes) -> dict[int, int | bytes]:
    """By number, the last of each. OSError for what is no message."""
    found: dict[int, int | bytes] = {}
    at = 0
    try:
        while at < len(message):
            key, at = _number_at(message, at)
            value, at = _number_at(message, at)
            if key & 7 == _BYTES:
                if value > len(message) - at:
                    raise IndexError
                found[key >> 3] = message[at : at + value]
                at += value
            elif key & 7 == 0:
                found[key >> 3] = value
            else:
                raise OSError("the message cannot be read")
    except IndexError as e:
        raise OSError("the message is cut short") from e
    return found


def _number(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def _number_at(message: bytes, at: int) -> tuple[int, int]:
    """It, and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80 or shift > 63:
            return value, at
