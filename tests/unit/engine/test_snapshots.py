"""Forks, suspended containers, checkpoints: over machines that are none."""

import asyncio
import errno
from pathlib import Path

import pytest

from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import (
    AlreadyExists,
    Exhausted,
    GuestError,
    GuestSilent,
    HyperError,
    InUse,
    InvalidInput,
    NotFound,
    WrongState,
)
from hypercontainer.model.record import PodRecord, PortRecord
from hypercontainer.model.spec import ContainerSpec, Mount, PodSpec, PortMapping
from hypercontainer.sandbox.pod import Pod
from hypercontainer.sandbox.snapshot import restore
from hypercontainer.sandbox.snapshot.fork import only
from hypercontainer.testing.fakes import FakeGuest, FakeProcess
from tests.unit.engine.world import ADMIN, Run, World


async def say(process: FakeProcess) -> int:
    """Write each line that comes; where it goes on it begins with a word of its own."""
    await process.write(b"awake\n")
    while data := await process.read():
        await process.write(data)
    return 3


@pytest.fixture(autouse=True)
def programs(world: World) -> None:
    make = world.hypervisor.make_agent

    def agent() -> object:
        made = make()
        made.programs["say"] = say
        return made

    world.hypervisor.make_agent = agent  # type: ignore[assignment]


def disk(pod: Pod) -> Path:
    return only(pod).scratch


def guest(world: World, engine: LocalEngine, id: str) -> FakeGuest:
    pod, _ = engine.supervisor.find(id)
    return world.hypervisor.guests[str(engine.host.site.run_dir(pod.record.id))]


async def logged(engine: LocalEngine, id: str, lines: int) -> str:
    """The log, once it has so many lines."""
    said = b""
    async with asyncio.timeout(60):
        while said.count(b"\n") < lines:
            said = b"".join([e.data async for e in await everything(engine, id)])
            await asyncio.sleep(0)
    return said.decode()


async def everything(engine: LocalEngine, id: str):  # type: ignore[no-untyped-def]
    return await engine.containers.logs(
        id, follow=False, since_ns=None, until_ns=None, tail=None, stdout=True, stderr=True
    )


async def running(engine: LocalEngine, create: Run, **spec: object) -> str:
    id = await create("say", open_stdin=True, **spec)
    await engine.containers.start(id)
    assert await logged(engine, id, 1) == "awake\n"
    return id


async def test_forks_go_on_with_names_addresses_and_logs_of_their_own(
    world: World, engine: LocalEngine, create: Run
) -> None:
    id = await running(engine, create)
    made = (await engine.snapshots.fork(id, count=3, name="twin", ports=[])).ids
    documents = [await engine.containers.inspect(c) for c in made]
    assert [d.name for d in documents] == ["/twin-1", "/twin-2", "/twin-3"]
    assert {d.state.status for d in documents} == {"running"}
    source = await engine.containers.inspect(id)
    assert source.state.status == "running"
    assert len({d.network_settings.mac_address for d in [source, *documents]}) == 4
    for c in made:
        setup = guest(world, engine, c).agent.pod
        assert setup
        assert setup.hostname == c[:12]
        assert setup.interfaces[0].hardware == source.network_settings.mac_address
        assert guest(world, engine, c).agent.frozen == set()
        assert list(guest(world, engine, c).agent.containers) == [c]
        assert await logged(engine, c, 1) == "awake\n"  # its own: the source's is not in it
    assert guest(world, engine, id).agent.frozen == set()
    assert not guest(world, engine, id).paused
    assert await logged(engine, id, 1) == "awake\n"


async def test_a_fork_answers_ends_and_is_removed_like_any_other(
    world: World, engine: LocalEngine, create: Run
) -> None:
    id = await running(engine, create)
    (fork,) = (await engine.snapshots.fork(id, count=1, name="", ports=[])).ids
    session = await engine.containers.attach(fork, stdin=True, stdout=True, stderr=False, logs=False, start=False)
    await session.write(b"hello\n")
    await session.close_stdin()
    assert await session.wait() == 3
    assert "hello" in await logged(engine, fork, 2)
    assert "hello" not in await logged(engine, id, 1)
    await session.detach()
    await engine.containers.remove(fork, force=True, volumes=False)
    await engine.containers.remove(id, force=True, volumes=False)
    await world.check_nothing_left()


