"""Snapshots of a pod that nobody but its owner knows: it sleeps and wakes, and others go on where it was."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hypercontainer.errors import GuestDied, WrongState
from hypercontainer.lib.trace import Timings
from hypercontainer.sandbox.attach import AttachSession
from hypercontainer.sandbox.pod import Pod
from hypercontainer.sandbox.snapshot import capture, fork, suspend
from hypercontainer.sandbox.snapshot.fork import only
from tests.unit.sandbox.lonely import Lot


@pytest.fixture
async def lot(tmp_path: Path) -> AsyncIterator[Lot]:
    lot = Lot(tmp_path)
    yield lot
    for guest in lot.hypervisor.alive:
        await guest.kill()


@pytest.fixture
async def cat(lot: Lot) -> Pod:
    """A pod of one container that says what it is told."""
    pod = lot.pod("cat", implicit=True)
    async with pod.locked() as locked:
        await locked.start(only(pod), Timings())
    return pod


async def says(pod: Pod, line: bytes) -> bytes:
    """What it answers to `line`, its last one."""
    session = AttachSession(pod, only(pod), {1}, stdin=True)
    session.started([])
    await session.write(line)
    await session.close_stdin()
    return b"".join([data async for _, data in session])


async def test_one_in_a_network_of_somebody_elses_is_not_copied(cat: Pod) -> None:
    capture.check(cat, only(cat), "suspend")
    cat.record.netns = "/run/netns/theirs"
    with pytest.raises(WrongState, match="somebody else made its network, /run/netns/theirs"):
        capture.check(cat, only(cat), "suspend")
    cat.record.netns = ""


async def test_one_sleeps_and_wakes(lot: Lot, cat: Pod) -> None:
    nics, container = list(cat.record.nics), only(cat)
    async with cat.locked() as locked:
        await suspend.suspend(locked, container, Timings())
        assert (container.record.state, lot.hypervisor.alive, cat.record.nics) == ("suspended", [], nics)
        with pytest.raises(WrongState, match="cannot start cat: it is suspended"):
            cat.check(container, "start")
        await suspend.resume(locked, container, Timings())
    assert not cat.suspended_folder.exists() and cat.record.suspended is None
    assert await says(cat, b"awake\n") == b"awake\n"


async def test_copies_run_beside_their_source(lot: Lot, cat: Pod) -> None:
    copies = [lot.pod("cat", implicit=True) for _ in range(2)]
    for copy in copies:
        copy.record.provisional = True
    await fork.fork(cat, copies, Timings())
    assert not any(copy.record.provisional for copy in copies)
    for pod in (*copies, cat):
        assert await says(pod, pod.record.id.encode()) == pod.record.id.encode()


async def test_a_source_runs_on_though_no_copy_could_be_made(lot: Lot, cat: Pod) -> None:
    lot.hypervisor.fail_clones = "no memory"
    copy = lot.pod("cat", implicit=True)
    with pytest.raises(GuestDied, match="no memory"):
        await fork.fork(cat, [copy], Timings())
    assert (copy.machine.vm, copy.record.nics, only(copy).record.state) == (None, [], "created")
    assert await says(cat, b"still here\n") == b"still here\n"
