"""containerd's ttrpc: frames of 10 bytes, big-endian, and a message. Of its PROTOCOL.md unary calls are here.

| bytes | |
|---|---|
| 0 to 3 | length of the message, at most 4 MiB |
| 4 to 7 | stream: a call's, odd |
| 8 | 1 a request, 2 a response |
| 9 | flags |
"""

import struct
from dataclasses import dataclass
from typing import NamedTuple

from hypercontainer.errors import InvalidInput, Kind
from hypercontainer.lib import protobuf
from hypercontainer.lib.protobuf import field, message

HEADER = struct.Struct(">IIBB")
MAX_BYTES = 4 << 20
REQUEST, RESPONSE = 1, 2

OK, UNKNOWN, INVALID, TIMEOUT, NOT_FOUND, EXISTS, DENIED, EXHAUSTED, PRECONDITION = 0, 2, 3, 4, 5, 6, 7, 8, 9
UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 12, 13, 14
CODES: dict[Kind, int] = {
    "invalid": INVALID,
    "not-found": NOT_FOUND,
    "already-exists": EXISTS,
    "in-use": PRECONDITION,
    "failed-precondition": PRECONDITION,
    "unsupported": UNIMPLEMENTED,
    "permission": DENIED,
    "exhausted": EXHAUSTED,
    "unavailable": UNAVAILABLE,
    "timeout": TIMEOUT,
    "guest": UNKNOWN,
    "internal": INTERNAL,
}


class Frame(NamedTuple):
    stream: int
    kind: int
    flags: int
    message: bytes

    def encode(self) -> bytes:
        return HEADER.pack(len(self.message), self.stream, self.kind, self.flags) + self.message


@dataclass(frozen=True, kw_only=True)
class Request:
    service: str = field(1, "string")
    method: str = field(2, "string")
    payload: bytes = field(3, "bytes")
    timeout_ns: int = field(4, "int64")


@dataclass(frozen=True, kw_only=True)
class Status:
    code: int = field(1, "int32")
    message: str = field(2, "string")


@dataclass(frozen=True, kw_only=True)
class Response:
    status: Status | None = message(1, Status)
    payload: bytes = field(2, "bytes")


def length(header: bytes) -> int:
    """Of the message behind a header. InvalidInput when it is too long."""
    found = int(HEADER.unpack(header)[0])
    if found > MAX_BYTES:
        raise InvalidInput(f"a message of {found} bytes: {MAX_BYTES} at most")
    return found


def frame(header: bytes, data: bytes) -> Frame:
    _, stream, kind, flags = HEADER.unpack(header)
    return Frame(stream, kind, flags, data)


def request(stream: int, service: str, method: str, payload: bytes) -> Frame:
    return Frame(stream, REQUEST, 0, protobuf.encode(Request(service=service, method=method, payload=payload)))


def response(stream: int, payload: bytes) -> Frame:
    return Frame(stream, RESPONSE, 0, protobuf.encode(Response(status=Status(), payload=payload)))


def failure(stream: int, code: int, words: str) -> Frame:
    return Frame(stream, RESPONSE, 0, protobuf.encode(Response(status=Status(code=code, message=words))))
