"""Starts take turns: how many at a time, in which order, and that nobody waits for ever."""

import asyncio

import pytest

from hypercontainer.lib.trace import Timings
from hypercontainer.sandbox.turns import Turns

LONG_S = 1000.0


async def test_as_many_at_a_time_in_the_order_of_asking() -> None:
    turns, began, go_on = Turns(2, LONG_S), list[int](), [asyncio.Event() for _ in range(4)]
    traces = [Timings() for _ in go_on]

    async def start(n: int) -> None:
        async with turns.turn(traces[n]):
            began.append(n)
            await go_on[n].wait()

    async with asyncio.TaskGroup() as starts:
        tasks = [starts.create_task(start(n)) for n in range(4)]
        await asyncio.sleep(0)
        assert began == [0, 1] and traces[2].now == "turn"
        go_on[1].set()
        await tasks[1]
        await asyncio.sleep(0)
        assert began == [0, 1, 2]
        for event in go_on:
            event.set()
    assert began == [0, 1, 2, 3]
    assert [[step.name for step in trace.steps] for trace in traces] == [[], [], ["turn"], ["turn"]]


async def test_who_takes_long_is_in_nobodys_way_and_gives_back_one_turn() -> None:
    turns, end = Turns(1, 0.001), asyncio.Event()

    async def long() -> None:
        async with turns.turn(Timings()):
            await end.wait()

    first = asyncio.create_task(long())
    await asyncio.sleep(0)
    turns.held_s = LONG_S
    async with turns.turn(Timings()):
        end.set()
        await first
        third = asyncio.create_task(_took(turns))
        assert not (await asyncio.wait([third], timeout=0))[0]
    await third


async def test_whoever_gives_up_or_fails_takes_no_turn_along() -> None:
    turns = Turns(1, LONG_S)
    with pytest.raises(ValueError):
        async with turns.turn(Timings()):
            waits = asyncio.create_task(_took(turns))
            await asyncio.sleep(0)
            waits.cancel()
            await asyncio.wait([waits])
            raise ValueError
    await _took(turns)


async def _took(turns: Turns) -> None:
    async with turns.turn(Timings()):
        pass
