"""An engine over a hypervisor without machines."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hypercontainer.engine.local import LocalEngine
from hypercontainer.model.spec import ContainerSpec, EndpointSpec, PodSpec
from tests.unit.engine.world import ADMIN, Run, World, load


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    for engine in world.engines:
        await engine.close()
    for guest in world.hypervisor.alive:
        await guest.kill()


@pytest.fixture
async def engine(world: World, busybox_archive: Path) -> LocalEngine:
    engine = await world.engine()
    await load(engine, busybox_archive)
    return engine


@pytest.fixture
def create(engine: LocalEngine) -> Run:
    """Create a container of a command of the fake agent's; its id."""

    async def create(*command: str, network: str = "bridge", **spec: object) -> str:
        container = ContainerSpec(image="busybox", command=list(command), **spec)  # type: ignore[arg-type]
        endpoints = [EndpointSpec(network=name) for name in network.split()]
        made = await engine.containers.create(PodSpec(containers=[container], networks=endpoints), by=ADMIN)
        return made.id

    return create
