"""Guests that wait with a share: whoever dies on the way, each share is one pod's, or gone."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from hypercontainer.engine.local import LocalEngine
from hypercontainer.factory.cache import CacheFactory
from hypercontainer.lib.trace import Timings
from hypercontainer.model.settings import Pool
from hypercontainer.model.spec import ContainerSpec, Mount, PodSpec
from hypercontainer.testing.fakes import FakeGuest
from tests.unit.engine.test_recovery import Killed, forsake
from tests.unit.engine.world import ADMIN, World, load

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts")


@pytest.fixture
async def world(world: World) -> AsyncIterator[World]:
    """In its engines one guest with a share waits."""
    world.settings = msgspec.structs.replace(world.settings, factory="cache", pool=[Pool(share=True)])
    yield world
    for engine in world.engines:
        await engine.close()
    assert (shares(world), mounts(world)) == ([], [])


def shares(world: World) -> list[str]:
    folder = Path(world.settings.run) / "shares"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def mounts(world: World) -> list[str]:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if point.startswith(world.settings.run)]


async def a_container(engine: LocalEngine, folder: Path) -> str:
    mount = Mount(type="bind", source=str(folder), target="/data")
    made = ContainerSpec(image="busybox", command=["sleep", "1000"], mounts=[mount])
    return (await engine.containers.create(PodSpec(containers=[made]), by=ADMIN)).id


async def killed(world: World, engine: LocalEngine) -> LocalEngine:
    """SIGKILL `engine`; the next one, where none is to wait."""
    await forsake(engine)
    factory = engine.host.factory
    assert isinstance(factory, CacheFactory) and factory._filler
    factory._filler.cancel()
    await asyncio.gather(factory._filler, return_exceptions=True)
    world.settings = msgspec.structs.replace(world.settings, pool=[])
    return await world.engine()


async def test_the_pods_folder_is_in_the_share_of_the_guest_that_waited(
    world: World, engine: LocalEngine, tmp_path: Path
) -> None:
    await engine.factory.init()
    [guest] = world.hypervisor.alive
    [waiting] = shares(world)
    tree = os.open(Path(world.settings.run, "shares", waiting, "tree"), os.O_PATH)  # as its virtiofsd has it
    seen = Path(f"/proc/self/fd/{tree}")
    assert os.listdir(seen) == []
    id = await a_container(engine, tmp_path)
    await engine.containers.start(id)
    [name] = os.listdir(seen)
    assert (seen / name).samefile(tmp_path)
    [pod] = engine.supervisor.pods.values()
    assert pod.machine.vm and pod.machine.vm.guest is guest
    await engine.factory.init()  # another one waits
    again = await killed(world, engine)
    assert shares(world) == [pod.record.id] and (seen / name).samefile(tmp_path)
    assert world.hypervisor.alive == [guest]
    await again.containers.remove(id, force=True, volumes=False)
    assert os.listdir(seen) == []
    os.close(tree)
    await world.check_nothing_left()


@pytest.mark.parametrize("moment", ["share", "claim", "pod", "rootfs"])
async def test_an_engine_killed_as_a_share_changes_hands_leaves_none(
    world: World, busybox_archive: Path, tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deadly(Timings):
        @contextmanager
        def step(self, name: str) -> Iterator[None]:
            yield
            if name == moment:
                raise Killed

    async def dead(*args: object) -> None:
        raise Killed

    engine = await world.engine(trace=Deadly)
    await load(engine, busybox_archive)
    await engine.factory.init()
    id = await a_container(engine, tmp_path)
    [pod] = engine.supervisor.pods.values()
    if moment == "share":  # it is the pod's, all else of the guest is not yet
        monkeypatch.setattr(FakeGuest, "adopt", dead)
    monkeypatch.setattr(CacheFactory, "_discard", dead)
    monkeypatch.setattr(pod.machine, "release", dead)
    monkeypatch.setattr(pod.machine, "power_off", dead)
    monkeypatch.setattr(pod.machine, "save", lambda: None)
    with pytest.raises(Killed):
        await engine.containers.start(id)
    assert pod.record.id in shares(world)
    monkeypatch.undo()
    again = await killed(world, engine)
    await world.check_nothing_left()
    assert mounts(world) == []
    await again.containers.start(id)
    assert shares(world) == [pod.record.id]
    await again.containers.remove(id, force=True, volumes=False)
    await world.check_nothing_left()
