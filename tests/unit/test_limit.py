"""A limit counts the time in which what it waits for could have gone on, and no other."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hypercontainer.agent.client import AgentClient
from hypercontainer.lib import proc
from hypercontainer.lib.limit import MOST, limit, never
from hypercontainer.testing.fakes import FakeAgent

LONG_S = 30.0
# The first look is at a tenth of a second: a busy machine has the rest of the limit to come to that.
LIMIT_S, BEYOND_S = 1.0, 1.3


async def test_who_has_a_processor_is_bounded_as_by_a_timeout() -> None:
    with pytest.raises(TimeoutError):
        async with limit(0.01, never):
            await asyncio.Event().wait()


async def test_time_without_a_processor_does_not_count() -> None:
    loop = asyncio.get_running_loop()
    begin, done = loop.time(), asyncio.Event()
    loop.call_later(BEYOND_S, done.set)
    async with limit(LIMIT_S, lambda: {1: loop.time() - begin}):  # it has waited all the time
        await done.wait()


async def test_two_threads_that_spin_come_to_an_end() -> None:
    """Each waits half of the time, for the other one has the processor."""
    loop = asyncio.get_running_loop()
    begin = loop.time()

    def waited() -> dict[int, float]:
        half = (loop.time() - begin) / 2
        return {1: half, 2: half}

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(20), limit(1.0, waited):
            await asyncio.Event().wait()
    assert loop.time() - begin < 15


async def test_a_thread_that_has_ended_has_not_given_its_time_back() -> None:
    loop = asyncio.get_running_loop()
    begin, done = loop.time(), asyncio.Event()
    threads = [{1: 3600.0, 2: 0.0}]
    loop.call_later(BEYOND_S, done.set)
    async with limit(LIMIT_S, lambda: threads.pop() if threads else {2: loop.time() - begin}):
        await done.wait()


async def test_what_was_waited_before_is_of_no_use_now() -> None:
    with pytest.raises(TimeoutError):
        async with limit(0.01, lambda: {1: 3600.0}):
            await asyncio.Event().wait()


async def test_there_is_an_end_whatever_is_said() -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(TimeoutError):
        async with limit(0.1 / MOST, lambda: {1: loop.time() * 1e6}):
            await asyncio.Event().wait()


async def test_a_cancelled_wait_is_no_time_out() -> None:
    async def wait() -> None:
        async with limit(LONG_S, never):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_agent_whose_guest_has_no_processor_has_time_to_answer(tmp_path: Path) -> None:
    loop, agent = asyncio.get_running_loop(), FakeAgent()
    begin = loop.time()
    connecting = asyncio.create_task(
        AgentClient.connect(tmp_path / "agent", timeout_s=LIMIT_S, waited=lambda: {1: loop.time() - begin})
    )
    await asyncio.sleep(BEYOND_S)
    await agent.serve(tmp_path / "agent")
    client = await connecting
    await client.ping()
    await client.close()
    await agent.close()


def test_a_process_that_shares_a_processor_has_waited_for_it() -> None:
    """Two busy ones on one processor: one of them waits at every moment."""
    cpu = min(os.sched_getaffinity(0))
    program = f"import os; os.sched_setaffinity(0, {{{cpu}}})\nprint(flush=True)\nwhile True: pass"
    argv = [sys.executable, "-c", program]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as one, subprocess.Popen(argv, stdout=subprocess.PIPE) as two:
        try:
            for process in (one, two):
                assert process.stdout and process.stdout.readline() == b"\n"
            while sum(proc.waited_s(one.pid).values()) + sum(proc.waited_s(two.pid).values()) < 0.1:
                pass
        finally:
            one.kill()
            two.kill()
    assert proc.waited_s(one.pid) == {}
