"""Other sizes for a container that exists: what its guest is told, what is written down, what is refused."""

import errno
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from hypercontainer.agent.messages import Cgroup
from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import InUse, InvalidInput, WrongState
from hypercontainer.hypervisor.base import Limits
from hypercontainer.model.record import PodRecord
from hypercontainer.model.spec import ContainerSpec, ContainerUpdate, PodSpec, RestartPolicy
from hypercontainer.testing.fakes import FakeGuest, Refused
from tests.unit.engine.test_recovery import forsake
from tests.unit.engine.world import ADMIN, Run, World, load

Update = Callable[..., Awaitable[list[str]]]


@pytest.fixture
async def engine(world: World, busybox_archive: Path) -> LocalEngine:
    """Of a host whose usual VM is small enough to grow."""
    world.settings = msgspec.structs.replace(world.settings, memory_mib=256)
    engine = await world.engine()
    await load(engine, busybox_archive)
    return engine


@pytest.fixture
def update(engine: LocalEngine) -> Update:
    """update(c, cpus=2): its warnings."""

    async def update(c: str, **wanted: object) -> list[str]:
        return (await engine.containers.update(c, ContainerUpdate(**wanted))).warnings  # type: ignore[arg-type]

    return update


def guest(world: World) -> FakeGuest:
    return world.hypervisor.alive[0]


def record(engine: LocalEngine, id: str) -> PodRecord:
    """As it is on disk."""
    folder, _ = engine.supervisor.find(id)
    return next(r for r in engine.host.pods.load()[0] if r.id == folder.record.id)


async def running(engine: LocalEngine, create: Run, *command: str, **spec: object) -> str:
    id = await create(*(command or ("cat",)), open_stdin=True, **spec)
    await engine.containers.start(id)
    return id


async def test_one_that_runs_is_larger_at_once_and_smaller_again(
    engine: LocalEngine, create: Run, world: World, update: Update
) -> None:
    id = await running(engine, create)
    assert await update(id, cpus=1.5, memory_mib=1024) == []
    assert (guest(world).agent.cpus, guest(world).added_mib) == (2, 1024 - 256)
    assert (record(engine, id).spec.vcpus, record(engine, id).spec.memory_mib) == (2, 1024)
    document = await engine.containers.inspect(id)
    assert document.vm and (document.vm.vcpus, document.vm.memory_mib) == (2, 1024)
    assert document.host_config.memory == 1024 << 20
    assert await update(id, cpus=1, memory_mib=256) == []
    assert (guest(world).agent.cpus, guest(world).added_mib) == (1, 0)
    await engine.containers.remove(id, force=True, volumes=False)
    await world.check_nothing_left()


async def test_one_that_does_not_run_is_so_from_its_next_start(
    engine: LocalEngine, create: Run, world: World, update: Update
) -> None:
    id = await create("cat", open_stdin=True)
    await update(id, cpus=3, memory_mib=512, pids=7)
    await engine.containers.start(id)
    config = guest(world).config
    assert (config.vcpus, config.memory_mib) == (3, 512)
    assert guest(world).agent.containers[id].cgroup.pids == 7
    await engine.containers.remove(id, force=True, volumes=False)


async def test_a_limit_of_processes_is_set_and_lifted_and_the_machine_stays_as_it_is(
    engine: LocalEngine, create: Run, world: World, update: Update
) -> None:
    id = await running(engine, create)
    await update(id, pids=5)
    agent = guest(world).agent
    assert agent.containers[id].cgroup.pids == 5
    assert not any(op == "pod.resize" for op, _ in agent.requests)
    await update(id, pids=0)
    assert agent.containers[id].cgroup.pids == 0
    await engine.containers.remove(id, force=True, volumes=False)


async def test_what_is_written_down_already_the_guest_is_told_again(
    engine: LocalEngine, create: Run, world: World, update: Update
) -> None:
    """A hyperd before us was killed between the two."""
    id = await running(engine, create)
    await update(id, pids=5)
    containers = guest(world).agent.containers
    containers[id] = msgspec.structs.replace(containers[id], cgroup=Cgroup())
    await update(id, pids=5)
    assert containers[id].cgroup.pids == 5
    await engine.containers.remove(id, force=True, volumes=False)


