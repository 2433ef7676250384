"""Sockets of this host in containers: the guest listens in their place, and each connection is carried to the socket
that has the path by then.

Whoever answers there sees hyperd connect, as root: what a container may say through a socket is what root may. Bytes
are carried, no descriptors.
"""

import asyncio
import errno
import logging
import os
import socket
import stat
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from hypercontainer.agent.client import Connection
from hypercontainer.agent.messages import ConnectionEvent
from hypercontainer.errors import HyperError
from hypercontainer.model.record import ContainerRecord, MountRecord, SocketRecord
from hypercontainer.sandbox import resolver
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.resolver import Resolver
from hypercontainer.vm import Vm

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 128  # of a container; and of questions of a pod
CONNECT_S, FULL_S = 10.0, 0.02  # until whoever listens must have room for one more; between tries
LINGER_S = 10.0  # for the last words of a guest that is gone to be taken
COMPLAIN_S = 60.0  # between two complaints about a pod's
CHUNK = 65536


def of(containers: Iterable[ContainerRecord]) -> list[MountRecord]:
    """Their mounts that are sockets."""
    return [mount for container in containers for mount in container.mounts if mount.socket]


def look(mounts: Iterable[MountRecord]) -> None:
    """Write down whose the sockets of `mounts` are now. Of one that is not there now, what was true before holds."""
    for mount in mounts:
        with suppress(OSError):
            mount.socket = owner(os.stat(mount.path)) or mount.socket


def owner(status: os.stat_result) -> SocketRecord | None:
    """Of a socket; None if it is none."""
    if not stat.S_ISSOCK(status.st_mode):
        return None
    return SocketRecord(uid=status.st_uid, gid=status.st_gid, mode=stat.S_IMODE(status.st_mode))


class Place(NamedTuple):
    container: str  # its id; "": of none, where names are asked for
    target: str


class Server(NamedTuple):
    """Who is connected to somebody in a guest."""

    who: str  # is connected
    where: str
    dial: Callable[[], Awaitable[socket.socket]]  # OSError
    carry: Callable[[Connection, socket.socket], Awaitable[None]]


class Relay:
    """What is carried to and from one guest, until that is gone. `containers`: those that it may have; `resolver`:
    whom they ask for names, None if that goes another way."""

    def __init__(
        self,
        vm: Vm,
        containers: Mapping[str, Container],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        resolver: Resolver | None = None,
    ) -> None:
        self._vm, self._containers, self._spawn, self._resolver = vm, containers, spawn, resolver
        self._open: Counter[str] = Counter()  # connections, by the ids of containers
        self._waiting: set[Place] = set()  # where somebody does
        self._serving: set[Place] = set()
        self._complained_s = -COMPLAIN_S
        vm.agent.on_connection = self._knocked

    async def watch(self) -> None:
        """Hear of whoever connects, from now on."""
        with suppress(HyperError):  # the guest is gone, or it goes on later and hears of this then
            await self._vm.agent.watch_sockets()

    def _knocked(self, event: ConnectionEvent) -> None:
        """The guest says what it likes: of a place that there is not, nothing happens; of one where it has just said
        so, nothing more."""
        place = Place(event.container, event.target)
        server = self._server(place)
        if server is None:
            return
        self._waiting.add(place)
        if place not in self._serving:
            self._serving.add(place)
            self._spawn(self._serve(place, server))

    def _server(self, place: Place) -> Server | None:
        """None: there is no such place."""
        if not place.container:
            if self._resolver is None or place.target not in resolver.KINDS:
                return None
            carrying = resolver.ask if place.target == "udp" else carry
            return Server(
                "the pod",
                f"the resolver in {self._resolver.netns}",
                partial(self._resolver.dial, place.target),
                carrying,
            )
        container = self._containers.get(place.container)
        mount = next((m for m in of([container.record]) if m.target == place.target), None) if container else None
        if container is None or mount is None:
            return None
        path = Path(mount.path)
        return Server(f"container {container.record.name}", str(path), partial(dial, path), carry)

    async def _serve(self, place: Place, server: Server) -> None:
        """One after the other: the guest tells of the next one when the one before was taken."""
        try:
            while place in self._waiting:
                self._waiting.discard(place)
                try:
                    await self._take(place, server)
                except HyperError as e:
                    self._complain(f"{server.who}: cannot connect it to {server.where}: {e}")
        finally:
            self._serving.discard(place)

    async def _take(self, place: Place, to: Server) -> None:
        try:
            if self._open[place.container] >= MAX_CONNECTIONS:
                raise OSError(
                    errno.EMFILE, f"the {'container' if place.container else 'pod'} has {MAX_CONNECTIONS} already"
                )
            server = await to.dial()
        except OSError as e:
            self._complain(f"{to.who}: cannot connect it to {to.where}: {e.strerror or e}")
            await self._vm.agent.refuse_connection(*place)
            return
        try:
            connection = await self._vm.agent.accept_connection(*place)
        except BaseException:
            server.close()
            raise
        self._open[place.container] += 1
        self._spawn(self._carry(place.container, connection, server, to.carry))

    def _complain(self, words: str) -> None:
        """Now and then: a guest may have itself refused as often as it likes."""
        if time.monotonic() - self._complained_s >= COMPLAIN_S:
            self._complained_s = time.monotonic()
            log.warning("%s", words)

    async def _carry(
        self,
        container: str,
        connection: Connection,
        server: socket.socket,
        carry: Callable[[Connection, socket.socket], Awaitable[None]],
    ) -> None:
        try:
            with server:
                await carry(connection, server)
            with suppress(HyperError):  # it is gone, and so is the connection
                await self._vm.agent.close_connection(connection)
        finally:
            self._open[container] -= 1


