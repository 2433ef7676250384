"""A disk that takes no more: what cannot be written down is not done, what has happened is not forgotten, removing
needs no room, and all comes back by itself. A hyperd that starts meanwhile says so."""

import asyncio
import errno
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from hypercontainer.engine import supervisor
from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import Exhausted, HyperError, NotFound
from hypercontainer.model.spec import ContainerSpec, ContainerUpdate, ExecSpec, PodSpec, RestartPolicy
from hypercontainer.sandbox import output
from tests.unit.engine.disks import Disk, Failing, Full
from tests.unit.engine.test_recovery import container, forsake, logged
from tests.unit.engine.world import ADMIN, World, echoed, execute


@pytest.fixture(params=["ENOSPC", "EIO", "EDQUOT"])
def disk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    monkeypatch.setattr(supervisor, "RETRY_S", 0.01)
    monkeypatch.setattr(output, "RETRY_S", 0.01)
    if request.param != "ENOSPC":
        yield Failing(tmp_path, getattr(errno, request.param), monkeypatch)
        return
    if os.geteuid() != 0:
        pytest.skip("mounts a small tmpfs")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", tmp_path], check=True)
    yield Full(tmp_path)
    subprocess.run(["umount", "-l", tmp_path], check=True)


@pytest.fixture
async def world(disk: Disk) -> AsyncIterator[World]:
    world = World(disk.path)
    yield world
    disk.free()
    for engine in world.engines:
        await engine.close()
    for guest in world.hypervisor.alive:
        await guest.kill()


async def settled(engine: LocalEngine) -> None:
    """All that waited for room has been written."""
    async with asyncio.timeout(60):
        await asyncio.gather(*engine.supervisor.writing.values())


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110  of no one thing that could tell
            await asyncio.sleep(0)


def complaints(warnings: list[str]) -> list[str]:
    return [line for line in warnings if "takes no more" in line]


async def test_removing_needs_no_room_and_stays_done(world: World, engine: LocalEngine, disk: Disk) -> None:
    ids = [await container(engine, *words) for words in (("sleep", "1"), ("sleep", "1"), ("exit", "3"))]
    await engine.containers.start(ids[0])
    await engine.containers.start(ids[2])
    await engine.containers.wait(ids[2])
    disk.fill()
    for id in ids:
        await engine.containers.remove(id, force=True, volumes=True)
        with pytest.raises(NotFound):
            await engine.containers.inspect(id)
    await world.check_nothing_left()
    await forsake(engine)
    again = await world.engine()
    assert await again.containers.list(all=True, filters={}) == []


