"""A pseudo terminal whose other end goes to whoever listens on --console-socket."""

from __future__ import annotations

import _socket
import _struct
import fcntl
import os
import sys
import termios


def to_socket(path: str, rows: int, columns: int) -> int:
    """The end of the container. OSError when nobody listens."""
    master, slave = os.openpty()
    try:
        if rows and columns:
            fcntl.ioctl(slave, termios.TIOCSWINSZ, _struct.pack("=4H", rows, columns, 0, 0))
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            sock.connect(path)
            rights = master.to_bytes(4, sys.byteorder)
            sock.sendmsg([os.ttyname(slave).encode()], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
        finally:
            sock.close()
    except BaseException:
        os.close(slave)
        raise
    finally:
        os.close(master)
    return slave
