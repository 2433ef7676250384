"""The loopback of a network namespace that an engine of Kubernetes made for a pod.

`kubectl port-forward` has the engine connect to 127.0.0.1 there, or ::1, where nobody is: the pod's programs are in the
machine. hyperd listens in their place, and carries each connection to that port of the machine's own loopback.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from hypercontainer.agent.client import Connection
from hypercontainer.errors import HyperError, NotFound
from hypercontainer.lib import kubernetes, netns
from hypercontainer.model.record import PodRecord
from hypercontainer.network.nft import Nft
from hypercontainer.sandbox import relay
from hypercontainer.vm import Vm

if TYPE_CHECKING:
    from hypercontainer.sandbox.pod import Pod

log = logging.getLogger(__name__)

FIRST_S = 1.0  # a start does not wait for this
MAX_CONNECTIONS = 128  # of a pod
TABLE = "hyper-loopback"
REMOVE = [f"add table inet {TABLE}", f"delete table inet {TABLE}"]  # whether it is there or not
ADDRESSES = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
WORDS = {socket.AF_INET: "ip", socket.AF_INET6: "ip6"}
LEVELS = {socket.AF_INET: socket.IPPROTO_IP, socket.AF_INET6: socket.IPPROTO_IPV6}
SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h, and IP6T_SO_ORIGINAL_DST
ADDRESS_BYTES = 28  # of a sockaddr_in6; the port is in the same place of either
PORT = struct.Struct(">2xH")
RESET = struct.pack("ii", 1, 0)  # a linger of no time: whoever is left so hears that he was refused


class Loopback(NamedTuple):
    """Sockets that listen in one namespace."""

    inode: int
    listening: list[socket.socket]

    def close(self) -> None:
        for each in self.listening:
            each.close()


def is_for(record: PodRecord) -> bool:
    """Whether anybody will connect there: an engine of Kubernetes made this pod."""
    said = [each.bundle.annotations for each in record.containers if each.bundle]
    return bool(record.netns) and any(kubernetes.is_pods(annotations) for annotations in said)


async def serve(pod: "Pod", vm: Vm) -> None:
    """Until its machine has ended. A hyperd after this one does the same anew."""
    await asyncio.sleep(FIRST_S)
    place = str(pod.site.netns(pod.record.id))
    try:
        made = await asyncio.to_thread(_open, place)
    except (HyperError, OSError) as e:
        if pod.machine.vm is vm:
            log.warning("pod %s: its ports cannot be forwarded: %s", pod.record.id, e)
        return
    try:
        async with asyncio.TaskGroup() as group:
            room = asyncio.Semaphore(MAX_CONNECTIONS)
            accepting = [group.create_task(_accept(vm, each, room, pod.spawn)) for each in made.listening]
            await vm.guest.wait()
            for task in accepting:
                task.cancel()
        with suppress(HyperError):  # it went with its namespace
            await asyncio.to_thread(_leave, place, made.inode)
    finally:
        made.close()


async def _accept(vm: Vm, listening: socket.socket, room: asyncio.Semaphore, spawn: Callable[..., object]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await room.acquire()
        try:
            client, _ = await loop.sock_accept(listening)
        except BaseException:
            room.release()
            raise
        spawn(_carry(vm, client, room))


async def connect(pod: "Pod", port: int) -> socket.socket:
    """A stream socket, which does not block, that leads to who listens at `port` of its machine's own loopback.
    GuestError with ECONNREFUSED: nobody. WrongState unless the machine runs."""
    vm = pod.machine.running()
    connection = await vm.agent.connect_to(port)
    ours, theirs = socket.socketpair()
    for each in (ours, theirs):
        each.setblocking(False)
    pod.spawn(_carried(vm, connection, theirs))
    return ours


async def _carry(vm: Vm, client: socket.socket, room: asyncio.Semaphore) -> None:
    try:
        try:
            connection = await vm.agent.connect_to(_port(client))
        except (HyperError, OSError):  # nobody listens there, or the guest is gone
            with client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            return
        await _carried(vm, connection, client)
    finally:
        room.release()


async def _carried(vm: Vm, connection: Connection, client: socket.socket) -> None:
    with client:
        await relay.carry(connection, client)
        with suppress(HyperError):
            await vm.agent.close_connection(connection)


def _port(client: socket.socket) -> int:
    """The one that was meant."""
    address = client.getsockopt(LEVELS[client.family], SO_ORIGINAL_DST, ADDRESS_BYTES)
    port: int = PORT.unpack_from(address)[0]
    return port


def _open(place: str) -> Loopback:
    """Listen in there, and have all come that is for its loopback."""
    with netns.opened(place) as fd:
        return Loopback(netns.identity(fd), netns.inside(fd, _listen))


def _listen() -> list[socket.socket]:
    made: list[socket.socket] = []
    try:
        for family, address in ADDRESSES.items():
            try:
                listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                made.append(listening)
                listening.bind((address, 0))
                listening.listen(MAX_CONNECTIONS)
            except OSError:
                if family == socket.AF_INET:
                    raise
                made.pop().close()  # a namespace without IPv6
        Nft().apply([*REMOVE, *_rules(made)])
    except BaseException:
        for each in made:
            each.close()
        raise
    return made


def _rules(listening: Iterable[socket.socket]) -> list[str]:
    """docker's resolver, at 127.0.0.11, is left alone; so is what has come here already."""
    lines = [
        f"add table inet {TABLE}",
        f"add chain inet {TABLE} out {{ type nat hook output priority -100; }}",
    ]
    for each in listening:
        port, word = each.getsockname()[1], WORDS[each.family]
        meant = f"{word} daddr {ADDRESSES[each.family]} tcp dport != {port}"
        lines.append(f"add rule inet {TABLE} out {meant} redirect to :{port}")
    return lines


def _leave(place: str, inode: int) -> None:
    """Without a trace: the namespace may be there for longer than the machine."""
    with netns.opened(place) as fd:
        if netns.identity(fd) != inode:
            raise NotFound("network namespace", place, "there is another one in its place")
        netns.inside(fd, lambda: Nft().apply(REMOVE))