async def test_a_removal_that_failed_can_be_tried_again(
    world: World, engine: LocalEngine, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await container(engine, "sleep", "1")
    await engine.containers.start(id)
    disk.fill()

    def refused(pod_id: str) -> None:
        raise Exhausted("cannot remove it")

    with monkeypatch.context() as patch:
        patch.setattr(engine.host.pods, "remove", refused)
        for _ in range(2):
            with pytest.raises(Exhausted):
                await engine.containers.remove(id, force=True, volumes=False)
    assert (await engine.containers.inspect(id)).state.status == "exited"
    await engine.containers.remove(id, force=True, volumes=False)
    with pytest.raises(NotFound):
        await engine.containers.inspect(id)


async def test_a_member_of_a_pod_stays_removed(world: World, engine: LocalEngine, disk: Disk) -> None:
    members = [ContainerSpec(image="busybox", name=name, command=["sleep"]) for name in ("a", "b")]
    pod = await engine.pods.create(PodSpec(name="two", containers=members), by=ADMIN)
    await engine.containers.start("a")
    disk.fill()
    await engine.containers.remove("b", force=True, volumes=False)
    await forsake(engine)
    again = await world.engine()
    assert [entry.names for entry in await again.containers.list(all=True, filters={})] == [["/a"]]
    await again.pods.remove(pod.id, force=True, volumes=False)
    await world.check_nothing_left()


async def test_an_end_is_known_whatever_dies_meanwhile(world: World, engine: LocalEngine, disk: Disk) -> None:
    """The guest keeps what no record says."""
    id = await container(engine, "cat", open_stdin=True)
    session = await engine.containers.attach(id, stdin=True, stdout=True, stderr=True, logs=False, start=True)
    disk.fill()
    await session.close_stdin()
    status = await session.wait()
    assert complaints((await engine.system.info()).warnings)
    await forsake(engine)
    again = await world.engine()
    assert (await again.containers.wait(id)).status_code == status
    document = (await again.containers.inspect(id)).state
    assert (document.status, document.exit_code, document.error) == ("exited", status, "")
    disk.free()
    await settled(again)
    assert (complaints((await again.system.info()).warnings), world.hypervisor.alive) == ([], [])
    await forsake(again)
    assert (await (await world.engine()).containers.inspect(id)).state.status == "exited"


async def test_hyperd_starts_when_a_container_has_printed_meanwhile(
    world: World, engine: LocalEngine, disk: Disk
) -> None:
    id = await container(engine, "cat", open_stdin=True)
    await echoed(engine, id, b"before\n")
    process = world.hypervisor.alive[0].agent.processes[id]
    await forsake(engine)
    disk.fill()
    assert process.stdin
    await process.write(b"meanwhile\n" * 1000)  # more than the last page has room for
    again = await world.engine()
    assert (await again.containers.inspect(id)).state.status == "running"
    await until(lambda: again.supervisor.pods[next(iter(again.supervisor.pods))].containers[id].output.stalled != "")
    assert "outputs of containers" in complaints((await again.system.info()).warnings)[0]
    disk.free()
    await settled(again)
    await again.containers.kill(id, 9)
    await again.containers.wait(id)
    assert await logged(again, id) == b"before\n" + b"meanwhile\n" * 1000
    assert complaints((await again.system.info()).warnings) == []


async def test_no_output_is_lost_to_a_stop(world: World, engine: LocalEngine, disk: Disk) -> None:
    id = await container(engine, "cat", open_stdin=True)
    session = await engine.containers.attach(id, stdin=True, stdout=True, stderr=True, logs=False, start=True)
    disk.fill()
    await session.write(b"the last words\n" * 1000)
    live = engine.supervisor.pods[next(iter(engine.supervisor.pods))].containers[id]
    await until(lambda: live.output.stalled != "")
    with pytest.raises(Exhausted, match="before its output is written"):
        await engine.containers.stop(id, 0.0)
    disk.free()
    await engine.containers.wait(id)
    assert await logged(engine, id) == b"the last words\n" * 1000


VERBS = ["create", "create_pod", "start", "pause", "unpause", "rename", "update", "restart", "stop", "kill", "exec",
         "suspend", "checkpoint", "fork", "add_container", "create_volume"]  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
async def test_each_verb_is_done_or_refused_as_a_whole(
    world: World, engine: LocalEngine, disk: Disk, verb: str
) -> None:
    idle, runs = await container(engine, "sleep", "1"), await container(engine, "sleep", "1")
    pod = (await engine.pods.create(PodSpec(name="mine"), by=ADMIN)).id
    await engine.containers.start(runs)
    if verb == "unpause":
        await engine.containers.pause(runs)

    async def act() -> None:
        match verb:
            case "create":
                await container(engine, "true", name="new")
            case "create_pod":
                await engine.pods.create(PodSpec(name="other", containers=[]), by=ADMIN)
            case "add_container":
                await engine.pods.add(pod, ContainerSpec(image="busybox", name="new"), by=ADMIN)
            case "create_volume":
                await engine.volumes.create("v", {}, by=ADMIN)
            case "start":
                await engine.containers.start(idle)
            case "pause" | "unpause":
                await getattr(engine.containers, verb)(runs)
            case "suspend":
                await engine.snapshots.suspend(runs)
            case "rename":
                await engine.containers.rename(idle, "new")
            case "update":
                await engine.containers.update(idle, ContainerUpdate(restart=RestartPolicy(name="always")))
            case "restart":
                await engine.containers.restart(runs, 0.0)
            case "stop":
                await engine.containers.stop(runs, 0.0)
            case "kill":
                await engine.containers.kill(runs, 9)
                await engine.containers.wait(runs)
            case "exec":
                session = await execute(engine, runs, ExecSpec(command=["true"]))
                await session.wait()
            case "checkpoint":
                await engine.snapshots.create(runs, "c", leave_running=True)
            case "fork":
                await engine.snapshots.fork(runs, count=1, name="new", ports=[])

    async def seen(engine: LocalEngine) -> list[object]:
        documents = [
            await engine.containers.inspect(entry.id) for entry in await engine.containers.list(all=True, filters={})
        ]
        return [[d.name, d.state.status, d.host_config.restart_policy.name] for d in documents]

    before = await seen(engine)
    disk.fill()
    refused = False
    try:
        await act()
    except HyperError as e:
        assert isinstance(e, Exhausted), e
        refused = True
    after = await seen(engine)
    if refused and verb != "restart":  # of which a stop is the first half
        assert after == before
    await forsake(engine)
    again = await world.engine()
    assert await seen(again) == after
    disk.free()
    await settled(again)
    if refused:
        await forsake(again)
        engine = await world.engine()
        await act()
        again = engine
    for entry in await again.containers.list(all=True, filters={}):
        await again.containers.remove(entry.id, force=True, volumes=True)
    await again.pods.remove(pod, force=True, volumes=True)
    await world.check_nothing_left()


async def test_one_that_is_to_run_always_does_so_when_there_is_room(
    world: World, engine: LocalEngine, disk: Disk
) -> None:
    id = await container(engine, "sleep", "1", restart=RestartPolicy(name="always"))
    await engine.containers.start(id)
    disk.fill()
    await world.hypervisor.alive[0].die("killed by signal 9")
    await until(lambda: bool(engine.host.pods.owed))
    disk.free()
    await until(
        lambda: engine.supervisor.pods[next(iter(engine.supervisor.pods))].containers[id].record.state == "running"
    )
