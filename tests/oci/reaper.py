"""Whom orphans come to, as an engine is: the processes of containers are children of ours, and their statuses known."""

import ctypes
import os
import select
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

LIMIT_S = 120  # for what ends anyway to have ended, on a busy machine
PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37
TICK_MS = 50  # an orphan that nobody reaps keeps the first process of its namespace from its end
_lock = threading.Lock()
_begun: dict[int, "subprocess.Popen[bytes]"] = {}  # by us: whoever has one reaps it
_statuses: dict[int, int] = {}  # of orphans, until somebody asks


@contextmanager
def subreaper() -> Iterator[None]:
    """Be the reaper of all that is started below us."""
    libc, before = ctypes.CDLL(None, use_errno=True), ctypes.c_int()
    libc.prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)


def begin(argv: list[str | Path], **how: Any) -> "subprocess.Popen[bytes]":
    """A command of ours, which no other thread takes for an orphan."""
    with _lock:
        process = subprocess.Popen(argv, **how)
        _begun[process.pid] = process
        return process


def reap() -> None:
    """Take the statuses of orphans that have ended."""
    with _lock:
        for tasks in Path("/proc/self/task").iterdir():
            for pid in map(int, (tasks / "children").read_text().split()):
                ours = _begun.get(pid)
                if ours is not None and ours.returncode is None:
                    continue
                with suppress(ChildProcessError):  # whose command has just been waited for
                    done, status = os.waitpid(pid, os.WNOHANG)
                    if done:
                        _statuses[pid] = status


def ready(fd: int, limit_s: float = LIMIT_S) -> bool:
    """Whether a descriptor has something in time: bytes, or the end. Orphans are reaped meanwhile."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    deadline = time.monotonic() + limit_s
    while not poll.poll(TICK_MS):
        reap()
        if time.monotonic() > deadline:
            return False
    return True


def ended(pid: int, limit_s: float = LIMIT_S) -> bool:
    """Whether a process ends in time, as a zombie at least."""
    try:
        fd = os.pidfd_open(pid)
    except (ProcessLookupError, FileNotFoundError):  # the second where it goes at this very moment
        return True
    try:
        return ready(fd, limit_s)
    finally:
        os.close(fd)


def finish(process: "subprocess.Popen[bytes]") -> int:
    """The status of a command of ours, whose pid may be an orphan's from then on."""
    in_time = ended(process.pid)
    if not in_time:
        process.kill()
    status = process.wait()
    with _lock:
        if _begun.get(process.pid) is process:
            del _begun[process.pid]
    assert in_time, f"{process.args!r} does not end"
    return status


def wait(pid: int) -> int:
    """The status of an orphan, as a shell says it."""
    assert ended(pid), f"{pid} does not end"
    reap()
    status = _statuses.pop(pid)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def forget() -> None:
    """Orphans that nobody asked for."""
    reap()
    _statuses.clear()
