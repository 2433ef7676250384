"""Opening the files behind a guest's disks."""

import os

from hypercontainer.errors import HyperError, NotFound
from hypercontainer.model.record import DiskRecord


def open_disk(disk: DiskRecord) -> int:
    """Return a descriptor of the disk's file, O_RDONLY when the record says so; close it."""
    try:
        return os.open(disk.path, (os.O_RDONLY if disk.read_only else os.O_RDWR) | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError as e:
        raise NotFound("disk file", disk.path) from e
    except OSError as e:
        raise HyperError(f"cannot open disk {disk.path}: {e.strerror}") from e
