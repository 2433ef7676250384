"""A hypervisor that can do no more than it must: what takes more is refused before anything is made."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import InUse, InvalidInput, Unavailable, Unsupported
from hypercontainer.hypervisor import registry
from hypercontainer.hypervisor.base import Feature
from hypercontainer.model.settings import Settings
from hypercontainer.model.spec import ContainerSpec, ContainerUpdate, Mount, PodSpec
from hypercontainer.testing.fakes import FakeHypervisor
from tests.unit.engine.world import ADMIN, Run, World, load

Call = Callable[[LocalEngine, str], Awaitable[object]]


@pytest.fixture
async def engine(world: World, busybox_archive: Path) -> LocalEngine:
    world.hypervisor = FakeHypervisor(features=frozenset())
    world.settings = msgspec.structs.replace(world.settings, factory="direct")
    engine = await world.engine()
    await load(engine, busybox_archive)
    return engine


async def test_containers_run_one_and_several_to_a_pod(engine: LocalEngine, create: Run, world: World) -> None:
    id = await create("true")
    await engine.containers.start(id)
    assert (await engine.containers.wait(id)).status_code == 0
    await engine.containers.remove(id, force=False, volumes=False)
    both = [ContainerSpec(image="busybox", name=name, command=["sleep", "1000"]) for name in ("a", "b")]
    await engine.pods.create(PodSpec(name="web", containers=both), by=ADMIN)
    await engine.pods.start("web")
    await engine.containers.kill("b", 9)
    await engine.containers.wait("b")
    await engine.containers.remove("b", force=False, volumes=False)  # its disks stay plugged until the machine ends
    assert await engine.containers.update("a", ContainerUpdate(pids=9))
    await engine.pods.remove("web", force=True, volumes=False)
    await world.check_nothing_left()


async def test_one_that_runs_is_taken_up_again(engine: LocalEngine, create: Run, world: World) -> None:
    id = await create("cat", open_stdin=True)
    await engine.containers.start(id)
    await engine.close()
    again = await world.engine()
    assert (await again.containers.inspect(id)).state.status == "running"
    await again.containers.remove(id, force=True, volumes=False)
    await world.check_nothing_left()


RUNNING: dict[str, Call] = {
    "fork web": lambda engine, c: engine.snapshots.fork(c, count=1, name="", ports=[]),
    "suspend web": lambda engine, c: engine.snapshots.suspend(c),
    "checkpoint web": lambda engine, c: engine.snapshots.create(c, "one", leave_running=True),
    "change the size of web while it runs": lambda engine, c: engine.containers.update(
        c, ContainerUpdate(memory_mib=4096)
    ),
}


@pytest.mark.parametrize("doing", RUNNING)
async def test_what_takes_more_leaves_one_that_runs_as_it_is(
    engine: LocalEngine, create: Run, world: World, doing: str
) -> None:
    id = await create("cat", open_stdin=True, name="web")
    await engine.containers.start(id)
    before = await engine.containers.inspect(id)
    with pytest.raises(Unsupported, match=f"^cannot {doing}: not with Fake$"):
        await RUNNING[doing](engine, id)
    assert await engine.containers.inspect(id) == before
    assert [c.id for c in await engine.containers.list(all=True, size=False, filters={})] == [id]
    await engine.containers.remove(id, force=True, volumes=False)
    await world.check_nothing_left()


async def test_one_that_stands_still_may_have_another_size(engine: LocalEngine, create: Run) -> None:
    id = await create("true")
    await engine.containers.update(id, ContainerUpdate(memory_mib=4096))
    assert (await engine.containers.inspect(id)).host_config.memory == 4096 << 20


@pytest.mark.parametrize(
    "mount", [Mount(type="bind", source="/tmp", target="/data"), Mount(type="volume", source="kept", target="/data")]
)
async def test_a_container_with_a_folder_is_not_made(engine: LocalEngine, create: Run, mount: Mount) -> None:
    with pytest.raises(Unsupported, match=r"^cannot mount a volume or a folder at /data in web: not with Fake$"):
        await create("true", mounts=[mount], name="web")
    assert await engine.containers.list(all=True, size=False, filters={}) == []
    assert await engine.volumes.list({}) == []


async def test_a_container_with_a_folder_in_memory_is_made(engine: LocalEngine, create: Run) -> None:
    id = await create("true", mounts=[Mount(type="tmpfs", target="/data")])
    await engine.containers.start(id)
    assert (await engine.containers.wait(id)).status_code == 0


async def test_a_pod_that_runs_gets_no_container_more(engine: LocalEngine, world: World) -> None:
    first, second = (ContainerSpec(image="busybox", name=name, command=["sleep", "1000"]) for name in ("a", "b"))
    await engine.pods.create(PodSpec(name="web", containers=[first]), by=ADMIN)
    await engine.pods.start("web")
    with pytest.raises(Unsupported, match=r"^cannot add b to pod web while that runs: not with Fake$"):
        await engine.pods.add("web", second, by=ADMIN)
    await engine.pods.stop("web", 1)
    await engine.pods.add("web", second, by=ADMIN)
    await engine.pods.start("web")
    assert len(world.hypervisor.alive[0].disks) == 4
    await engine.pods.remove("web", force=True, volumes=False)


@pytest.mark.parametrize("factory", ["template", "cache"])
async def test_a_factory_that_takes_more_is_refused_at_once(world: World, factory: str) -> None:
    world.hypervisor = FakeHypervisor(features=frozenset())
    world.settings = msgspec.structs.replace(world.settings, factory=factory)
    with pytest.raises(Unsupported, match=r'^cannot clone virtual machines, as factory = "template" or "cache" is to'):
        await world.engine()


async def test_guests_that_cannot_be_another_ones_do_not_wait(world: World) -> None:
    world.hypervisor = FakeHypervisor(features=frozenset(Feature) - {Feature.ADOPT})
    world.settings = msgspec.structs.replace(world.settings, factory="cache")
    with pytest.raises(Unsupported, match=r'^cannot have virtual machines wait, as factory = "cache" is to'):
        await world.engine()


async def test_what_another_hypervisor_has_saved_is_not_gone_on_with(world: World, busybox_archive: Path) -> None:
    engine = await world.engine()
    await load(engine, busybox_archive)
    made = [
        await engine.containers.create(
            PodSpec(containers=[ContainerSpec(image="busybox", name=name, command=["cat"], open_stdin=True)]), by=ADMIN
        )
        for name in ("sleeps", "runs")
    ]
    for one in made:
        await engine.containers.start(one.id)
    await engine.snapshots.suspend("sleeps")
    await engine.snapshots.create("runs", "one", leave_running=True)
    await engine.containers.remove("runs", force=True, volumes=False)
    await engine.close()
    world.hypervisor = FakeHypervisor(features=frozenset())
    world.settings = msgspec.structs.replace(world.settings, factory="direct")
    engine = await world.engine()
    with pytest.raises(Unsupported, match=r"^cannot resume sleeps: not with Fake$"):
        await engine.snapshots.resume("sleeps")
    with pytest.raises(Unsupported, match=r"^cannot restore runs: not with Fake$"):
        await engine.snapshots.restore(made[1].id, "one", name="")
    assert [c.names for c in await engine.containers.list(all=True, size=False, filters={})] == [["/sleeps"]]
    await world.check_nothing_left()


async def test_a_hypervisor_that_is_missing_is_told_at_create(engine: LocalEngine, create: Run, world: World) -> None:
    world.hypervisor.missing = "cannot use Fake: it is not here"
    with pytest.raises(Unavailable, match=r"^cannot use Fake: it is not here$"):
        await create("cat", name="c")
    told = await engine.system.info()
    assert told.hypervisor.version == "" and world.hypervisor.missing in told.warnings
    failed = [check.detail for check in (await engine.system.doctor()).checks if check.status == "failed"]
    assert world.hypervisor.missing in failed
    world.hypervisor.missing = ""
    await create("cat", name="c")


async def test_doctor_says_what_a_hypervisor_that_is_behind_needs(engine: LocalEngine, world: World) -> None:
    async def check() -> tuple[str, str]:
        [found] = [check for check in (await engine.system.doctor()).checks if check.name == "Fake"]
        return found.status, found.advice

    assert await check() == ("ok", "")
    world.hypervisor.old = "build it again"
    assert await check() == ("warning", "build it again")


def test_a_hypervisor_that_there_is_not_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"^cannot use hypervisor 'vmware': there is qemu, libvirt, kvmtool, xen$"):
        LocalEngine(Settings(root=str(tmp_path / "lib"), run=str(tmp_path / "run"), hypervisor="vmware"))


@pytest.mark.parametrize("name", registry.DRIVERS)
def test_a_driver_has_the_name_that_it_is_found_by(name: str) -> None:
    assert registry.load(Settings(hypervisor=name)).name == name


async def test_what_runs_with_one_hypervisor_is_not_left_to_another(
    engine: LocalEngine, create: Run, world: World
) -> None:
    id = await create("cat", open_stdin=True)
    await engine.containers.start(id)
    await engine.close()
    world.hypervisor.name = "other"
    with pytest.raises(InUse, match=r"^cannot run guests with other: pod \w+ runs with fake; "):
        await world.engine()
    assert len(world.hypervisor.alive) == 1
    world.hypervisor.name = "fake"
    again = await world.engine()
    await again.containers.remove(id, force=True, volumes=False)
    await world.check_nothing_left()
