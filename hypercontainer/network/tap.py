"""The host's end of tap devices, by ioctl: a tenth of a millisecond, no exec. Every function raises OSError."""

import errno
import fcntl
import socket
import struct

IFNAMSIZ = 16
SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914
SIOCGIFMTU, SIOCSIFMTU = 0x8921, 0x8922
SIOCBRADDIF = 0x89A2
IFF_UP = 1

FULL = frozenset((errno.EXFULL, errno.ENFILE))  # a bridge has room for 1023 ports


def join(name: str, bridge: str, mtu: int) -> None:
    """Make the interface `name` a port of `bridge`, and bring it up."""
    _quiet(name)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
        fcntl.ioctl(s, SIOCSIFMTU, _request(name, struct.pack("=i", mtu)))
        try:
            fcntl.ioctl(s, SIOCBRADDIF, _request(bridge, struct.pack("=i", socket.if_nametoindex(name))))
        except OSError as e:
            if e.errno != errno.EBUSY:  # is a port already
                raise
        flags = struct.unpack_from("=H", fcntl.ioctl(s, SIOCGIFFLAGS, _request(name)), IFNAMSIZ)[0]
        fcntl.ioctl(s, SIOCSIFFLAGS, _request(name, struct.pack("=H", flags | IFF_UP)))


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