async def test_the_next_hyperd_tells_what_was_written_down(
    engine: LocalEngine, create: Run, world: World, update: Update, caplog: pytest.LogCaptureFixture
) -> None:
    id = await running(engine, create)
    await update(id, pids=5, memory_mib=512)
    agent = guest(world).agent
    told = agent.containers[id]
    agent.containers[id] = msgspec.structs.replace(told, cgroup=Cgroup())
    await forsake(engine)
    second = await world.engine()
    assert agent.containers[id] == told

    def refuse(args: dict[str, object]) -> object:
        raise Refused(errno.EBUSY, "it uses more than that")

    agent.answers["container.update"] = refuse
    await forsake(second)
    third = await world.engine()
    assert "its limits may not be those that it should have: " in caplog.text
    assert (await third.containers.inspect(id)).state.status == "running"
    await third.containers.remove(id, force=True, volumes=False)


async def test_what_clients_of_docker_s_are_told_again_is_kept(
    engine: LocalEngine, create: Run, world: World, update: Update
) -> None:
    id = await running(engine, create, as_asked={"CpusetCpus": "0", "PidMode": "host"})
    await engine.containers.pause(id)
    assert await update(id, as_asked={"CpusetCpus": "1"}) == []
    document = await engine.containers.inspect(id)
    assert document.as_asked == record(engine, id).containers[0].spec.as_asked == {"CpusetCpus": "1", "PidMode": "host"}
    await engine.containers.remove(id, force=True, volumes=False)


async def test_less_than_it_started_with_is_a_limit_inside(
    engine: LocalEngine, create: Run, world: World, update: Update
) -> None:
    """What a machine was started with stays its own."""
    id = await create("cat", open_stdin=True)
    await update(id, memory_mib=512)
    await engine.containers.start(id)
    (warning,) = await update(id, memory_mib=300)
    assert "keeps 512 MiB of memory until it is started again" in warning and "may use 300 MiB" in warning
    assert guest(world).agent.containers[id].cgroup.memory_bytes == 300 << 20
    assert await update(id, pids=3)  # it still is
    assert guest(world).agent.containers[id].cgroup.memory_bytes == 300 << 20
    (warning,) = await update(id, memory_mib=64)
    assert "may use 64 MiB" in warning
    assert guest(world).agent.containers[id].cgroup.memory_bytes == 64 << 20
    assert await update(id, memory_mib=512) == []
    assert guest(world).agent.containers[id].cgroup.memory_bytes == 0
    await engine.containers.remove(id, force=True, volumes=False)


async def test_less_than_a_usual_machine_has_is_a_limit_in_a_usual_machine(
    engine: LocalEngine, world: World, update: Update
) -> None:
    """However little: the kernel's part is not counted. What was asked for is shown, and may change while it runs."""
    spec = ContainerSpec(image="busybox", name="small", command=["cat"], open_stdin=True)
    await engine.containers.create(PodSpec(memory_mib=6, containers=[spec]), by=ADMIN)
    await engine.containers.start("small")
    document, agent = await engine.containers.inspect("small"), guest(world).agent
    assert guest(world).config.memory_mib == 256
    assert agent.containers[document.id].cgroup.memory_bytes == document.host_config.memory == 6 << 20
    assert document.vm and document.vm.memory_mib == 256
    for mib, limit_mib, added_mib in ((64, 64, 0), (512, 0, 256), (100, 100, 0), (256, 0, 0)):
        assert await update("small", memory_mib=mib) == []
        assert agent.containers[document.id].cgroup.memory_bytes == limit_mib << 20
        assert guest(world).added_mib == added_mib
        assert (await engine.containers.inspect("small")).host_config.memory == mib << 20
    await engine.containers.remove("small", force=True, volumes=False)
    await world.check_nothing_left()


