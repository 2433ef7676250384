"""Tap devices, by ioctl: a tenth of a millisecond instead of an exec. Every function raises OSError."""

import errno
import fcntl
import os
import socket
import struct

IFNAMSIZ = 16
TUNSETIFF = 0x400454CA
TUNSETPERSIST = 0x400454CB
TUNSETOWNER = 0x400454CC
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000

SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914
SIOCGIFMTU, SIOCSIFMTU = 0x8921, 0x8922
SIOCBRADDIF = 0x89A2
IFF_UP = 1

FULL = frozenset((errno.EXFULL, errno.ENFILE))  # a bridge has room for 1023 ports


def create(name: str, uid: int, bridge: str, mtu: int) -> None:
    """Make the tap `name`, a port of `bridge`, up, which user `uid` may open.

    It becomes persistent last: cut short at any moment, the kernel takes it away with our descriptor, so that each
    tap that outlives us is a port of the bridge, where a sweep finds it. One that exists already is taken as it is.
    """
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, TUNSETIFF, _request(name, struct.pack("=H", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)))
        fcntl.ioctl(fd, TUNSETOWNER, uid)
        _quiet(name)
        join(name, bridge, mtu)
        fcntl.ioctl(fd, TUNSETPERSIST, 1)
    finally:
        os.close(fd)


def join(name: str, bridge: str, mtu: int) -> None:
    """Make the interface `name` a port of `bridge`, and bring it up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
        fcntl.ioctl(s, SIOCSIFMTU, _request(name, struct.pack("=i", mtu)))
        try:
            fcntl.ioctl(s, SIOCBRADDIF, _request(bridge, struct.pack("=i", socket.if_nametoindex(name))))
        except OSError as e:
            if e.errno != errno.EBUSY:  # is a port already
                raise
        flags = struct.unpack_from("=H", fcntl.ioctl(s, SIOCGIFFLAGS, _request(name)), IFNAMSIZ)[0]
        fcntl.ioctl(s, SIOCSIFFLAGS, _request(name, struct.pack("=H", flags | IFF_UP)))


def _quiet(name: str) -> None:
    """A port of a bridge needs no address of its own, and shall send the guest nothing unasked."""
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
