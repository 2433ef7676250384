"""The one door to commands."""

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hypercontainer.errors import HyperError
from hypercontainer.lib import proc

SETTLED = 10  # turns of the loop in which whoever waits for a command has heard that nobody does so any more


@pytest.mark.parametrize("turns", range(SETTLED))
async def test_one_that_ends_while_it_is_given_up_is_no_error(turns: int, tmp_path: Path) -> None:
    """It has been reaped, in a thread, and the loop has not heard of that."""
    os.mkfifo(fifo := tmp_path / "pid")
    task = asyncio.create_task(proc.run(["sh", "-c", 'echo $$ > "$0"; exec sleep 1000', fifo], timeout_s=1000))
    pid = int(await asyncio.to_thread(fifo.read_text))
    started = proc.start_time(pid)
    assert started
    task.cancel()
    for _ in range(turns):
        await asyncio.sleep(0)
    proc.kill(pid, started)
    while Path(f"/proc/{pid}").exists():
        os.sched_yield()  # the loop stands still meanwhile
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_output_is_bounded_where_that_is_asked_for() -> None:
    said = await proc.run(["sh", "-c", "cat; echo oh >&2"], stdin=b"x" * 100_000, timeout_s=60, most=100_000)
    assert (len(said.stdout), said.stderr) == (100_000, b"oh\n")
    with pytest.raises(HyperError, match="sh wrote more than 1000 bytes"):
        await proc.run(["sh", "-c", "yes"], timeout_s=60, most=1000)
    said = await proc.run(["sh", "-c", "yes | head -c 1000000 >&2"], stdin=b"y" * 1_000_000, timeout_s=60, most=1)
    assert (said.stdout, len(said.stderr)) == (b"", proc.TAIL)  # and nobody has read what it was told


async def test_a_thread_is_no_process() -> None:
    """Its number is one that a process may have had; a kernel answers the same of a process that goes meanwhile."""
    end = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        thread = pool.submit(threading.get_native_id).result()
        started = proc.start_time(thread)
        waiting = pool.submit(end.wait)
        try:
            assert started is not None
            assert proc.pidfd(thread, started) is None
            assert not proc.kill(thread, started)
            await proc.gone(thread, started)
        finally:
            end.set()
            waiting.result()
