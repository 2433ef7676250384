"""The end of a machine: who had it ended goes on at once, and who needs what it had waits for it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import GuestError, HyperError
from hypercontainer.model.record import BlockRecord, BundleRecord, DiskRecord
from hypercontainer.testing.fakes import FakeGuest
from tests.unit.engine.test_recovery import forsake
from tests.unit.engine.world import Run, World

LIMIT_S = 60


class Lasting:
    """A container that runs, and whose machine is still there when it has ended, until `go`."""

    def __init__(self, engine: LocalEngine, id: str, guest: FakeGuest) -> None:
        self.engine, self.id, self.guest = engine, id, guest
        self.pod, self.container = engine.supervisor.find(id)
        self.uid = self.pod.record.uid
        guest.may_go.clear()

    @property
    def is_there(self) -> bool:
        return self.engine.host.site.run_dir(self.pod.record.id).exists()

    def go(self) -> None:
        self.guest.may_go.set()


@pytest.fixture
async def lasting(engine: LocalEngine, create: Run, world: World) -> AsyncIterator[Lasting]:
    id = await create("sleep", "1000", name="a")
    await engine.containers.start(id)
    [guest] = world.hypervisor.alive
    lasting = Lasting(engine, id, guest)
    yield lasting
    lasting.go()


async def started(task: "asyncio.Task[None]") -> None:
    """Let it come as far as it can without anybody's help: not to its end."""
    for _ in range(100):
        await asyncio.sleep(0)
    assert not task.done()


async def test_who_removes_it_has_all_that_others_may_want_and_does_not_wait_for_the_rest(
    engine: LocalEngine, create: Run, world: World, lasting: Lasting
) -> None:
    async with asyncio.timeout(LIMIT_S):
        await engine.containers.remove(lasting.id, force=True, volumes=True)
        assert (world.hypervisor.alive, list(world.network.nics), lasting.is_there) == ([], [], True)
        again = await create("sleep", "1000", name="a")
        await engine.containers.start(again)
        assert engine.supervisor.find(again)[0].record.uid != lasting.uid  # one user may end the other's processes
        await engine.containers.remove(again, force=True, volumes=True)
    lasting.go()
    await world.check_nothing_left()
    assert engine.host.site.endings.uids() == set()


async def test_the_same_starts_when_the_machine_is_gone(engine: LocalEngine, world: World, lasting: Lasting) -> None:
    async with asyncio.timeout(LIMIT_S):
        await engine.containers.kill(lasting.id, 9)
        await lasting.container.left.wait()
        booted = len(world.hypervisor.booted)
        starting = asyncio.create_task(engine.containers.start(lasting.id))
        await started(starting)
        assert lasting.is_there and len(world.hypervisor.booted) == booted
        lasting.go()
        await starting
        await engine.containers.remove(lasting.id, force=True, volumes=True)
    await world.check_nothing_left()


async def test_an_end_that_fails_is_told_to_who_needs_it_and_tried_again(
    engine: LocalEngine, world: World, lasting: Lasting
) -> None:
    lasting.guest.fail_kill = GuestError("it does not die")
    lasting.go()
    async with asyncio.timeout(LIMIT_S):
        await engine.containers.kill(lasting.id, 9)
        await lasting.container.left.wait()
        with pytest.raises(HyperError, match=r"not all is gone of what pod .* was: it does not die"):
            await engine.containers.start(lasting.id)
        lasting.guest.fail_kill = None
        await engine.containers.start(lasting.id)
        await engine.containers.remove(lasting.id, force=True, volumes=True)
    await world.check_nothing_left()


async def test_our_own_end_waits_for_it(engine: LocalEngine, lasting: Lasting) -> None:
    async with asyncio.timeout(LIMIT_S):
        await engine.containers.remove(lasting.id, force=True, volumes=True)
        closing = asyncio.create_task(engine.close())
        await started(closing)
        lasting.go()
        await closing
    assert not lasting.is_there


@pytest.mark.parametrize("removed", [True, False])
async def test_what_was_left_of_it_is_found_by_the_next_hyperd(
    engine: LocalEngine, world: World, lasting: Lasting, removed: bool
) -> None:
    async with asyncio.timeout(LIMIT_S):
        await engine.containers.kill(lasting.id, 9)
        await lasting.container.left.wait()
        if removed:
            await engine.containers.remove(lasting.id, force=False, volumes=True)
        await forsake(engine)
        assert lasting.is_there
        lasting.go()
        next = await world.engine()
        assert not lasting.is_there
        if not removed:
            await next.containers.remove(lasting.id, force=False, volumes=True)
    await world.check_nothing_left()


async def test_a_device_is_free_when_who_had_it_is_removed(engine: LocalEngine, world: World, lasting: Lasting) -> None:
    disk = DiskRecord(target=128, path="/dev/x", read_only=True, device=True)
    lasting.container.record.blocks = [BlockRecord(path="/dev/x", disk=disk, mode=0o600, uid=0, gid=0)]
    removing = asyncio.create_task(engine.containers.remove(lasting.id, force=True, volumes=True))
    async with asyncio.timeout(LIMIT_S):
        assert lasting.container.exit
        await lasting.container.exit
        await started(removing)
        lasting.go()
        await removing
    await world.check_nothing_left()


async def test_an_engines_control_group_is_free_of_a_machine_that_was_counted_in_it(
    engine: LocalEngine, world: World, lasting: Lasting
) -> None:
    lasting.container.record.bundle = BundleRecord(path="/b", oci_version="1.0.2", cgroup="/nosuch/group")
    async with asyncio.timeout(LIMIT_S):
        await engine.containers.kill(lasting.id, 9)
        await lasting.container.left.wait()
        machine = lasting.pod.machine
        lasting.pod.record.owner = "containerd"  # which does not count it there
        await machine.be_apart(lasting.container.record)
        lasting.pod.record.owner = "/run/docker"
        leaving = asyncio.create_task(machine.be_apart(lasting.container.record))
        await started(leaving)
        lasting.go()
        await leaving
        lasting.pod.record.owner = ""
        await engine.containers.remove(lasting.id, force=True, volumes=True)
    await world.check_nothing_left()
