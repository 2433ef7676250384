"""The resolver of an engine, docker's: it listens at 127.0.0.11 in the network namespace that the engine made, where no
guest reaches it."""

import asyncio
import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hypercontainer.agent.client import Connection
from hypercontainer.errors import HyperError, Unavailable
from hypercontainer.lib import netns
from hypercontainer.model.record import ContainerRecord, NicRecord, PodRecord

PLACE = ("127.0.0.11", 53)  # all that is ever connected to, whatever a guest says
KINDS = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}  # by the guest's words
CONNECT_S, ANSWER_S = 10.0, 30.0
MOST = 65535  # bytes of a question, or an answer
RESOLV_CONF = "/etc/resolv.conf"
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


def check(containers: Sequence[ContainerRecord], nics: Sequence[NicRecord], share: Path) -> None:
    """Unavailable when one of these containers asks it, in a pod that is to have these interfaces. By a macvtap what
    other servers answer would be the guest's, and never reach the resolver, which hands on what it cannot answer.

    `share` is what the guest sees of the host."""
    if not any(nic.model == "macvtap" for nic in nics):
        return
    for container in containers:
        for mount in container.mounts:
            if mount.target == RESOLV_CONF and mount.shared and _names(share / mount.share_path):
                raise Unavailable(
                    f"cannot have {container.name} ask {PLACE[0]} for names by a macvtap: what other servers answer "
                    "does not reach it; have internetworking_model be tcfilter, in hyperd's settings, or the container "
                    "be in docker's network bridge"
                )


def _names(path: Path) -> bool:
    """Whether a resolv.conf names it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    with open(fd, "rb") as f:
        words = [line.split() for line in f.read(MOST).decode(errors="replace").splitlines()]
    return any(line[:2] == ["nameserver", PLACE[0]] for line in words)


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
