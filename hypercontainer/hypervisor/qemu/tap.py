"""Opening a tap device that exists already."""

import errno
import fcntl
import os
import struct
from pathlib import Path

from hypercontainer.errors import HyperError, InUse, NotFound

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000


def open_tap(name: str) -> int:
    """Return a descriptor of tap `name`; close it. NotFound rather than a new device, InUse if a VMM has it."""
    if not (Path("/sys/class/net") / name / "tun_flags").exists():
        raise NotFound("tap device", name)
    return _open(name)


def open_dead_end() -> int:
    """Return a descriptor of a new tap that leads nowhere and goes when the descriptor is closed."""
    return _open("hysnap%d")


def _open(name: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        request = struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
        fcntl.ioctl(fd, TUNSETIFF, request)
    except OSError as e:
        os.close(fd)
        if e.errno == errno.EBUSY:
            raise InUse(f"cannot open tap device {name}: another virtual machine has it") from e
        raise HyperError(f"cannot open tap device {name}: {e.strerror}") from e
    return fd
