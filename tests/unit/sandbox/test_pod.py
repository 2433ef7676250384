"""A pod's life with nobody above it: no store, no names, no policy; an owner is asked what follows."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hypercontainer.errors import Exhausted, GuestDied, WrongState
from hypercontainer.lib.trace import Timings
from hypercontainer.model.container import Process
from hypercontainer.model.spec import ExecSpec
from hypercontainer.sandbox import archive
from hypercontainer.sandbox.attach import AttachSession
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.exec import ExecSession
from hypercontainer.sandbox.pod import Pod
from tests.unit.sandbox.lonely import Lot


@pytest.fixture
async def lot(tmp_path: Path) -> AsyncIterator[Lot]:
    lot = Lot(tmp_path)
    yield lot
    for guest in lot.hypervisor.alive:
        await guest.kill()


async def started(pod: Pod, *containers: Container) -> None:
    async with pod.locked() as locked:
        for container in containers or pod.containers.values():
            await locked.start(container, Timings())


async def test_a_container_starts_speaks_and_ends(lot: Lot) -> None:
    pod = lot.pod("cat")
    [cat] = pod.containers.values()
    session = AttachSession(pod, cat, {1}, stdin=True)
    await started(pod)
    session.started([])
    await session.write(b"hello\n")
    await session.close_stdin()
    assert b"".join([data async for _, data in session]) == b"hello\n"
    assert await session.wait() == 0
    assert lot.owner.events == ["pod start", "cat start", "cat 0?", "cat die", "cat ended, exited"]
    assert (cat.record.state, cat.record.exit_code, len(lot.hypervisor.alive)) == ("exited", 0, 1)
    async with pod.locked() as locked:
        assert pod.idle
        await locked.power_off()
    assert (lot.hypervisor.alive, lot.network.nics, pod.record.guest) == ([], {}, None)


async def test_what_follows_from_an_end_is_the_owners_to_say(lot: Lot) -> None:
    pod = lot.pod("exit 7")
    [container] = pod.containers.values()
    lot.owner.after = "restarting"
    await started(pod)
    await container.left.wait()
    assert lot.owner.events[-1] == "exit ended, restarting"
    assert (container.record.state, container.record.exit_code) == ("restarting", 7)


async def test_a_machine_that_ends_takes_all_that_ran_in_it_along(lot: Lot) -> None:
    pod = lot.pod("sleep 1000", "cat")
    sleep, cat = pod.containers.values()
    await started(pod, sleep, cat)
    exec_ = pod.add_exec(sleep, ExecSpec(command=["sleep", "1000"]), Process(args=["sleep", "1000"]))
    await pod.start_exec(exec_)
    await lot.hypervisor.alive[0].die("killed by signal 9")
    await asyncio.gather(sleep.left.wait(), cat.left.wait())
    with pytest.raises(GuestDied, match="the virtual machine of p ended: killed by signal 9"):
        await ExecSession(exec_).wait()
    assert [c.record.exit_code for c in (sleep, cat)] == [255, 255]
    assert lot.owner.events[-4:] == ["sleep die", "sleep ended, exited", "cat die", "cat ended, exited"]
    assert lot.network.nics == {}


async def test_the_guest_keeps_a_status_until_the_record_is_written(lot: Lot) -> None:
    pod = lot.pod("exit 7", "sleep 1000")
    ends, _ = pod.containers.values()
    await started(pod)
    lot.owner.full = True
    agent = lot.hypervisor.alive[0].agent
    await ends.left.wait()
    async with pod.locked() as locked:
        assert pod.unwritten == [ends] and ends.record.id in agent.processes
        lot.owner.full = False
        await locked.written()
    assert not pod.unwritten and ends.record.id not in agent.processes


async def test_a_start_that_cannot_be_written_down_leaves_no_machine(lot: Lot) -> None:
    pod = lot.pod("cat")
    lot.owner.full = True
    with pytest.raises(Exhausted):
        await started(pod)
    assert (lot.hypervisor.alive, lot.network.nics, pod.record.uid) == ([], {}, 0)


async def test_stop_signals_and_kill_ends_what_does_not_listen(lot: Lot) -> None:
    pod = lot.pod("sleep 1000", "cat")
    sleep, deaf = pod.containers.values()
    await started(pod)
    lot.hypervisor.alive[0].agent.processes[deaf.record.id].traps.add(15)
    await pod.stop(sleep, 60)
    await pod.stop(deaf, 0.01)
    assert (sleep.record.exit_code, deaf.record.exit_code) == (143, 137)
    assert sleep.record.stopped_by_user and deaf.record.stopped_by_user


async def test_what_is_paused_is_so_as_a_whole_and_wakes_to_end(lot: Lot) -> None:
    pod = lot.pod("sleep 1000", "cat")
    sleep, cat = pod.containers.values()
    await started(pod)
    async with pod.locked() as locked:
        await locked.pause()
        with pytest.raises(WrongState, match="cannot pause p: it is paused"):
            await locked.pause()
    assert (sleep.record.state, cat.record.state) == ("paused", "paused")
    await pod.kill(sleep)
    assert (sleep.record.state, cat.record.state) == ("exited", "running")


async def test_files_are_read_though_nothing_runs_and_the_owner_hears_when_that_is_over(lot: Lot) -> None:
    pod = lot.pod("cat", networks=[])
    [cat] = pod.containers.values()
    async with pod.entered(cat):
        [guest] = lot.hypervisor.alive
        guest.agent.archives[cat.record.id, "/etc/hostname"] = b"a tar"
        assert not pod.idle
        assert b"".join([piece async for piece in archive.read(pod, cat, "/etc/hostname")]) == b"a tar"
    assert lot.owner.events == ["pod start", "unused", "unused"]
    assert pod.idle and lot.network.nics == {}


async def test_a_pod_is_taken_up_again_by_its_record(lot: Lot) -> None:
    pod = lot.pod("cat", "exit 3")
    cat, ends = pod.containers.values()
    await started(pod, cat)
    await pod.let_go()
    again = Pod(lot.site, pod.record, lot.owner, pod.folder)
    async with again.locked() as locked:
        assert await locked.attach()
    cat, ends = again.containers.values()
    session = AttachSession(again, cat, {1}, stdin=True)
    session.started([])
    await session.write(b"still there\n")
    await session.close_stdin()
    assert [data async for _, data in session] == [b"still there\n"]
    await started(again, ends)
    await ends.left.wait()
    assert ends.record.exit_code == 3


async def test_who_holds_the_lock_is_waited_for_by_an_end(lot: Lot) -> None:
    pod = lot.pod("exit 0")
    [container] = pod.containers.values()
    async with pod.locked() as locked:
        await locked.start(container, Timings())
        await container.drain()
        assert container.running
    await container.left.wait()
    assert not container.running
