"""Tap devices: a VMM's goes with it. And macvtaps, which are somebody else's to make and to remove."""

import asyncio
import errno
import fcntl
import os
import socket
import stat
import struct

from hypercontainer.errors import HyperError, InUse
from hypercontainer.hypervisor.base import Nic
from hypercontainer.lib import mount, netns
from hypercontainer.lib.netlink import Netlink, attribute
from hypercontainer.lib.tasks import in_thread

TUNSETIFF = 0x400454CA
TUNSETOWNER = 0x400454CC
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
SIOCSIFNAME = 0x8923
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1
RTM_SETLINK, IFLA_NET_NS_FD = 19, 28
IFREQ = struct.Struct("=16sH22x")  # struct ifreq, of flags


def open_nic(nic: Nic, uid: int) -> int:
    """The descriptor that the VMM of user `uid` is to have of it, to be closed."""
    return open_macvtap(nic.tap, nic.netns) if nic.macvtap else open_tap(nic.tap, uid, nic.netns)


def open_macvtap(name: str, namespace: str) -> int:
    """The macvtap `name` in the network namespace at that path; return a descriptor, to be closed. It stays."""
    try:
        with netns.opened(namespace) as there:
            return netns.inside(there, lambda: _open_macvtap(name))
    except OSError as e:
        raise HyperError(f"cannot open macvtap {name} of {namespace}: {e.strerror or e}") from e


def _open_macvtap(name: str) -> int:
    """Its device has a number that only sysfs tells, and that only where the namespace is looked at from inside. A node
    of that number is made where nobody else sees it: one in /dev would have to be swept."""
    sys = mount.detached("sysfs")
    try:
        number = os.open(f"class/net/{name}/tap{socket.if_nametoindex(name)}/dev", os.O_RDONLY, dir_fd=sys)
        with open(number) as f:
            major, minor = map(int, f.read().split(":"))
    finally:
        os.close(sys)
    nodes = mount.detached("tmpfs")
    try:
        os.mknod("tap", stat.S_IFCHR | 0o600, os.makedev(major, minor), dir_fd=nodes)
        return os.open("tap", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=nodes)
    finally:
        os.close(nodes)


def open_tap(name: str, uid: int, namespace: str = "") -> int:
    """Make the tap `name` ("": one of a new name), user `uid`'s, in the network namespace at that path ("": in ours);
    return a descriptor, to be closed.

    It is down, leads nowhere, and goes when the last descriptor is closed. InUse if there is one of this name."""
    if not namespace:
        return _open_tap(name, uid)
    with netns.opened(namespace) as there:
        return netns.inside(there, lambda: _open_tap(name, uid))


def _open_tap(name: str, uid: int) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        request = struct.pack("16sH22x", (name or "hysnap%d").encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
        fcntl.ioctl(fd, TUNSETIFF, request)
        fcntl.ioctl(fd, TUNSETOWNER, uid)
    except OSError as e:
        os.close(fd)
        if e.errno == errno.EBUSY:
            words = f"cannot make tap device {name}: another virtual machine has it"
            raise InUse(words, "tap device", name) from e
        raise HyperError(f"cannot make tap device {name}: {e.strerror}") from e
    return fd


def bring_up(name: str, namespace: str = "") -> None:
    """Bring up a tap that leads nowhere yet, for a VMM that gives an interface up as soon as the host refuses a frame,
    as it does at one that is down. The host says nothing there by itself."""
    if not namespace:
        return _bring_up(name)
    with netns.opened(namespace) as there:
        return netns.inside(there, lambda: _bring_up(name))


def _bring_up(name: str) -> None:
    try:
        with open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w") as f:
            f.write("1")
    except FileNotFoundError:
        pass  # a host without IPv6
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
            flags = IFREQ.unpack(fcntl.ioctl(s, SIOCGIFFLAGS, IFREQ.pack(name.encode(), 0)))[1]
            fcntl.ioctl(s, SIOCSIFFLAGS, IFREQ.pack(name.encode(), flags | IFF_UP))
    except OSError as e:
        raise HyperError(f"cannot bring tap device {name} up: {e.strerror}") from e


def rename(old: str, new: str) -> None:
    """Give a tap that is down another name."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
            fcntl.ioctl(s, SIOCSIFNAME, struct.pack("16s16s8x", old.encode(), new.encode()))
    except OSError as e:
        raise HyperError(f"cannot rename tap device {old} to {new}: {e.strerror}") from e


def move(name: str, namespace: str) -> None:
    """Have a tap that is down be in the network namespace at that path (rtnetlink(7))."""
    try:
        with netns.opened(namespace) as there:
            body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, socket.if_nametoindex(name), 0, 0)
            with Netlink() as kernel:
                kernel.ask(RTM_SETLINK, body + attribute(IFLA_NET_NS_FD, struct.pack("=I", there)))
    except OSError as e:
        raise HyperError(f"cannot move tap device {name} to {namespace}: {e.strerror}") from e


class Taps:
    """The taps of guests that run, each held open beside its VMM. The kernel takes some 0.03 s to take a tap down, and
    whoever closes the last descriptor waits for that: so it is not the VMM, whose end somebody waits for. To move one
    takes it as long.

    A tap that was let go of is still there for so long, under its name. Whoever wants the name waits (`gone`)."""

    def __init__(self) -> None:
        self._closing: dict[asyncio.Task[None], str] = {}

    def hold(self, name: str, fd: int) -> "Tap":
        """The tap of descriptor `fd`, which remains the caller's."""
        return Tap(self, name, os.dup(fd))

    async def gone(self, name: str) -> None:
        if tasks := [task for task, one in self._closing.items() if one == name]:
            await asyncio.wait(tasks)

    def let_go(self, name: str, fd: int, moving: asyncio.Task[None] | None) -> None:
        task = asyncio.create_task(_close(fd, moving), name=f"close tap {name}")
        self._closing[task] = name
        task.add_done_callback(self._closing.pop)


async def _close(fd: int, moving: asyncio.Task[None] | None) -> None:
    if moving:
        await asyncio.wait([moving])
        moving.exception()  # which nobody waits for any more
    await asyncio.to_thread(os.close, fd)


class Tap:
    """One of `Taps`."""

    def __init__(self, taps: Taps, name: str, fd: int) -> None:
        self._taps, self._name, self._fd = taps, name, fd
        self._moving: asyncio.Task[None] | None = None

    async def become(self, name: str, namespace: str) -> None:
        """Have another name, while it is down; and be elsewhere: `moved` waits for that."""
        await self._taps.gone(name)
        rename(self._name, name)
        self._name = name
        if namespace:
            self._moving = asyncio.create_task(in_thread(move, name, namespace), name=f"move tap {name}")

    async def moved(self) -> None:
        """Wait until it is where it is to be."""
        if self._moving:
            await asyncio.shield(self._moving)

    def let_go(self) -> None:
        """It goes now if nobody else has it open. Again does nothing."""
        if self._fd >= 0:
            self._taps.let_go(self._name, self._fd, self._moving)
        self._fd = -1

    async def gone(self) -> None:
        """After `let_go`: wait until it is no more."""
        await self._taps.gone(self._name)
