"""Whose start it is: as many at a time as this host has processors for.

A start is work of the processor's, a guest's most of all where it is emulated, and fifty of them at a moment have each
other's code and pages thrown out of its caches: each takes half as long again as one of two, and the last one is no
sooner there.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hypercontainer.lib.trace import Trace

SPARE = 1  # more than processors: one may wait for a disk
HELD_S = 2.0  # who takes longer waits for something: that is nobody's turn


class Turns:
    """In the order in which they were asked for. `most`: at a time."""

    def __init__(self, most: int = 0, held_s: float = HELD_S) -> None:
        self._free = asyncio.Semaphore(most or len(os.sched_getaffinity(0)) + SPARE)
        self.held_s = held_s

    @asynccontextmanager
    async def turn(self, trace: Trace) -> AsyncIterator[None]:
        """For the block, which goes on when its turn is over."""
        if self._free.locked():
            with trace.step("turn"):
                await self._free.acquire()
        else:
            await self._free.acquire()
        held = True

        def release() -> None:
            nonlocal held
            if held:
                held = False
                self._free.release()

        over = asyncio.get_running_loop().call_later(self.held_s, release)
        try:
            yield
        finally:
            over.cancel()
            release()