async def dial(path: Path) -> socket.socket:
    """Connect to the stream socket that is at `path` now, links followed. OSError."""
    place = await asyncio.to_thread(os.open, path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(place).st_mode):
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
        return await _connect(f"/proc/self/fd/{place}")  # what was looked at, and no path is too long for this
    finally:
        os.close(place)


def has_datagrams(path: Path) -> bool:
    """Whether the socket at `path` takes no streams. Nobody there notices."""
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
            asking.connect(f"/proc/self/fd/{place}")
    except OSError:
        return False  # it takes something else, or nobody is there now
    finally:
        os.close(place)
    return True


async def _connect(path: str) -> socket.socket:
    """asyncio takes a queue that is full for a connection under way, which a unix socket does not know."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        async with asyncio.timeout(CONNECT_S):
            while True:
                try:
                    made.connect(path)
                    return made
                except BlockingIOError:
                    await asyncio.sleep(FULL_S)
    except BaseException:
        made.close()
        raise


async def carry(connection: Connection, server: socket.socket) -> None:
    """Carry bytes until both directions have ended, or the guest is gone and its last words were taken."""
    to_server = asyncio.create_task(_to_server(connection, server))
    to_guest = asyncio.create_task(_to_guest(connection, server))
    try:
        guest_is_there = await connection.input.over()
        _shut(server, socket.SHUT_RD)  # who goes on to speak hears that nobody listens
        await to_guest
        done, _ = await asyncio.wait([to_server], timeout=None if guest_is_there else LINGER_S)
        for task in done:
            task.result()
    finally:
        to_server.cancel()
        to_guest.cancel()
        await asyncio.gather(to_server, to_guest, return_exceptions=True)


async def _to_guest(connection: Connection, server: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with suppress(OSError, HyperError):  # either end has gone
        while data := await loop.sock_recv(server, CHUNK):
            await connection.input.write(data)
    connection.input.close()


async def _to_server(connection: Connection, server: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    try:
        while data := await connection.output.read():
            await loop.sock_sendall(server, data)
            connection.output.consumed(len(data))
    except OSError:
        connection.output.stop()  # nobody reads on
    except HyperError:
        pass  # the guest is gone, and all that it said was read
    _shut(server, socket.SHUT_WR)


def _shut(server: socket.socket, direction: int) -> None:
    with suppress(OSError):  # the other end has gone
        server.shutdown(direction)