async def test_the_disk_is_copied_as_it_is(world: World, engine: LocalEngine, create: Run) -> None:
    id = await running(engine, create)
    path = disk(engine.supervisor.find(id)[0])
    before = path.read_bytes()
    made = (await engine.snapshots.fork(id, count=2, name="", ports=[])).ids
    path.write_bytes(b"later")
    for c in made:
        assert disk(engine.supervisor.find(c)[0]).read_bytes() == before
        assert disk(engine.supervisor.find(c)[0]).stat().st_ino != path.stat().st_ino


async def test_fixed_ports_stay_with_the_source(engine: LocalEngine) -> None:
    ports = [PortMapping(container_port=80, host_port=8080), PortMapping(container_port=81)]
    ports.append(PortMapping(container_port=83, host_port=18100, host_port_last=18102))
    container = ContainerSpec(image="busybox", command=["sleep"])
    made = await engine.containers.create(PodSpec(containers=[container], ports=ports), by=ADMIN)
    await engine.containers.start(made.id)
    (fork,) = (
        await engine.snapshots.fork(made.id, count=1, name="", ports=[PortMapping(container_port=82, host_port=9)])
    ).ids
    bindings = (await engine.containers.inspect(made.id)).host_config.port_bindings
    assert {key: [host.host_port for host in hosts] for key, hosts in bindings.items()} == {
        "80/tcp": ["8080"], "81/tcp": [""], "83/tcp": ["18100-18102"]
    }  # fmt: skip
    kept = engine.supervisor.find(fork)[0].record.spec.ports
    assert [(p.container_port, p.host_port) for p in kept] == [(81, 0), (82, 9)]


async def test_what_cannot_be_copied_is_refused_in_words(
    world: World, engine: LocalEngine, create: Run, tmp_path: Path
) -> None:
    stopped = await create("sleep")
    tied = await create("sleep", mounts=[Mount(type="bind", source=str(tmp_path), target="/data")])
    await engine.containers.start(tied)
    pod = await engine.pods.create(
        PodSpec(name="pod", containers=[ContainerSpec(image="busybox", command=["sleep"])]), by=ADMIN
    )
    await engine.pods.start(pod.id)
    paused = await create("sleep")
    await engine.containers.start(paused)
    await engine.containers.pause(paused)
    for c, why in ((stopped, "created"), (tied, "/data"), ("pod-0", "pod pod"), (paused, "paused")):
        for call in (
            engine.snapshots.fork(c, count=1, name="", ports=[]),
            engine.snapshots.suspend(c),
            engine.snapshots.create(c, "k", leave_running=True),
        ):
            with pytest.raises(WrongState, match=why):
                await call
    with pytest.raises(InvalidInput):
        await engine.snapshots.fork(stopped, count=0, name="", ports=[])
    with pytest.raises(AlreadyExists):
        await engine.snapshots.fork(paused, count=1, name="pod-0", ports=[])
    await engine.containers.remove(tied, force=True, volumes=False)  # its bind mount is a real one


async def test_a_failed_fork_leaves_nothing_and_the_source_goes_on(
    world: World, engine: LocalEngine, create: Run
) -> None:
    id = await running(engine, create)
    source = guest(world, engine, id)
    for failure in (Exhausted("cannot keep the guest's memory: No space left on device"), GuestError("cannot")):
        source.fail_dump = failure
        with pytest.raises(type(failure), match=str(failure)):
            await engine.snapshots.fork(id, count=2, name="twin", ports=[])
        assert (source.paused, source.agent.frozen) == (False, set())
    source.fail_dump, world.hypervisor.fail_clones = None, "broken"
    with pytest.raises(HyperError, match="broken"):
        await engine.snapshots.fork(id, count=2, name="twin", ports=[])
    world.hypervisor.fail_clones = ""
    assert [c.id for c in await engine.containers.list(all=True, filters={})] == [id]
    assert len(world.hypervisor.alive) == 1
    assert [p.name for p in engine.host.pods.root.iterdir()] == [engine.supervisor.find(id)[0].record.id]
    await engine.snapshots.fork(id, count=2, name="twin", ports=[])


