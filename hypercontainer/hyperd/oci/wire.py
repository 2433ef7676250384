"""A call on the door's socket: a length (32 bits, little-endian), a JSON document, and descriptors with the first byte.

The answer comes in the same shape, without descriptors. One call a connection.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from hypercontainer.errors import InvalidInput, Unavailable

MAX_BYTES, MAX_FDS = 4 << 20, 253  # SCM_MAX_FD
HEAD = struct.Struct("<I")


async def receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """A document and the descriptors that came with it, which are the caller's to close."""
    data, fds = bytearray(), []
    try:
        while len(data) < HEAD.size or len(data) < HEAD.size + HEAD.unpack_from(data)[0]:
            await _ready(asyncio.get_running_loop().add_reader, asyncio.get_running_loop().remove_reader, sock)
            piece, more, _, _ = socket.recv_fds(sock, 1 << 16, MAX_FDS, socket.MSG_CMSG_CLOEXEC)
            fds += more
            if not piece:
                raise Unavailable("the caller has gone")
            data += piece
            if len(data) >= HEAD.size and HEAD.unpack_from(data)[0] > MAX_BYTES:
                raise InvalidInput(f"a call of {HEAD.unpack_from(data)[0]} bytes: {MAX_BYTES} at most")
            if len(fds) > MAX_FDS:
                raise InvalidInput(f"a call with {len(fds)} descriptors: {MAX_FDS} at most")
    except BaseException:
        close(fds)
        raise
    return bytes(data[HEAD.size :]), fds


async def send(sock: socket.socket, document: bytes) -> None:
    with suppress(OSError):  # who has gone needs no answer
        await asyncio.get_running_loop().sock_sendall(sock, HEAD.pack(len(document)) + document)


async def _ready(add: Callable[..., None], remove: Callable[..., bool], sock: socket.socket) -> None:
    ready = asyncio.get_running_loop().create_future()
    add(sock, _set, ready)
    try:
        await ready
    finally:
        remove(sock)


def _set(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


def close(fds: list[int]) -> None:
    for fd in fds:
        with suppress(OSError):
            os.close(fd)
