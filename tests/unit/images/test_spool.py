"""Chunks on their way to a thread: what is true of the thread when their caller leaves."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from hypercontainer.errors import InvalidInput
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


async def test_of_two_failures_the_callers_is_told_and_the_threads_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    """A body that breaks off when what came of it was found to be damaged."""
    ran: list[asyncio.Future[None]] = []

    def work(pieces: Iterator[bytes]) -> None:
        raise InvalidInput("damaged")

    async def chunks() -> AsyncIterator[bytes]:
        await asyncio.wait(ran)
        raise InvalidInput("it ends before its end")
        yield b""

    loop = asyncio.get_running_loop()
    run = loop.run_in_executor

    def noted(*given: Any) -> "asyncio.Future[None]":
        ran.append(run(*given))
        return ran[-1]

    with pytest.MonkeyPatch.context() as patch, pytest.raises(InvalidInput, match="before its end"):
        patch.setattr(loop, "run_in_executor", noted)
        await spool.in_thread(chunks(), work)
    ran.clear()
    gc.collect()
    assert caplog.records == []
