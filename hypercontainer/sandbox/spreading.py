"""What this host mounts below the folders of a pod that follow it: the guest sees it come and go.

The kernel would do so by itself, had virtiofsd's namespace slaves of the host's mounts: but then whatever a guest has
once looked at keeps the host from unmounting it, and is mounted with the host's flags. So there is a slave of ours, in
which nobody looks, and virtiofsd has what that has.
"""

import asyncio
import logging
import select
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hypercontainer.errors import HyperError
from hypercontainer.vm import Vm

if TYPE_CHECKING:
    from hypercontainer.sandbox.pod import Pod

log = logging.getLogger(__name__)


async def follow(pod: "Pod", vm: Vm) -> None:
    """Until its machine has ended. What cannot be shown is logged, and tried again with the next change."""
    async with asyncio.TaskGroup() as group:
        following = group.create_task(_follow(pod))
        await vm.guest.wait()
        following.cancel()


async def _follow(pod: "Pod") -> None:
    await pod.machine.folders.follows.wait()  # most never do
    with _changes() as changed:
        while True:
            changed.clear()
            await catch_up(pod)
            await changed.wait()


async def catch_up(pod: "Pod") -> None:
    """Have its guest see what has been mounted by now."""
    if pod.machine.folders.follows.is_set():
        try:
            await pod.machine.folders.spread(pod.machine.guest)
        except HyperError as e:
            log.warning("pod %s: cannot follow what is mounted: %s", pod.record.id, e)


@contextmanager
def _changes() -> Iterator[asyncio.Event]:
    """Set with each change of what is mounted in our namespace. The kernel tells of each once, by POLLPRI, and always
    that there is something to read: no selector of asyncio waits for the one alone, epoll in that does."""
    changed, loop = asyncio.Event(), asyncio.get_running_loop()
    with open("/proc/self/mountinfo") as mounts, select.epoll() as waiting:
        waiting.register(mounts, select.EPOLLPRI)

        def tell() -> None:
            waiting.poll(0)
            changed.set()

        loop.add_reader(waiting.fileno(), tell)
        try:
            yield changed
        finally:
            loop.remove_reader(waiting.fileno())
