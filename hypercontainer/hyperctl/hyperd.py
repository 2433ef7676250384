"""Starts a hyperd when none listens at the default socket, and says so.

Who names another socket means a hyperd of other settings: one with the default ones would be in its place.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import time

from hypercontainer.hyperctl.context import DEFAULT_ADDRESS, complain

HOST = f"unix://{DEFAULT_ADDRESS}"
LOG = "/run/hyper/hyperd.log"
READY_S = 30.0  # it may have VMs to attach to again before it answers
PAUSE_S = 0.02
TAIL_LINES = 5


def command(program: str) -> list[str]:
    """The hyperd beside the hyperctl that was called, or the module for this Python."""
    beside = os.path.join(os.path.dirname(program), "hyperd")
    if os.path.isabs(program) and os.access(beside, os.X_OK):
        return [beside]
    return [sys.executable or "/usr/bin/python3", "-m", "hypercontainer.hyperd.main"]


def start(program: str) -> None:
    """Start one in a session of its own and wait until it answers. Raises Unavailable with its last words.

    Of several who find none at the same time one starts it, and the others wait for that."""
    try:
        os.makedirs(os.path.dirname(LOG), mode=0o711, exist_ok=True)
        fd = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        lock = os.open(LOG, os.O_RDONLY | os.O_CLOEXEC)  # of our own: hyperd inherits the other one
    except OSError as e:
        raise _unavailable(f"no hyperd at {HOST}, and none can be started: {LOG}: {e.strerror}") from e
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _answers():
            begin = os.fstat(fd).st_size
            _wait(_announced(command(program), fd), begin)
    finally:
        os.close(lock)
        os.close(fd)


def _announced(words: list[str], log: int) -> int:
    """Start it, and say so; its pid."""
    try:
        pid = _spawn(words, log)
    except OSError as e:
        raise _unavailable(f"no hyperd at {HOST}, and {words[0]} cannot be started: {e.strerror}") from e
    complain(f"no hyperd at {HOST}: started one (pid {pid}, log {LOG})")
    return pid


def _spawn(words: list[str], log: int) -> int:
    """A child that outlives us: a session of its own, our terminal nowhere among its files."""
    files = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, log, 1),
        (os.POSIX_SPAWN_DUP2, log, 2),
    ]
    return os.posix_spawn(words[0], words, os.environ, file_actions=files, setsid=True)


def _wait(pid: int, begin: int) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if _answers():
            return
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            raise _unavailable(f"hyperd ended with status {code}: {_tail(begin) or 'it said nothing'}")
        time.sleep(PAUSE_S)
    raise _unavailable(f"hyperd (pid {pid}) did not answer within {READY_S:g} s: {_tail(begin) or LOG}")


def _answers() -> bool:
    from hypercontainer.client.http import Client
    from hypercontainer.errors import HyperError

    try:
        with Client(DEFAULT_ADDRESS) as client:
            client.get("/v1/ping")
    except HyperError as e:
        return not isinstance(e.__cause__, OSError) or e.__cause__.errno not in (errno.ENOENT, errno.ECONNREFUSED)
    return True


def _tail(begin: int) -> str:
    """The last lines that this hyperd wrote."""
    try:
        with open(LOG, "rb") as f:
            size = f.seek(0, os.SEEK_END)
            f.seek(max(begin, size - 4096))
            return " | ".join(f.read().decode(errors="replace").split("\n")[-TAIL_LINES - 1 :]).strip(" |")
    except OSError:
        return ""


def _unavailable(why: str) -> Exception:
    from hypercontainer.errors import Unavailable

    return Unavailable(why)
