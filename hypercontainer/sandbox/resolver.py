"""The resolver of an engine, docker's: it listens at 127.0.0.11 in the network namespace that the engine made, where no
guest reaches it."""

import asyncio
import socket
import struct
from pathlib import Path
from typing import NamedTuple

from hypercontainer.agent.client import Connection
from hypercontainer.errors import HyperError
from hypercontainer.lib import netns
from hypercontainer.model.record import PodRecord

PLACE = ("127.0.0.11", 53)  # all that is ever connected to, whatever a guest says
KINDS = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}  # by the guest's words
CONNECT_S, ANSWER_S = 10.0, 30.0
MOST = 65535  # bytes of a question, or an answer
LENGTH = struct.Struct(">H")  # goes before each: by TCP, and to and from the guest


class Resolver(NamedTuple):
    """Where it would be: nobody is there when the engine has none for that namespace."""

    netns: str  # its path
    inode: int

    async def dial(self, kind: str) -> socket.socket:
        """Connect to it by "udp" or "tcp". OSError."""
        made = await asyncio.to_thread(self._socket, KINDS[kind])
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.get_running_loop().sock_connect(made, PLACE)
        except BaseException:
            made.close()
            raise
        return made

    def _socket(self, kind: socket.SocketKind) -> socket.socket:
        """It stays in the namespace that it was made in."""
        try:
            with netns.opened(self.netns) as fd:
                if netns.identity(fd) != self.inode:
                    raise OSError(f"there is another network namespace at {self.netns}")
                return netns.inside(fd, lambda: socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK))
        except HyperError as e:
            raise OSError(str(e)) from e


def of(pod: PodRecord, held: Path) -> Resolver | None:
    """Of a pod whose namespace hyperd holds at `held`; None if no engine made its network. There need be no interface
    yet: a container of no network may get one later."""
    if there := next((nic for nic in pod.nics if nic.netns), None):
        return Resolver(there.netns, there.netns_inode)
    try:
        return Resolver(str(held), held.stat().st_ino) if pod.netns else None
    except OSError:
        return None  # it has gone


async def ask(connection: Connection, server: socket.socket) -> None:
    """Carry one question to a socket of datagrams, and its answer back; without one the guest says nothing either."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(ANSWER_S):
            await loop.sock_sendall(server, whole(await _said(connection)))
            answer = await loop.sock_recv(server, MOST)
            await connection.input.write(LENGTH.pack(len(answer)) + answer)
            connection.input.close()
            await connection.input.over()  # until the guest has taken it
    except (OSError, HyperError):
        pass  # the guest is gone, or nobody answers: who asked does so again, or goes elsewhere


async def _said(connection: Connection) -> bytes:
    """All of it, or more than a question may have."""
    text = b""
    while data := await connection.output.read():
        connection.output.consumed(len(data))
        text += data
        if len(text) > LENGTH.size + MOST:
            break
    return text


def whole(text: bytes) -> bytes:
    """The question with that length before it. OSError when there is not all of it, or more."""
    if len(text) < LENGTH.size or len(text) != LENGTH.size + LENGTH.unpack_from(text)[0]:
        raise OSError("it is no question")
    return text[LENGTH.size :]
