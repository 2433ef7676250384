"""A pseudo terminal whose other end goes to whoever listens on --console-socket."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios


def to_socket(path: str, rows: int, columns: int) -> int:
    """The end of the container. OSError when nobody listens."""
    master, slave = os.openpty()
    try:
        if rows and columns:
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("=4H", rows, columns, 0, 0))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(path)
            socket.send_fds(sock, [os.ttyname(slave).encode()], [master])
    except BaseException:
        os.close(slave)
        raise
    finally:
        os.close(master)
    return slave
