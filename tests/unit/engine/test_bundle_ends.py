"""Containers of other engines that end while somebody asks about them."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from hypercontainer.engine.bundles import Bundles
from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import WrongState
from hypercontainer.lib import proc
from hypercontainer.model.record import BundleRecord, ProcessRef, StandInRecord
from tests.unit.engine.test_further import until
from tests.unit.engine.world import Run, World


@pytest.mark.parametrize(
    ("op", "ask"),
    [
        ("container.stats", lambda bundles, name: bundles.usage("", name)),
        ("container.processes", lambda bundles, name: bundles.top("", name, "-ef")),
    ],
)
async def test_who_asks_as_it_ends_is_told_that_it_has(
    engine: LocalEngine, create: Run, world: World, op: str, ask: Callable[[Bundles, str], Awaitable[object]]
) -> None:
    id = await create("sleep", "1000")
    record = engine.supervisor.find(id)[1].record
    record.bundle = BundleRecord(path="/bundle", oci_version="1.0.2")
    stands = await asyncio.create_subprocess_exec("sleep", "1000")
    try:
        start_time = proc.start_time(stands.pid)
        assert start_time
        record.sinks.append(StandInRecord(key="k", process=ProcessRef(pid=stands.pid, start_time=start_time)))
        await engine.containers.start(id)
        agent = world.hypervisor.alive[0].agent
        agent.unanswered.add(op)
        asking = asyncio.ensure_future(ask(engine.bundles, record.name))
        await until(lambda: op in [asked for asked, _ in agent.requests])
        await engine.containers.kill(id, 9)
        with pytest.raises(WrongState, match="it is stopped"):
            await asking
    finally:
        stands.kill()
        await stands.wait()
