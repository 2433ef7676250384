"""Network namespaces other than our own. What is in one is seen by a thread that has entered it."""

import ctypes
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from hypercontainer.errors import HyperError, InvalidInput, NotFound
from hypercontainer.lib import mount
from hypercontainer.lib.tasks import in_thread

CLONE_NEWNET = 0x40000000
NS_GET_NSTYPE = 0xB703
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1

T = TypeVar("T")


@contextmanager
def opened(path: str) -> Iterator[int]:
    """A descriptor of the network namespace at `path`, which need not be there for longer. NotFound, where only its
    file is left, too; InvalidInput for a namespace of another kind."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as e:
        raise NotFound("network namespace", path) from e
    except OSError as e:
        raise HyperError(f"cannot open network namespace {path}: {e.strerror}") from e
    try:
        try:
            kind = fcntl.ioctl(fd, NS_GET_NSTYPE)
        except OSError as e:  # what it was mounted on is no mount any more
            raise NotFound("network namespace", path, "what is there is none") from e
        if kind != CLONE_NEWNET:
            raise InvalidInput(f"cannot use {path}: it is a namespace, but none of a network")
        yield fd
    finally:
        os.close(fd)


def make(place: Path) -> None:
    """Have a new network namespace at `place`, an absolute path, in which only the loopback is, and is up. It is there
    until `let_go`; after a failure too."""

    def unshared() -> None:
        if _libc().unshare(CLONE_NEWNET):
            raise _failed()
        hold("/proc/thread-self/ns/net", place)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
            fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP))

    _in_new_thread(unshared)


def is_at(place: Path) -> bool:
    """Whether a network namespace is held there."""
    try:
        with opened(str(place)):
            return True
    except (NotFound, InvalidInput):
        return False


def hold(path: str, place: Path) -> None:
    """Have the network namespace at `path` at `place`, too, an absolute path: it is there until `let_go`, whoever was
    in it. Again: it is another one's."""
    with opened(path) as fd:
        let_go(place)
        place.touch(mode=0o400)
        target = os.open(place, os.O_PATH | os.O_CLOEXEC)
        try:
            mount.bind(fd, target)
        finally:
            os.close(target)


def let_go(place: Path) -> None:
    """Nothing happens when none is held there."""
    while mount.unmount(place):
        pass
    place.unlink(missing_ok=True)


def identity(fd: int) -> int:
    """Of a namespace, among those that are there."""
    return os.fstat(fd).st_ino


def is_ours(fd: int) -> bool:
    """Whether that is the namespace that this process is in."""
    return identity(fd) == os.stat("/proc/self/ns/net").st_ino


def inside(fd: int, function: Callable[[], T]) -> T:
    """What `function` returns in that namespace; waited for. Its thread is a new one, and ends in there."""

    def entered() -> T:
        if _libc().setns(fd, CLONE_NEWNET):
            raise _failed()
        return function()

    return _in_new_thread(entered)


def _in_new_thread(function: Callable[[], T]) -> T:
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as e:
            failures.append(e)

    thread = threading.Thread(target=run, name="netns")
    thread.start()
    thread.join()
    for failure in failures:
        raise failure
    return results[0]


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _failed() -> OSError:
    errno = ctypes.get_errno()
    return OSError(errno, os.strerror(errno))


async def within(fd: int, function: Callable[[], T]) -> T:
    """`inside`, while others go on. It is over when this returns, cancelled or not."""
    return await in_thread(inside, fd, function)
