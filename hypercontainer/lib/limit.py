"""Time limits for what a busy machine may leave without a processor: that time does not count.

A limit asks whether something still goes on. Whoever waits for a processor is not stuck, however long that takes.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

MOST = 100  # times the limit, whatever was waited for
LOOK_S = 0.01  # between two looks, at least
SOON_S = 0.1  # most of what is waited for has come by then, and nobody has looked

Waited = Callable[[], Mapping[int, float]]  # seconds that each of its threads has waited for a processor, by number


def never() -> Mapping[int, float]:
    """Of what has a processor whenever it wants one."""
    return {}


@asynccontextmanager
async def limit(seconds: float, waited: Waited) -> AsyncIterator[None]:
    """As asyncio.timeout: TimeoutError after `seconds`, and those by which `waited` has grown meanwhile.

    Those of the thread that has waited most: of two that spin, both may wait for half of the time, for ever. What they
    wait in the first tenth of a second is not looked at, nor counted."""
    loop = asyncio.get_running_loop()
    begin, before = loop.time(), dict[int, float]()
    timers: list[asyncio.TimerHandle] = []  # the next look

    def look_first() -> None:
        before.update(waited())
        timers[:] = [loop.call_at(begin + seconds, look)]

    def look() -> None:
        more = max((waited_s - before.get(thread, 0.0) for thread, waited_s in waited().items()), default=0.0)
        left = begin + min(seconds + more, seconds * MOST) - loop.time()
        if left > 0:
            timers[:] = [loop.call_later(max(left, LOOK_S), look)]
        else:
            bound.reschedule(loop.time())

    async with asyncio.timeout(None) as bound:
        timers[:] = [loop.call_later(min(SOON_S, seconds / 2), look_first)]
        try:
            yield
        finally:
            timers[0].cancel()