async def test_suspended_it_holds_nothing_and_goes_on_when_it_is_resumed(
    world: World, engine: LocalEngine, create: Run
) -> None:
    id = await running(engine, create)
    address = (await engine.containers.inspect(id)).network_settings.ip_address
    waiting = asyncio.create_task(engine.containers.wait(id))
    session = await engine.containers.attach(id, stdin=True, stdout=True, stderr=True, logs=False, start=False)
    await engine.snapshots.suspend(id)
    assert (world.hypervisor.alive, world.network.nics) == ([], {})
    entry = (await engine.containers.list(all=False, filters={}))[0]
    assert (entry.state, entry.status) == ("suspended", "Suspended")
    assert (await engine.pods.inspect(id[:0] or entry.pod.id)).state == "suspended"
    with pytest.raises(WrongState, match="suspended"):
        await session.wait()
    await session.detach()
    assert [p.state for p in await engine.pods.list(all=False, filters={})] == ["suspended"]
    refused = (
        engine.containers.start(id),
        engine.containers.stop(id, 1),
        engine.containers.kill(id, 15),
        engine.containers.pause(id),
        engine.snapshots.suspend(id),
    )
    for call in (*refused, engine.pods.start(entry.pod.id)):
        with pytest.raises(WrongState, match="suspended"):
            await call
    with pytest.raises(WrongState, match="suspended"):
        await engine.containers.remove(id, force=False, volumes=False)
    assert world.hypervisor.alive == []
    await engine.snapshots.resume(id)
    assert (await engine.containers.inspect(id)).network_settings.ip_address == address
    assert await logged(engine, id, 2) == "awake\nawake\n"
    assert not waiting.done()
    with pytest.raises(WrongState, match="it is running: it was not suspended"):
        await engine.snapshots.resume(id)
    await engine.containers.kill(id, 9)
    assert (await waiting).status_code == 137


async def test_a_suspended_container_outlives_hyperd_and_is_removed_by_force(
    world: World, engine: LocalEngine, create: Run
) -> None:
    id = await running(engine, create)
    await engine.snapshots.suspend(id)
    await engine.close()
    again = await world.engine()
    assert (await again.containers.inspect(id)).state.status == "suspended"
    await again.snapshots.resume(id)
    assert await logged(again, id, 2) == "awake\nawake\n"
    await again.snapshots.suspend(id)
    waiting = asyncio.create_task(again.containers.wait(id))
    await asyncio.sleep(0)
    await again.containers.remove(id, force=True, volumes=False)
    assert (await waiting).status_code == 137
    await world.check_nothing_left()


async def test_a_full_disk_lets_it_run_on(world: World, engine: LocalEngine, create: Run) -> None:
    id = await running(engine, create)
    source = guest(world, engine, id)
    source.fail_dump = Exhausted("cannot keep the guest's memory: No space left on device")
    with pytest.raises(Exhausted):
        await engine.snapshots.suspend(id)
    with pytest.raises(Exhausted):
        await engine.snapshots.create(id, "k", leave_running=False)
    assert (await engine.containers.inspect(id)).state.status == "running"
    assert (source.paused, source.agent.frozen) == (False, set())
    assert list(await engine.snapshots.list(id)) == []
    assert list(engine.host.pods.folder(engine.supervisor.find(id)[0].record.id).glob(".*")) == []


async def test_another_version_is_told(world: World, engine: LocalEngine, create: Run) -> None:
    id = await running(engine, create)
    await engine.snapshots.create(id, "k", leave_running=True)
    await engine.snapshots.suspend(id)
    world.hypervisor.program = "1"
    for call in (engine.snapshots.resume(id), engine.snapshots.restore(id, "k", name="other")):
        with pytest.raises(WrongState, match="another shape"):
            await call
    assert (await engine.containers.inspect(id)).state.status == "suspended"
    world.hypervisor.program = "0"
    await engine.snapshots.resume(id)


