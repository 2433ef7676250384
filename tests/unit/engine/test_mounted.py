"""Volumes that are file systems of their own: mounted for whoever runs, over a kill of hyperd, and for nobody else."""

import os
from collections.abc import AsyncIterator

import pytest

from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import InvalidInput
from hypercontainer.lib import mount
from hypercontainer.model.spec import Mount
from hypercontainer.storage.mounted import NotMounted
from tests.unit.engine.test_recovery import forsake
from tests.unit.engine.world import ADMIN, Run, World

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting is for root")
TMPFS = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}


@pytest.fixture
async def fast(engine: LocalEngine) -> AsyncIterator[Mount]:
    """Of a volume that is a tmpfs."""
    await engine.volumes.create("fast", {}, by=ADMIN, options=TMPFS)
    yield Mount(type="volume", source="fast", target="/fast")
    assert there(engine) is None


def there(engine: LocalEngine) -> list[str] | None:
    """What is in it; None: it is not mounted."""
    folder = engine.host.volumes.path("fast")
    return os.listdir(folder) if mount.mounted(folder) else None


async def test_it_is_mounted_while_somebody_who_has_it_runs(engine: LocalEngine, create: Run, fast: Mount) -> None:
    first, second = await create("sleep", mounts=[fast]), await create("sleep", mounts=[fast])
    assert there(engine) is None
    await engine.containers.start(first)
    (engine.host.volumes.path("fast") / "x").touch()
    await engine.containers.start(second)
    await engine.containers.stop(first, timeout_s=0)
    assert there(engine) == ["x"]
    await engine.containers.stop(second, timeout_s=0)
    assert there(engine) is None
    await engine.containers.start(first)
    assert there(engine) == []
    await engine.containers.remove(first, force=True, volumes=False)
    assert (await engine.volumes.inspect("fast")).options == TMPFS


async def test_nothing_of_its_image_is_copied_there(engine: LocalEngine, create: Run, fast: Mount) -> None:
    id = await create("sleep", mounts=[fast, Mount(type="volume", source="kept", target="/kept")])
    assert [m.populate for m in engine.supervisor.find(id)[1].record.mounts] == [False, True]


async def test_it_stays_over_a_kill_while_its_user_runs(
    world: World, engine: LocalEngine, create: Run, fast: Mount
) -> None:
    id = await create("sleep", mounts=[fast])
    await engine.containers.start(id)
    (engine.host.volumes.path("fast") / "x").touch()
    await forsake(engine)
    again = await world.engine()
    assert there(again) == ["x"]
    await forsake(again)
    for guest in world.hypervisor.alive:
        await guest.kill()
    last = await world.engine()
    assert there(last) is None
    await last.containers.remove(id, force=True, volumes=False)


async def test_one_that_cannot_start_lets_go_of_it(engine: LocalEngine, create: Run, fast: Mount) -> None:
    broken = Mount(type="volume", source="broken", target="/broken")
    await engine.volumes.create("broken", {}, by=ADMIN, options={"type": "nosuchfs", "device": "none"})
    with pytest.raises(NotMounted, match=r"failed to mount local volume: .*: no such device"):
        await engine.containers.start(await create("sleep", name="one", mounts=[fast, broken]))
    assert there(engine) is None
    part = Mount(type="volume", source="fast", target="/fast", subpath="none")
    with pytest.raises(InvalidInput, match=r"cannot access path .*/none: no such file or directory"):
        await engine.containers.start(await create("sleep", name="two", mounts=[part]))
    assert there(engine) is None
