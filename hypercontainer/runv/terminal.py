"""The terminal of whoever calls `run` or `exec`, and what passes between it and the one that the process has."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import termios
import tty
from contextlib import suppress
from typing import Any

CHUNK = 1 << 16
STDIN, STDOUT = 0, 1


def pair(rows: int, columns: int) -> tuple[int, int]:
    """Our end and the process's, of that size."""
    master, slave = os.openpty()
    _resize(slave, rows, columns)
    return master, slave


def size() -> tuple[int, int]:
    """Rows and columns of the terminal that we are at; zeros when that is none."""
    with suppress(OSError):
        rows, columns, _, _ = struct.unpack("=4H", fcntl.ioctl(STDIN, termios.TIOCGWINSZ, bytes(8)))
        return rows, columns
    return 0, 0


def pass_on(master: int) -> None:
    """Until nobody has the other end. Every key is the process's meanwhile, and so is a new size of the window."""
    before: list[Any] | None = None
    if os.isatty(STDIN):
        before = termios.tcgetattr(STDIN)
        tty.setraw(STDIN)
        signal.signal(signal.SIGWINCH, lambda number, frame: _resize(master, *size()))
    try:
        _copy(master)
    finally:
        if before:
            termios.tcsetattr(STDIN, termios.TCSADRAIN, before)


def _copy(master: int) -> None:
    reading = [STDIN, master]
    while True:
        ready, _, _ = select.select(reading, [], [])
        if master in ready:
            data = b""
            with suppress(OSError):  # EIO: the other end is closed
                data = os.read(master, CHUNK)
            if not data:
                return
            _write(STDOUT, data)
        if STDIN in ready:
            data = os.read(STDIN, CHUNK)
            if data:
                _write(master, data)
            else:
                reading.remove(STDIN)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _resize(fd: int, rows: int, columns: int) -> None:
    if rows and columns:
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("=4H", rows, columns, 0, 0))
