"""Opening the files behind a guest's disks, and how large they are."""

import fcntl
import os
import stat
import struct

from hypercontainer.errors import HyperError, InUse, InvalidInput, NotFound
from hypercontainer.hypervisor.base import OPENED
from hypercontainer.model.record import DiskRecord

FLOCK = struct.Struct("hhqqi0q")  # struct flock
WRITERS = 101  # the byte of a disk's file that each QEMU locks which may write it: block/file-posix.c


def open_disk(disk: DiskRecord) -> int:
    """Return a descriptor of the disk's file, O_RDONLY when the record says so; close it."""
    is_link = disk.device or disk.path.startswith(OPENED)  # names of devices that stay the same are links, too
    follow = 0 if is_link else os.O_NOFOLLOW
    try:
        fd = os.open(disk.path, (os.O_RDONLY if disk.read_only else os.O_RDWR) | os.O_CLOEXEC | follow)
    except FileNotFoundError as e:
        raise NotFound("disk file", disk.path) from e
    except OSError as e:
        raise HyperError(f"cannot open disk {_name(disk)}: {e.strerror}") from e
    if disk.read_only and _is_written(fd):
        os.close(fd)
        raise InUse(f"cannot open disk {_name(disk)}: another machine writes it: its lock is held", "disk", _name(disk))
    if stat.S_ISBLK(os.fstat(fd).st_mode) == disk.device:
        return fd
    os.close(fd)
    raise HyperError(f"cannot open disk {_name(disk)}: it is {'no' if disk.device else 'a'} block device")


def _is_written(fd: int) -> bool:
    """A QEMU has it to write. One that waited for its disks takes its own locks, and asks nobody."""
    asked = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, WRITERS, 1, 0)
    return bool(FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))[0] != fcntl.F_UNLCK)


def claim(fd: int, disk: DiskRecord) -> None:
    """Hold the lock of who writes the disk open at `fd`, for a VMM that takes none: for as long as that is open, here
    or where it was handed to. InUse: another machine has it."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, WRITERS, 1, 0))
    except BlockingIOError as e:
        name = _name(disk)
        raise InUse(f"cannot open disk {name}: another machine writes it: its lock is held", "disk", name) from e


def _name(disk: DiskRecord) -> str:
    return os.readlink(disk.path) if disk.path.startswith(OPENED) else disk.path


def open_within(disk: DiskRecord, most: int | None) -> int:
    """The same, for a VMM that can make no file larger than `most` bytes (None: any). InvalidInput when it could not
    write all of the disk."""
    fd = open_disk(disk)
    if most is None or disk.read_only or os.fstat(fd).st_size <= most:
        return fd
    larger = f"{os.fstat(fd).st_size >> 20} MiB, and the virtual machine was started for disks of {most >> 20} MiB"
    os.close(fd)
    raise InvalidInput(f"cannot plug a writable disk of {larger}: stop the pod and start it again")
