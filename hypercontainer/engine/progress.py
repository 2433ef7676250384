"""Long calls as a stream: what they report on the way, then what they return."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from hypercontainer.model.documents import Progress

T = TypeVar("T")
Report = Callable[[Progress], None]


async def with_progress(work: Callable[[Report], Awaitable[T]]) -> AsyncGenerator[Progress | T, None]:
    """Run `work`, yielding each Progress it reports, then its result. Closed early, the work is cancelled.

    Reports that nobody has read yet are replaced by later ones of the same part, so a slow reader costs nothing."""
    waiting: dict[str, Progress] = {}
    news = asyncio.Event()

    def report(progress: Progress) -> None:
        waiting[progress.id] = progress
        news.set()

    task = asyncio.ensure_future(work(report))
    task.add_done_callback(lambda _: news.set())
    try:
        while True:
            while waiting:
                yield waiting.pop(next(iter(waiting)))
            if task.done():
                yield await task
                return
            await news.wait()
            news.clear()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
