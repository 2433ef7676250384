"""Tap devices: a VMM's goes with it."""

import errno
import fcntl
import os
import socket
import struct

from hypercontainer.errors import HyperError, InUse

TUNSETIFF = 0x400454CA
TUNSETOWNER = 0x400454CC
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
SIOCSIFNAME = 0x8923


def open_tap(name: str, uid: int) -> int:
    """Make the tap `name` ("": one of a new name), user `uid`'s; return a descriptor, to be closed.

    It is down, leads nowhere, and goes when the last descriptor is closed. InUse if there is one of this name."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        request = struct.pack("16sH22x", (name or "hysnap%d").encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
        fcntl.ioctl(fd, TUNSETIFF, request)
        fcntl.ioctl(fd, TUNSETOWNER, uid)
    except OSError as e:
        os.close(fd)
        if e.errno == errno.EBUSY:
            raise InUse(f"cannot make tap device {name}: another virtual machine has it") from e
        raise HyperError(f"cannot make tap device {name}: {e.strerror}") from e
    return fd


def rename(old: str, new: str) -> None:
    """Give a tap that is down another name."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
            fcntl.ioctl(s, SIOCSIFNAME, struct.pack("16s16s8x", old.encode(), new.encode()))
    except OSError as e:
        raise HyperError(f"cannot rename tap device {old} to {new}: {e.strerror}") from e
