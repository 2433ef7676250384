"""Further processes in containers that run."""

import asyncio

import pytest

from hypercontainer.engine import execs
from hypercontainer.engine.local import LocalEngine
from hypercontainer.model.spec import ExecSpec
from tests.unit.engine.world import Run, World


@pytest.mark.parametrize("state", ["R", "D+"])
async def test_an_exec_waits_for_the_first_steps(world: World, engine: LocalEngine, create: Run, state: str) -> None:
    id = await create("sleep", "1000")
    await engine.containers.start(id)
    [guest] = world.hypervisor.alive
    guest.agent.process_state = state
    starting = asyncio.ensure_future(engine.execs.start(await _true(engine, id), first_steps_s=1000))
    await asyncio.wait([starting], timeout=3 * execs.LOOK_EVERY_S)
    assert not starting.done()
    assert await engine.execs.start(await _true(engine, id))  # who does not ask for that has it at once
    guest.agent.process_state = "Ss"
    session = await starting
    assert session and await session.wait() == 0


async def test_one_that_never_rests_is_not_waited_for(world: World, engine: LocalEngine, create: Run) -> None:
    id = await create("sleep", "1000")
    await engine.containers.start(id)
    world.hypervisor.alive[0].agent.process_state = "R"
    session = await engine.execs.start(await _true(engine, id), first_steps_s=0.1)
    assert session and await session.wait() == 0


async def _true(engine: LocalEngine, c: str) -> str:
    return await engine.execs.create(c, ExecSpec(command=["true"]))
