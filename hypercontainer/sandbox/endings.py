"""Ends of machines that are under way: the VMM was told to end, and what it is on this host goes as soon as it has.

Who had it ended does not wait for that, for nothing of what is left is of use to anybody else. Its run-time files,
control groups and tap have the pod's id: so whoever starts that pod again waits here first. A hyperd after us finds
what is left of an end that ours did not come to as it finds all that no pod has: by these same files.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from hypercontainer.errors import HyperError

log = logging.getLogger(__name__)

CLOSE_S = 10.0  # for all that are under way when we end


@dataclass
class Ending:
    uid: int
    finish: Callable[[], Awaitable[None]]
    over: asyncio.Event = field(default_factory=asyncio.Event)
    failure: Exception | None = None


class Endings:
    """By the ids of their pods. One that has failed stays here until it is tried again."""

    def __init__(self) -> None:
        self._endings: dict[str, Ending] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __contains__(self, pod_id: str) -> bool:
        return pod_id in self._endings

    def uids(self) -> set[int]:
        """Users of their VMMs: until these are gone, nobody else is to be one of them."""
        return {ending.uid for ending in self._endings.values()}

    def begin(self, pod_id: str, uid: int, finish: Callable[[], Awaitable[None]]) -> None:
        """Have `finish` done, which returns when nothing is left, and can be called again after a failure."""
        self._endings[pod_id] = ending = Ending(uid, finish)
        self._go_on(pod_id, ending)

    def _go_on(self, pod_id: str, ending: Ending) -> None:
        ending.failure = None
        ending.over.clear()
        task = asyncio.create_task(self._finish(pod_id, ending), name=f"end of pod {pod_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(self, pod_id: str, ending: Ending) -> None:
        try:
            await ending.finish()
            del self._endings[pod_id]
        except Exception as e:
            log.error("pod %s: not all of its virtual machine is gone: %s", pod_id, e)
            ending.failure = e
        finally:
            ending.over.set()

    async def over(self, pod_id: str) -> None:
        """Wait until nothing is left of that pod's machine, if its end is under way. HyperError when not all of it
        goes; one of which that is known is tried once more."""
        if ending := self._endings.get(pod_id):
            if ending.failure:
                self._go_on(pod_id, ending)
            await ending.over.wait()
            if ending.failure:
                raise HyperError(f"not all is gone of what pod {pod_id} was: {ending.failure}") from ending.failure

    async def close(self) -> None:
        """Wait for all, CLOSE_S at most."""
        tasks = set(self._tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=CLOSE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
