"""Connections to guests by vsock (vsock(7)), where a VMM offers no socket of this host's."""

import asyncio
import errno
import random
import socket
from typing import NamedTuple

RESERVED = range(1, 1024)  # ports of root's, by which a guest knows who is at this end


class Vsock(NamedTuple):
    """Where a guest listens."""

    cid: int
    port: int


async def connect(address: Vsock) -> socket.socket:
    """A connection from a port of RESERVED, which no other one has meanwhile. OSError: not there, or none is free."""
    connection = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        _bind(connection)
        await asyncio.get_running_loop().sock_connect(connection, address)
    except BaseException:
        connection.close()
        raise
    return connection


def _bind(connection: socket.socket) -> None:
    ports = random.sample(RESERVED, len(RESERVED))
    for port in ports[:-1]:
        try:
            connection.bind((socket.VMADDR_CID_ANY, port))
        except OSError as e:
            if e.errno != errno.EADDRINUSE:
                raise
        else:
            return
    connection.bind((socket.VMADDR_CID_ANY, ports[-1]))