async def test_memory_that_does_not_come_back_is_said(
    engine: LocalEngine, create: Run, world: World, update: Update
) -> None:
    id = await running(engine, create)
    await update(id, memory_mib=1024)
    guest(world).stuck_mib = 40
    (warning,) = await update(id, memory_mib=256)
    assert "keeps 296 MiB" in warning and "may use 256 MiB" in warning
    assert record(engine, id).spec.memory_mib == 256
    await engine.containers.remove(id, force=True, volumes=False)


async def test_memory_in_use_is_not_taken_and_nothing_has_changed(
    engine: LocalEngine, create: Run, world: World, update: Update
) -> None:
    id = await running(engine, create)
    await update(id, memory_mib=1024)
    guest(world).agent.used_kib = 700 << 10
    before = record(engine, id)
    with pytest.raises(InUse, match="700 MiB of 1024 are in use"):
        await update(id, cpus=2, memory_mib=256, pids=3)
    assert record(engine, id) == before
    assert (guest(world).agent.cpus, guest(world).added_mib) == (1, 1024 - 256)
    assert guest(world).agent.containers[id].cgroup.pids == 0
    await engine.containers.remove(id, force=True, volumes=False)


async def test_a_limit_that_the_guest_refuses_leaves_the_machine_as_it_was(
    engine: LocalEngine, create: Run, world: World, update: Update
) -> None:
    id = await running(engine, create)

    def refuse(args: dict[str, object]) -> object:
        raise Refused(errno.EBUSY, "limit memory to 1 bytes of which 2 are in use: device or resource busy")

    guest(world).agent.answers["container.update"] = refuse
    before = record(engine, id)
    with pytest.raises(InUse, match="cannot limit memory"):
        await update(id, cpus=4, memory_mib=512)
    assert record(engine, id) == before
    assert (guest(world).agent.cpus, guest(world).added_mib) == (1, 0)
    await engine.containers.remove(id, force=True, volumes=False)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"cpus": 9}, "cannot give a running virtual machine 9 vCPUs"),
        ({"memory_mib": 20000}, "cannot give a running virtual machine 20000 MiB"),
        ({"cpus": 65}, "invalid cpus 65"),
        ({"cpus": -1}, "invalid cpus -1"),
        ({"cpus": float("nan")}, "invalid cpus nan"),
        ({"memory_mib": 5}, "cannot limit memory to 5 MiB: 6 to"),
        ({"memory_mib": -1}, "cannot limit memory to -1 MiB: 6 to"),
        ({"pids": -1}, "invalid pids -1"),
        ({"restart": RestartPolicy(name="on-failure", max_retries=-1)}, "invalid restart.max_retries"),
    ],
)
async def test_what_is_absurd_is_refused(
    engine: LocalEngine, create: Run, world: World, update: Update, wanted: dict[str, object], words: str
) -> None:
    id = await running(engine, create)
    before = record(engine, id)
    with pytest.raises(InvalidInput, match=words):
        await update(id, **wanted)
    assert record(engine, id) == before
    await engine.containers.remove(id, force=True, volumes=False)


async def test_a_pods_machine_grows_for_a_limit_and_never_shrinks_for_one(
    engine: LocalEngine, world: World, update: Update
) -> None:
    specs = [ContainerSpec(image="busybox", name=name, command=["cat"], open_stdin=True) for name in ("a", "b")]
    pod = await engine.pods.create(PodSpec(name="p", memory_mib=256, containers=specs), by=ADMIN)
    await engine.pods.start(pod.id)
    a, b = (await engine.containers.inspect("a")).id, (await engine.containers.inspect("b")).id
    agent = guest(world).agent
    await update("a", cpus=0.5, memory_mib=64)
    assert agent.containers[a].cgroup.memory_bytes == 64 << 20
    assert agent.containers[a].cgroup.cpu_quota_us == 50_000
    assert agent.containers[b].cgroup.memory_bytes == 0
    assert (agent.cpus, guest(world).added_mib) == (1, 0)
    await update("b", cpus=2.5, memory_mib=512)
    assert (agent.cpus, guest(world).added_mib) == (3, 256)
    await update("b", cpus=0, memory_mib=0)
    assert agent.containers[b].cgroup == Cgroup()
    assert (agent.cpus, guest(world).added_mib) == (3, 256)
    await engine.pods.remove(pod.id, force=True, volumes=False)
    await world.check_nothing_left()


