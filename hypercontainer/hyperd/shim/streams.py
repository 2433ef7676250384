"""Streams of a process, as containerd names them: fifos, files, and programs that take its output.

A program (`binary://PATH?NAME=VALUE…`) is given the name of each value and the value as arguments, the output's ends at
descriptors 3 and 4, and one at 5 that it closes when it is ready.
"""

import errno
import fcntl
import os
import select
import signal
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from hypercontainer.errors import InvalidInput

READY_S = 10.0
FREE = 20  # no descriptor from here on is one of those that a program is given
LOGGER_FDS = 3


class Names(NamedTuple):
    """What a program is told of the process whose output it takes."""

    id: str
    namespace: str


class Output(NamedTuple):
    fds: list[int]  # stdout and stderr
    program: int = 0  # pid of a child that takes them; 0: there is none


def stdin(name: str) -> tuple[int, int]:
    """It, and the writers' end, so that it does not end while a writer comes and goes; -1: it has none. OSError."""
    if not name:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), -1
    path = _fifo(name)
    ours = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return ours, os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        os.close(ours)
        raise


def output(stdout: str, stderr: str, names: Names) -> Output:
    """Of a fifo both ends, so that it has one while its reader comes and goes. OSError."""
    if stdout.startswith("binary://"):
        if stderr not in ("", stdout):
            raise InvalidInput(f"cannot use {stderr[:200]} beside {stdout[:200]}: one program takes both")
        return _program(stdout, names)
    first = _opened(stdout)
    try:
        return Output([first, _opened(stderr)])
    except BaseException:
        os.close(first)
        raise


def _opened(name: str) -> int:
    if name.startswith("file://"):
        path = _path(name)
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_CLOEXEC, 0o644)
    return os.open(_fifo(name) if name else os.devnull, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def _fifo(name: str) -> str:
    if name.startswith("fifo://"):
        return _path(name)
    if "://" in name:
        raise InvalidInput(
            f"cannot use {name[:200]} as a stream: use a fifo's path, or for output file:// or binary://"
        )
    return name


def _path(name: str) -> str:
    found = urlsplit(name)
    path = unquote(found.path)
    if found.netloc or not path.startswith("/") or "\0" in path:
        raise InvalidInput(f"cannot use {name[:200]} as a stream: there is no absolute path in it")
    return path


def _program(name: str, names: Names) -> Output:
    path, words = _path(name), [word for pair in parse_qsl(urlsplit(name).query, True) for word in pair]
    env = {"CONTAINER_ID": names.id, "CONTAINER_NAMESPACE": names.namespace}
    pipes = [os.pipe() for _ in range(LOGGER_FDS)]
    theirs = [pipes[0][0], pipes[1][0], pipes[2][1]]
    ours = [pipes[0][1], pipes[1][1], pipes[2][0]]
    try:
        pid = _spawned(path, words, env, theirs)
        for fd in theirs:
            os.close(fd)
        theirs = []
        _await_ready(pid, ours[2], path)
        os.close(ours.pop())
        return Output(ours, pid)
    except BaseException:
        for fd in (*theirs, *ours):
            os.close(fd)
        raise


def _spawned(path: str, words: list[str], env: dict[str, str], given: list[int]) -> int:
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FREE) for fd in given]
    null = fcntl.fcntl(devnull := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), fcntl.F_DUPFD_CLOEXEC, FREE)
    os.close(devnull)
    files = [(os.POSIX_SPAWN_DUP2, fd, n) for n, fd in enumerate((null, null, null, *high))]
    try:
        return os.posix_spawn(
            path,
            [path, *words],
            env,
            file_actions=files,
            setsid=True,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # which Python ignores
        )
    except OSError as e:
        raise OSError(e.errno, e.strerror, path) from e
    finally:
        for fd in (*high, null):
            os.close(fd)


def _await_ready(pid: int, ready: int, path: str) -> None:
    """Until it has closed that, or written to it. OSError: it was ended."""
    poll = select.poll()
    poll.register(ready, select.POLLIN)
    if not poll.poll(READY_S * 1000):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise OSError(errno.ETIMEDOUT, f"it was not ready within {READY_S:g} s", path)
