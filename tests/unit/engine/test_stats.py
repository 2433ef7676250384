"""What a container uses, as docker's clients have it, of what its guest says."""

import pytest

from hypercontainer.agent import messages as m
from hypercontainer.engine.local import LocalEngine
from tests.unit.engine.world import Run, World

MIB = 1 << 20


@pytest.mark.parametrize(("own", "limit"), [(0, 1), (0.5, 0.5), (2, 1)])
async def test_what_is_told(engine: LocalEngine, world: World, create: Run, own: float, limit: float) -> None:
    """Limits are of what its machine has."""
    machine = world.settings.memory_mib * MIB
    id = await create("sleep", "1000")
    await engine.containers.start(id)
    said = {name: n for n, name in enumerate(m.Usage.__struct_fields__)}
    said |= {"memory_max_bytes": int(own * machine), "memory_bytes": 3 * MIB, "memory_inactive_file_bytes": MIB}
    world.hypervisor.alive[0].agent.answers["container.stats"] = lambda _: {**said, "net": []}
    found = await engine.containers.stats(id)
    assert found.memory_stats.usage == 2 * MIB and found.memory_stats.limit == limit * machine
    assert found.cpu_stats.cpu_usage.total_usage == said["cpu_usec"] * 1000
    assert found.cpu_stats.throttling_data.throttled_time == said["cpu_throttled_usec"] * 1000
    assert found.blkio_stats.write_bytes == said["io_write_bytes"]


async def test_more_files_than_memory_are_no_debt(engine: LocalEngine, world: World, create: Run) -> None:
    """A guest counts one after the other."""
    id = await create("sleep", "1000")
    await engine.containers.start(id)
    said = dict.fromkeys(m.Usage.__struct_fields__, 1) | {"memory_inactive_file_bytes": 2}
    world.hypervisor.alive[0].agent.answers["container.stats"] = lambda _: {**said, "net": []}
    assert (await engine.containers.stats(id)).memory_stats.usage == 0
