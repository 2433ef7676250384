"""Files in memory that, once sealed, nobody can change: not even who opens them for writing."""

import fcntl
import os
import weakref

from hypercontainer.errors import HyperError

SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class SealedFile:
    """An unnamed file. It is closed with the last reference to this object (or by `close`), and gone when nobody has
    it mapped."""

    def __init__(self, name: str, size: int) -> None:
        """`size` bytes of zeroes, which take no room yet. `name` shows in /proc."""
        self._fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self.close = weakref.finalize(self, os.close, self._fd)
        os.truncate(self._fd, size)

    def fileno(self) -> int:
        """Its descriptor, for as long as this object is kept."""
        return self._fd

    @property
    def size(self) -> int:
        return os.fstat(self._fd).st_size

    @property
    def used(self) -> int:
        """Bytes of memory that it takes."""
        return os.fstat(self._fd).st_blocks * 512

    def seal(self) -> None:
        """From now on it cannot be written, cut or made longer. HyperError while somebody has it mapped to write."""
        try:
            fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, SEALS)
        except OSError as e:
            raise HyperError(f"cannot seal a file in memory: {e.strerror}") from e
