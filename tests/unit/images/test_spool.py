"""Chunks on their way to a thread: what is true of the thread when their caller leaves."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from hypercontainer.images import spool


async def test_the_thread_has_ended_however_often_its_caller_is_cancelled() -> None:
    """aiohttp breaks the body of a client that leaves, and cancels its call besides."""
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work(pieces: Iterator[bytes]) -> None:
        begun.set()
        go_on.wait()
        ended.set()

    async def chunks() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    task = asyncio.create_task(spool.in_thread(chunks(), work))
    await asyncio.to_thread(begun.wait)
    for _ in range(3):
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
    over = task.done()
    go_on.set()  # or it never ends
    assert not over
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
