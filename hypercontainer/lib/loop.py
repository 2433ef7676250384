"""Loop devices (loop(4)): a file as a block device."""

import errno
import fcntl
import os
import struct

from hypercontainer.errors import HyperError

CONTROL = "/dev/loop-control"
GET_FREE, CONFIGURE = 0x4C82, 0x4C0A  # LOOP_CTL_GET_FREE, LOOP_CONFIGURE
CONFIG = struct.Struct("II 5Q 4I 64s 64s 32s 2Q 8Q")  # struct loop_config
READ_ONLY, AUTOCLEAR = 1, 4  # LO_FLAGS_…
TRIES = 100


def attach(file: int, *, read_only: bool) -> tuple[str, int]:
    """A device of the open file, and a descriptor of it, to be closed. It goes when nobody has it open any more."""
    flags = AUTOCLEAR | (READ_ONLY if read_only else 0)
    config = CONFIG.pack(file, 0, *[0] * 8, flags, b"", b"", b"", *[0] * 10)
    try:
        control = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
    except OSError as e:
        raise HyperError(f"cannot make a block device of a file: {CONTROL}: {e.strerror}; load the module loop") from e
    try:
        for _ in range(TRIES):
            path = f"/dev/loop{fcntl.ioctl(control, GET_FREE)}"
            fd = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
            try:
                fcntl.ioctl(fd, CONFIGURE, config)
            except OSError as e:
                os.close(fd)
                if e.errno == errno.EBUSY:  # another one has taken it meanwhile
                    continue
                raise
            return path, fd
    except OSError as e:
        raise HyperError(f"cannot make a block device of a file: {e.strerror}") from e
    finally:
        os.close(control)
    raise HyperError(f"cannot make a block device of a file: {TRIES} times another one took it")
