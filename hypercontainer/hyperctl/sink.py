"""Where a container's output goes: one of our own descriptors, never waited for."""

from __future__ import annotations

import _socket
import errno
import os
import stat

LIMIT = 1 << 20  # bytes held for a reader that is slow, before nothing more is taken from hyperd
GONE = (errno.EPIPE, errno.EIO, errno.ECONNRESET)


class Sink:
    """Takes bytes at once or holds them. `closed`: nobody reads any more.

    The descriptor's O_NONBLOCK would belong to whoever shares it with us (the shell, for a terminal), so pipes and
    terminals are opened again for a file description of our own; sockets are told with each send. What cannot be
    opened again gets no more at a time than a pipe that is ready surely takes.
    """

    def __init__(self, fd: int) -> None:
        self.pending = bytearray()
        self.closed = False
        self._socket: _socket.socket | None = None
        self._piece = 1 << 30
        self.fd = self._open(fd)
        self._opened = self.fd != fd

    def _open(self, fd: int) -> int:
        try:
            mode = os.fstat(fd).st_mode
            if stat.S_ISSOCK(mode):
                self._socket = _socket.socket(fileno=os.dup(fd))
                return fd
            if stat.S_ISREG(mode):
                return fd
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError:
            self._piece = 4096
            return fd

    @property
    def full(self) -> bool:
        return len(self.pending) > LIMIT

    def write(self, data: memoryview) -> None:
        if self._piece != 4096 and not self.pending:
            data = data[self._now(data) :]
        if len(data) and not self.closed:
            self.pending += data

    def flush(self) -> None:
        """Write what is held, as far as it goes. Call when poll says so."""
        with memoryview(self.pending) as view:
            n = self._now(view[: self._piece])
        del self.pending[:n]

    def _now(self, data: memoryview) -> int:
        try:
            if self._socket is not None:
                return self._socket.send(data, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
            return os.write(self.fd, data)
        except BlockingIOError:
            return 0
        except OSError as e:
            if e.errno not in GONE:
                raise
            self.closed = True
            return len(data)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._opened:
            os.close(self.fd)