async def test_a_checkpoint_outlives_its_container(world: World, engine: LocalEngine, create: Run) -> None:
    id = await running(engine, create)
    address = (await engine.containers.inspect(id)).network_settings.ip_address
    await engine.snapshots.create(id, "k", leave_running=False)
    state = (await engine.containers.inspect(id)).state
    assert (state.status, state.exit_code, world.hypervisor.alive) == ("exited", 137, [])
    with pytest.raises(AlreadyExists):
        await engine.containers.start(id)
        await engine.snapshots.create(id, "k", leave_running=True)
    await engine.containers.remove(id, force=True, volumes=False)
    with pytest.raises(InUse, match="checkpoint k of container"):
        await engine.images.remove("busybox", force=False)
    (listed,) = await engine.snapshots.list("")
    assert (listed.name, listed.container_id, listed.size > 0) == ("k", id, True)
    assert (await engine.snapshots.restore(id[:12], "k", name="")).id == id
    assert await logged(engine, id, 1) == "awake\n"
    assert (await engine.containers.inspect(id)).network_settings.ip_address == address
    other = (await engine.snapshots.restore(id, "k", name="other")).id
    assert other != id
    assert (await engine.containers.inspect("other")).network_settings.ip_address != address
    with pytest.raises(WrongState, match="running: stop it first"):
        await engine.snapshots.restore(id, "k", name="")
    with pytest.raises(NotFound):
        await engine.snapshots.restore(id, "nothing", name="")
    for c in (id, other):
        await engine.containers.remove(c, force=True, volumes=False)
    await engine.snapshots.remove(id, "k")
    await world.check_nothing_left()
    assert list(engine.host.checkpoints.root.iterdir()) == []
    with pytest.raises(NotFound):
        await engine.snapshots.list(id)


async def test_restored_in_its_place_it_has_the_disk_of_then(world: World, engine: LocalEngine, create: Run) -> None:
    id = await running(engine, create)
    path = disk(engine.supervisor.find(id)[0])
    before = path.read_bytes()
    await engine.snapshots.create(id, "k", leave_running=True)
    await engine.containers.kill(id, 9)
    await engine.containers.wait(id)
    path.write_bytes(b"later")
    world.hypervisor.fail_clones = "broken"
    with pytest.raises(HyperError, match="broken"):
        await engine.snapshots.restore(id, "k", name="")
    assert path.read_bytes() == b"later"
    assert (await engine.containers.inspect(id)).state.status == "exited"
    world.hypervisor.fail_clones = ""
    await engine.snapshots.restore(id, "k", name="")
    assert path.read_bytes() == before
    assert await logged(engine, id, 2) == "awake\nawake\n"
    assert sorted(p.name for p in path.parent.iterdir()) == ["log", "scratch.img"]


def full(monkeypatch: pytest.MonkeyPatch, engine: LocalEngine) -> None:
    """No record can be written for good."""
    save = engine.host.pods.save

    def failing(record: PodRecord, *, durable: bool = False) -> None:
        if durable:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(record)

    monkeypatch.setattr(engine.host.pods, "save", failing)


