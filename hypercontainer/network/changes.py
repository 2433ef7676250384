"""That something changes in a network namespace of somebody else's, as its kernel tells (rtnetlink(7))."""

import asyncio
import socket
import time

from hypercontainer.errors import HyperError
from hypercontainer.lib import netns

# groups of IPv4 and of IPv6; links are of none
LINKS, ADDRESSES, ROUTES, RULES = 0x1, 0x10 | 0x100, 0x40 | 0x400, 0x80 | 0x40000
QUIET_S, LONGEST_S = 0.05, 1.0  # whoever makes an interface has several things to do, one after the other
MOST = 65536


class Changes:
    """Those in one namespace, from now on: a socket in it. What has changed is for others to look at, so one that is
    lost, because there were too many, is no loss."""

    def __init__(self, path: str) -> None:
        """NotFound, InvalidInput when there is no network namespace at `path`."""
        self._told = asyncio.Event()
        self._over = False
        with netns.opened(path) as fd:
            self.inode = netns.identity(fd)
            try:
                self._socket = netns.inside(fd, _listening)
            except OSError as e:
                raise HyperError(f"cannot watch network namespace {path}: {e.strerror}") from e
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def _read(self) -> None:
        try:
            self._socket.recv(MOST)
        except BlockingIOError:
            return
        except OSError:
            pass  # there were more than it holds
        self._told.set()

    async def wait(self, at_most_s: float | None = None) -> bool:
        """Until something has changed, and nothing more for a moment; or for so long. False: after `end`."""
        if not self._over and await self._one(at_most_s):
            until_s = time.monotonic() + LONGEST_S
            while not self._over and time.monotonic() < until_s and await self._one(QUIET_S):
                pass
        return not self._over

    async def _one(self, at_most_s: float | None) -> bool:
        """False: there was none for so long."""
        try:
            async with asyncio.timeout(at_most_s):
                await self._told.wait()
        except TimeoutError:
            return False
        self._told.clear()
        return True

    def end(self) -> None:
        """Nobody listens any more, and whoever waits goes on. Safe any number of times."""
        if not self._over:
            self._over = True
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._told.set()


def _listening() -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    made = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
    try:
        made.bind((0, LINKS | ADDRESSES | ROUTES | RULES))
    except BaseException:
        made.close()
        raise
    return made
