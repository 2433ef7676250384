"""Tap devices of the host's end, by ioctl and netlink: a tenth of a millisecond, no exec. Functions raise OSError."""

import errno
import fcntl
import re
import socket
import struct

from hypercontainer.errors import InvalidInput
from hypercontainer.lib.netlink import Netlink, attribute, nested

POD_ID = re.compile(r"[a-z0-9]{1,13}")  # with "hy" before it, the 15 characters of an interface's name
TAP = re.compile(r"hy[a-z0-9]{1,13}")

IFNAMSIZ = 16
SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914
SIOCGIFMTU, SIOCSIFMTU = 0x8921, 0x8922
SIOCBRADDIF = 0x89A2
IFF_UP, IFF_PROMISC = 0x1, 0x100
RTM_SETLINK, IFLA_PROTINFO, IFLA_BRPORT_MODE = 19, 12, 4

FULL = frozenset((errno.EXFULL, errno.ENFILE))  # a bridge has room for 1023 ports


def name(pod_id: str, number: int = 0) -> str:
    """Of the tap of a pod's interface `number`, 0 to 15."""
    tap = f"hy{pod_id}" + (f"{number:x}" if number else "")
    if not POD_ID.fullmatch(pod_id) or not TAP.fullmatch(tap):
        raise InvalidInput(f"invalid pod id {pod_id!r}")
    return tap


def join(name: str, bridge: str, mtu: int) -> None:
    """Make the interface `name` a port of `bridge`, and bring it up.

    A frame may leave by the port that it came in by, as that of a pod does which calls a port of its own by the
    host's address: with br_netfilter the bridge itself turns it round."""
    _quiet(name)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
        fcntl.ioctl(s, SIOCSIFMTU, _request(name, struct.pack("=i", mtu)))
        index = socket.if_nametoindex(name)
        try:
            fcntl.ioctl(s, SIOCBRADDIF, _request(bridge, struct.pack("=i", index)))
        except OSError as e:
            if e.errno != errno.EBUSY:  # is a port already
                raise
        _hairpin(index)
        _up(s, name)


def up(name: str, mtu: int, flags: int = 0) -> None:
    """Bring the interface `name` up, quiet, with these flags besides."""
    _quiet(name)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
        fcntl.ioctl(s, SIOCSIFMTU, _request(name, struct.pack("=i", mtu)))
        _up(s, name, flags)


def _up(s: socket.socket, name: str, more: int = 0) -> None:
    flags = struct.unpack_from("=H", fcntl.ioctl(s, SIOCGIFFLAGS, _request(name)), IFNAMSIZ)[0]
    fcntl.ioctl(s, SIOCSIFFLAGS, _request(name, struct.pack("=H", flags | IFF_UP | more)))


def _hairpin(index: int) -> None:
    """rtnetlink(7), include/uapi/linux/if_link.h: the mode of a bridge's port, which no ioctl sets."""
    body = struct.pack("=BxHiII", socket.AF_BRIDGE, 0, index, 0, 0)
    with Netlink() as kernel:
        kernel.ask(RTM_SETLINK, body + nested(IFLA_PROTINFO, attribute(IFLA_BRPORT_MODE, b"\1")))


def cut(name: str) -> None:
    """Take the interface `name` down; one that is not there, or goes meanwhile, is fine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
        try:
            flags = struct.unpack_from("=H", fcntl.ioctl(s, SIOCGIFFLAGS, _request(name)), IFNAMSIZ)[0]
            fcntl.ioctl(s, SIOCSIFFLAGS, _request(name, struct.pack("=H", flags & ~IFF_UP)))
        except OSError as e:
            if e.errno != errno.ENODEV:
                raise


def _quiet(name: str) -> None:
    """A tap needs no address of its own, and shall send the guest nothing unasked."""
    try:
        with open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w") as f:
            f.write("1")
    except FileNotFoundError:
        pass  # a host without IPv6


def exists(name: str) -> bool:
    try:
        return socket.if_nametoindex(name) > 0
    except OSError:
        return False


def mtu(name: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
        return int(struct.unpack_from("=i", fcntl.ioctl(s, SIOCGIFMTU, _request(name)), IFNAMSIZ)[0])


def _request(name: str, value: bytes = b"") -> bytes:
    """struct ifreq"""
    return struct.pack("16s24s", name.encode(), value)