async def test_one_that_cannot_be_written_down_as_running_stays_suspended(
    world: World, engine: LocalEngine, create: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await running(engine, create)
    address = (await engine.containers.inspect(id)).network_settings.ip_address
    await engine.snapshots.suspend(id)
    with monkeypatch.context() as patch:
        full(patch, engine)
        with pytest.raises(OSError, match="No space left"):
            await engine.snapshots.resume(id)
    assert (await engine.containers.inspect(id)).state.status == "suspended"
    assert (world.hypervisor.alive, world.network.nics) == ([], {})
    await engine.snapshots.resume(id)
    assert await logged(engine, id, 2) == "awake\nawake\n"
    assert (await engine.containers.inspect(id)).network_settings.ip_address == address


async def test_a_restored_machine_keeps_its_disk_whatever_happens_once_it_may_run(
    world: World, engine: LocalEngine, create: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await running(engine, create)
    pod, container = engine.supervisor.find(id)
    path = disk(pod)
    then = path.read_bytes()
    await engine.snapshots.create(id, "k", leave_running=False)
    assert not pod.record.frozen
    path.write_bytes(b"later")
    with monkeypatch.context() as patch:
        full(patch, engine)
        with pytest.raises(OSError, match="No space left"):
            await engine.snapshots.restore(id, "k", name="")
    assert (path.read_bytes(), container.record.state, pod.machine.vm) == (b"later", "exited", None)

    async def silent(*_: object, **__: object) -> None:
        raise GuestSilent("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(restore, "continue_", silent)
        with pytest.raises(GuestSilent):
            await engine.snapshots.restore(id, "k", name="")
    assert (path.read_bytes(), container.record.state) == (then, "running")
    assert sorted(p.name for p in path.parent.iterdir()) == ["log", "scratch.img"]


async def test_the_source_is_thawed_though_its_vmm_is_slow_to_go_on(
    world: World, engine: LocalEngine, create: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await running(engine, create)
    source = guest(world, engine, id)
    go_on = source.resume

    async def slow() -> None:
        await go_on()
        raise GuestSilent("QEMU did not answer cont within 10 s")

    source.fail_dump = GuestError("cannot")
    with monkeypatch.context() as patch:
        patch.setattr(source, "resume", slow)
        with pytest.raises(GuestSilent):
            await engine.snapshots.fork(id, count=1, name="", ports=[])
    assert (source.paused, source.agent.frozen) == (False, set())


async def test_one_that_cannot_be_resumed_starts_afresh_from_its_disk_once_it_is_killed(
    world: World, engine: LocalEngine, create: Run
) -> None:
    id = await running(engine, create)
    pod, _ = engine.supervisor.find(id)
    await engine.snapshots.suspend(id)
    disk(pod).write_bytes(b"what it wrote")
    world.hypervisor.program = "1"
    with pytest.raises(WrongState, match="another shape"):
        await engine.snapshots.resume(id)
    waiting = asyncio.create_task(engine.containers.wait(id))
    await asyncio.sleep(0)
    await engine.containers.kill(id, 9)
    assert (await waiting).status_code == 137
    state = (await engine.containers.inspect(id)).state
    assert (state.status, state.exit_code, world.network.nics) == ("exited", 137, {})
    assert sorted(p.name for p in engine.host.pods.folder(pod.record.id).iterdir()) == [id, "pod.json"]
    await engine.containers.start(id)
    assert await logged(engine, id, 2) == "awake\nawake\n"
    assert disk(pod).read_bytes() == b"what it wrote"


async def test_a_restored_container_has_its_old_addresses_unless_somebody_has_its_port(
    engine: LocalEngine, create: Run
) -> None:
    id, other = await running(engine, create), await create("sleep")
    pod, _ = engine.supervisor.find(id)
    port = PortRecord(host_ip="", host_port=49153, container_port=80, protocol="tcp")
    pod.record.nics[0].ports = [port]
    await engine.snapshots.create(id, "k", leave_running=False)
    await engine.snapshots.restore(id, "k", name="")
    assert pod.record.nics[0].ports == [port]
    await engine.containers.kill(id, 9)
    await engine.containers.wait(id)
    await engine.containers.start(other)
    taken = engine.supervisor.find(other)[0].record.nics[0]
    taken.addresses, taken.ports = ["10.0.0.99/24"], [port]
    await engine.snapshots.restore(id, "k", name="")
    assert pod.record.nics[0].ports == []


async def test_many_forks_get_names_of_their_own(engine: LocalEngine, create: Run) -> None:
    id = await running(engine, create)
    made = (await engine.snapshots.fork(id, count=20, name="", ports=[])).ids
    assert len({(await engine.containers.inspect(c)).name for c in [id, *made]}) == 21
    assert len(set(made)) == 20
