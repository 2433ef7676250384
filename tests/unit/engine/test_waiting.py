"""Guests that wait with a scratch disk and a share: whoever dies on the way, each is one pod's, or gone."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hypercontainer.engine.local import LocalEngine
from hypercontainer.factory.cache import CacheFactory
from hypercontainer.lib.trace import Timings
from hypercontainer.model.settings import Pool
from hypercontainer.model.spec import ContainerSpec, Mount, PodSpec
from hypercontainer.sandbox import rootfs
from hypercontainer.sandbox.pod import Pod
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
    assert (shares(world), mounts(world), scratches(world)) == ([], [], [])


def shares(world: World) -> list[str]:
    folder = Path(world.settings.run) / "shares"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def mounts(world: World) -> list[str]:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if point.startswith(world.settings.run)]


def scratches(world: World) -> list[Path]:
    """Those of guests that wait."""
    return list(Path(world.settings.root, "waiting").glob("*"))


async def a_container(engine: LocalEngine, folder: Path | None = None, **more: Any) -> str:
    mounts = [Mount(type="bind", source=str(folder), target="/data")] if folder else []
    made = ContainerSpec(image="busybox", command=["sleep", "1000"], mounts=mounts, **more)
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


@pytest.fixture
async def mounting(world: World, busybox_archive: Path) -> LocalEngine:
    """An engine where one without a share waits, which has mounted a scratch disk."""
    world.settings = msgspec.structs.replace(world.settings, pool=[Pool()])
    engine = await world.engine()
    await load(engine, busybox_archive)
    await engine.factory.init()
    return engine


def disk_of(pod: Pod) -> Path:
    [container] = pod.record.containers
    path = rootfs.of(container.rootfs).scratch
    assert path
    return path


async def test_the_disk_that_a_guest_has_mounted_is_a_new_containers_alone(world: World, mounting: LocalEngine) -> None:
    [waiting] = scratches(world)
    mounted = waiting.stat().st_ino
    id = await a_container(mounting)
    [pod] = mounting.supervisor.pods.values()
    assert not disk_of(pod).exists()
    await mounting.containers.start(id)
    assert disk_of(pod).stat().st_ino == mounted and not waiting.exists()
    await mounting.factory.init()
    await mounting.containers.restart(id, timeout_s=0)  # in the one that waits now: the container has a disk already
    assert pod.machine.vm and isinstance(guest := pod.machine.vm.guest, FakeGuest)
    assert (disk_of(pod).stat().st_ino, guest.disks[1].path, guest.agent.staged) == (mounted, str(disk_of(pod)), None)
    await mounting.containers.remove(id, force=True, volumes=False)


async def test_a_disk_of_another_size_is_made_for_it(world: World, mounting: LocalEngine) -> None:
    id = await a_container(mounting, scratch_mib=64)
    [pod] = mounting.supervisor.pods.values()
    await mounting.containers.start(id)
    assert disk_of(pod).stat().st_size == 64 << 20
    await mounting.containers.remove(id, force=True, volumes=False)


async def test_a_pod_that_begins_without_a_container_has_an_empty_slot(world: World, mounting: LocalEngine) -> None:
    one = ContainerSpec(image="busybox", name="one", command=["sleep", "1000"])
    pod = await mounting.pods.create(PodSpec(name="pod", containers=[one]), by=ADMIN)
    before = scratches(world)
    await mounting.pods.start(pod.id)
    assert not set(before).intersection(scratches(world))
    [guest] = [guest for guest in world.hypervisor.alive if guest.config.disks]
    assert isinstance(guest, FakeGuest) and guest.agent.staged is None
    assert guest.disks[1].path == str(disk_of(mounting.supervisor.pods[pod.id]))
    await mounting.pods.remove(pod.id, force=True, volumes=False)


@pytest.mark.parametrize("moment", ["made", "taken", "claim"])
async def test_an_engine_killed_as_a_disk_changes_hands_leaves_it_to_the_container_or_to_nobody(
    world: World, mounting: LocalEngine, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dead(*args: object) -> None:
        raise Killed

    [waiting] = scratches(world)
    mounted = waiting.stat().st_ino
    id = await a_container(mounting)
    [pod] = mounting.supervisor.pods.values()
    victim, name = {
        "made": (CacheFactory, "_claim"), "taken": (FakeGuest, "adopt"), "claim": (pod.machine, "_tell"),
    }[moment]  # fmt: skip
    monkeypatch.setattr(victim, name, dead)
    monkeypatch.setattr(CacheFactory, "_discard", dead)
    monkeypatch.setattr(pod.machine, "release", dead)
    with pytest.raises(Killed):
        await mounting.containers.start(id)
    monkeypatch.undo()
    again = await killed(world, mounting)
    await world.check_nothing_left()
    assert scratches(world) == []
    assert (disk_of(pod).stat().st_ino == mounted) == (moment != "made")
    await again.containers.start(id)
    await again.containers.remove(id, force=True, volumes=False)
    await world.check_nothing_left()
