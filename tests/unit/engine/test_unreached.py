"""A guest that stands still for want of room while hyperd starts: hyperd does not wait for it, says so, can end it,
and takes it up as soon as it goes on."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from hypercontainer import vm as vms
from hypercontainer.engine import recover
from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import NotFound, WrongState
from hypercontainer.model.spec import ContainerSpec, ContainerUpdate, ExecSpec, PodSpec, RestartPolicy
from hypercontainer.testing.fakes import FakeGuest
from tests.unit.engine.test_recovery import container, forsake, logged
from tests.unit.engine.world import ADMIN, World, echoed, execute

WHY = "not reached yet: its virtual machine stands still until there is room"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recover, "RETRY_S", 0.01)
    monkeypatch.setattr(vms, "LOOK_S", 0.01)


async def stalled(world: World, engine: LocalEngine) -> tuple[LocalEngine, FakeGuest]:
    """The engine after one that was killed, its one guest standing still."""
    [guest] = world.hypervisor.alive
    guest.stall(True)
    await forsake(engine)
    return await world.engine(), guest


def unreached(engine: LocalEngine) -> bool:
    return any(pod.machine.unreached for pod in engine.supervisor.pods.values())


async def until_reached(engine: LocalEngine) -> None:
    async with asyncio.timeout(60):
        while unreached(engine):  # noqa: ASYNC110  of no one thing that could tell
            await asyncio.sleep(0.001)


async def status(engine: LocalEngine) -> list[str]:
    return [entry.status for entry in await engine.containers.list(all=True, filters={})]


async def test_it_is_taken_up_when_it_goes_on_and_no_byte_is_lost(world: World, engine: LocalEngine) -> None:
    id = await container(engine, "cat", open_stdin=True)
    await echoed(engine, id, b"before\n")
    again, guest = await stalled(world, engine)
    waiting = asyncio.create_task(again.containers.wait(id))
    assert [line for line in (await again.system.info()).warnings if WHY in line]
    assert (await status(again))[0].endswith("(Not reached yet)")
    state = (await again.containers.inspect(id)).state
    assert state.running and WHY in state.error
    assert await logged(again, id) == b"before\n"
    guest.stall(False)
    await until_reached(again)
    assert not [line for line in (await again.system.info()).warnings if "not reached" in line]
    assert (await again.containers.inspect(id)).state.error == ""
    tied = await again.containers.attach(id, stdin=True, stdout=True, stderr=True, logs=False, start=False)
    await tied.write(b"after\n")
    await tied.close_stdin()
    assert (await tied.wait(), (await waiting).status_code) == (0, 0)
    assert await logged(again, id, follow=True) == b"before\nafter\n"


async def test_what_needs_the_guest_is_refused_in_words(world: World, engine: LocalEngine) -> None:
    id = await container(engine, "sleep", "1")
    await engine.containers.start(id)
    again, _ = await stalled(world, engine)

    async def nothing() -> AsyncIterator[bytes]:
        yield b""

    for refused in (
        again.containers.kill(id, 15),
        again.containers.pause(id),
        again.containers.top(id),
        again.containers.stats(id),
        again.containers.resize(id, 1, 1),
        execute(again, id, ExecSpec(command=["true"])),
        again.containers.attach(id, stdin=False, stdout=True, stderr=True, logs=False, start=False),
        again.containers.update(id, ContainerUpdate(pids=7)),
        again.snapshots.suspend(id),
        again.snapshots.create(id, "c", leave_running=True),
        again.snapshots.fork(id, count=1, name="", ports=[]),
        again.containers.archive_put(id, "/", nothing()),
    ):
        with pytest.raises(WrongState, match=WHY):
            await refused
    assert len(world.hypervisor.alive) == 1
    await again.containers.start(id)  # it runs: nothing happens


@pytest.mark.parametrize("verb", ["rm", "kill", "stop"])
async def test_it_can_be_ended_meanwhile(world: World, engine: LocalEngine, verb: str) -> None:
    id = await container(engine, "sleep", "1", restart=RestartPolicy(name="always"))
    await engine.containers.start(id)
    again, _ = await stalled(world, engine)
    waiting = asyncio.create_task(again.containers.wait(id))
    if verb == "rm":
        await again.containers.remove(id, force=True, volumes=False)
        with pytest.raises(NotFound):
            await again.containers.inspect(id)
    else:
        await (again.containers.kill(id, 9) if verb == "kill" else again.containers.stop(id, 0.01))
        assert (await waiting).status_code == 137
        assert (await again.containers.inspect(id)).state.status == "exited"
    await waiting
    assert not unreached(again)
    await world.check_nothing_left()
    if verb != "rm":
        await again.containers.start(id)
        assert (await again.containers.inspect(id)).state.status == "running"


async def test_the_members_of_a_pod_share_its_fate(world: World, engine: LocalEngine) -> None:
    members = [ContainerSpec(image="busybox", name=name, command=["sleep"]) for name in ("a", "b", "c")]
    pod = await engine.pods.create(PodSpec(name="three", containers=members), by=ADMIN)
    await engine.containers.start("a")
    await engine.containers.start("b")
    again, _ = await stalled(world, engine)
    for refused in (again.containers.remove("c", force=False, volumes=False), again.containers.start("c")):
        with pytest.raises(WrongState, match=WHY):
            await refused
    await again.pods.stop(pod.id, 0.01)
    assert {(await again.containers.inspect(name)).state.status for name in ("a", "b")} == {"exited"}
    await world.check_nothing_left()
    await again.pods.remove(pod.id, force=True, volumes=False)


async def test_one_that_ends_while_it_stands_still_is_lost(world: World, engine: LocalEngine) -> None:
    lost = await container(engine, "sleep", "1")
    await engine.containers.start(lost)
    again, guest = await stalled(world, engine)
    waiting = asyncio.create_task(again.containers.wait(lost))
    await guest.die("killed by signal 9")
    await waiting
    state = (await again.containers.inspect(lost)).state
    assert (state.status, state.exit_code) == ("exited", 255)
    assert "ended while it stood still" in state.error
    await world.check_nothing_left()


async def test_a_paused_one_is_reached_too_and_stays_paused(world: World, engine: LocalEngine) -> None:
    id = await container(engine, "sleep", "1")
    await engine.containers.start(id)
    await engine.containers.pause(id)
    again, guest = await stalled(world, engine)
    assert unreached(again)
    guest.stall(False)
    await until_reached(again)
    assert (await again.containers.inspect(id)).state.status == "paused" and guest.paused