async def test_a_container_that_has_ended_in_a_pod_that_runs_has_its_limits_when_it_starts_again(
    engine: LocalEngine, world: World, update: Update
) -> None:
    specs = [
        ContainerSpec(image="busybox", name="a", command=["cat"], open_stdin=True),
        ContainerSpec(image="busybox", name="b", command=["true"]),
    ]
    pod = await engine.pods.create(PodSpec(name="p", containers=specs), by=ADMIN)
    await engine.pods.start(pod.id)
    await engine.containers.wait("b")
    await update("b", pids=9)
    assert guest(world).agent.containers[(await engine.containers.inspect("b")).id].cgroup.pids == 9
    await engine.pods.remove(pod.id, force=True, volumes=False)


async def test_one_that_is_paused_takes_a_restart_policy_and_no_size(
    engine: LocalEngine, create: Run, update: Update
) -> None:
    id = await running(engine, create)
    await engine.containers.pause(id)
    with pytest.raises(WrongState, match="paused: it cannot take up another size"):
        await update(id, cpus=2)
    await update(id, restart=RestartPolicy(name="always"))
    assert (await engine.containers.inspect(id)).host_config.restart_policy.name == "always"
    await update(id, restart=RestartPolicy())
    await engine.containers.remove(id, force=True, volumes=False)


async def test_one_that_removes_itself_is_not_restarted(engine: LocalEngine, create: Run, update: Update) -> None:
    id = await create("true", auto_remove=True)
    with pytest.raises(InvalidInput, match="it removes itself when it ends"):
        await update(id, restart=RestartPolicy(name="always"))
    await update(id, restart=RestartPolicy(name="no"))


async def test_a_policy_that_is_new_counts_at_the_next_end(engine: LocalEngine, create: Run, update: Update) -> None:
    id = await running(engine, create)
    await update(id, restart=RestartPolicy(name="on-failure", max_retries=2))
    assert engine.supervisor.find(id)[1].record.spec.restart.max_retries == 2
    await engine.containers.remove(id, force=True, volumes=False)


async def test_a_restart_keeps_it_and_does_what_was_cut_short(
    engine: LocalEngine, create: Run, world: World, update: Update
) -> None:
    id = await running(engine, create)
    await update(id, cpus=2, memory_mib=512)
    pod, _ = engine.supervisor.find(id)
    pod.record.spec = msgspec.structs.replace(pod.record.spec, vcpus=4)
    pod.machine.save()  # as a hyperd leaves it that is killed in the middle of an update
    await engine.close()
    later = await world.engine()
    assert (guest(world).agent.cpus, guest(world).added_mib) == (4, 256)
    assert (await later.containers.inspect(id)).vm is not None
    await later.containers.remove(id, force=True, volumes=False)
    await world.check_nothing_left()


async def test_it_is_an_event(engine: LocalEngine, create: Run, update: Update) -> None:
    id = await create("true")
    await update(id, pids=3)
    events = await engine.system.events(0, None, {"event": ["update"]})
    async for event in events:
        assert event.actor.id == id
        break
    await events.aclose()


async def test_the_host_holds_the_machine_to_what_is_asked_for_now(
    engine: LocalEngine, create: Run, world: World, update: Update
) -> None:
    id = await running(engine, create)
    assert guest(world).limits == Limits()
    await update(id, cpus=1, cpu_shares=512)
    shares = Limits(cpu_shares=512)
    assert guest(world).limits == shares  # the processors of one that is alone are its machine's
    pod, container = engine.supervisor.find(id)
    async with pod.locked():
        resources = msgspec.structs.replace(container.record.config.resources, cpu_quota_us=50_000)
        container.record.config = msgspec.structs.replace(container.record.config, resources=resources)
        pod.machine.save()
        await pod.machine.hold([container.record])
    held = Limits(cpu_quota_us=75_000, cpu_shares=512)
    assert guest(world).limits == held
    guest(world).limits = Limits()
    await forsake(engine)
    await world.engine()
    assert guest(world).limits == held
