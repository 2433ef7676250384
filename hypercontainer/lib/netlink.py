"""Netlink (netlink(7)): messages and attributes to bytes and back, and a socket that asks the kernel by them."""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple, Self

from hypercontainer.errors import HyperError

REQUEST, ACK, EXCL, CREATE, DUMP = 0x1, 0x4, 0x200, 0x400, 0x300  # NLM_F_…
INTERRUPTED = 0x10  # NLM_F_DUMP_INTR: what is told changed meanwhile
ERROR, DONE = 2, 3
NESTED, TYPE = 0x8000, 0x3FFF
SOL_NETLINK, CAP_ACK, EXT_ACK = 270, 10, 11
WORDS = 1  # NLMSGERR_ATTR_MSG

HEADER, ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=HH")
TIMEOUT_S = 10.0
PIECE = 1 << 17  # as much as the kernel tells at once, and more
MOST = 16 << 20  # of a list
TRIES = 10


class Message(NamedTuple):
    kind: int
    flags: int
    sequence: int
    body: bytes


def messages(data: bytes) -> Iterator[Message]:
    """Of what one receive has brought. HyperError for what is cut short."""
    at = 0
    while at < len(data):
        if len(data) - at < HEADER.size:
            raise HyperError(f"cannot read what the kernel says: {len(data) - at} bytes are no message of netlink's")
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, at)
        if not HEADER.size <= length <= len(data) - at:
            raise HyperError(f"cannot read what the kernel says: a message of {length} bytes in {len(data) - at}")
        yield Message(kind, flags, sequence, data[at + HEADER.size : at + length])
        at += _aligned(length)


def attributes(data: bytes, at: int = 0) -> dict[int, bytes]:
    """Those from `at` on, by their type; of several of one type the last. HyperError for what is cut short."""
    found = dict[int, bytes]()
    while len(data) - at >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(data, at)
        if not ATTRIBUTE.size <= length <= len(data) - at:
            raise HyperError(f"cannot read what the kernel says: an attribute of {length} bytes in {len(data) - at}")
        found[kind & TYPE] = data[at + ATTRIBUTE.size : at + length]
        at += _aligned(length)
    return found


def fields(layout: struct.Struct, data: bytes, at: int = 0) -> tuple[int, ...]:
    """HyperError for too few bytes."""
    try:
        return layout.unpack_from(data, at)
    except struct.error as e:
        raise HyperError(f"cannot read what the kernel says: {e}") from e


def number(value: bytes, otherwise: int = 0) -> int:
    """Of an attribute; an empty one, or none, has the other one."""
    return int.from_bytes(value[:8], "little") if value else otherwise


def text(value: bytes) -> str:
    return value.partition(b"\0")[0].decode(errors="replace")


def attribute(kind: int, value: bytes) -> bytes:
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *values: bytes) -> bytes:
    return attribute(kind | NESTED, b"".join(values))


def _aligned(length: int) -> int:
    return (length + 3) & ~3


class Netlink:
    """A socket in the network namespace of the thread that makes it, to be used by one thread at a time. What it asks
    raises OSError as the kernel answers, with the kernel's words where it has some."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.settimeout(TIMEOUT_S)
        for option in (CAP_ACK, EXT_ACK):
            self._socket.setsockopt(SOL_NETLINK, option, 1)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, kind: int, body: bytes, flags: int = 0) -> None:
        """Have something done, and wait until it is."""
        self._send(kind, flags | ACK, body)
        while not any(message.kind == ERROR for message in self._receive()):
            pass

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """All that there is of a kind, of one moment."""
        for _ in range(TRIES):
            self._send(kind, DUMP, body)
            found, interrupted = self._listed()
            if not interrupted:
                return found
        raise OSError(errno.EAGAIN, "it changes all the time")

    def _listed(self) -> tuple[list[bytes], bool]:
        found = list[bytes]()
        size, interrupted = 0, False
        while True:
            for message in self._receive():
                interrupted = interrupted or bool(message.flags & INTERRUPTED)
                if message.kind in (DONE, ERROR):
                    return found, interrupted
                found.append(message.body)
                size += HEADER.size + len(message.body)
            if size > MOST:
                raise OSError(errno.EMSGSIZE, f"there is more than {MOST >> 20} MiB of it")

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        self._socket.send(HEADER.pack(HEADER.size + len(body), kind, flags | REQUEST, self._sequence, 0) + body)

    def _receive(self) -> Iterator[Message]:
        for message in messages(self._socket.recv(PIECE)):
            if message.sequence == self._sequence:
                _check(message)
                yield message


def _check(message: Message) -> None:
    """OSError for one that is an error, or the end of a list that was cut off by one."""
    if message.kind not in (ERROR, DONE) or len(message.body) < 4:
        return
    number = -struct.unpack_from("=i", message.body)[0]
    if number > 0:
        said = attributes(message.body, 4 + (HEADER.size if message.kind == ERROR else 0)).get(WORDS, b"")
        why = os.strerror(number)
        raise OSError(number, f"{why} ({text(said)})" if said else why)
