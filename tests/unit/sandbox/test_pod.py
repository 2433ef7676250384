"""A pod's life with nobody above it: no store, no names, no policy; a supervisor is asked what follows."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from hypercontainer.errors import Exhausted, GuestDied, HyperError, InvalidInput, NoLog, WrongState
from hypercontainer.lib.trace import Timings
from hypercontainer.model.container import Process
from hypercontainer.model.documents import LogEntry
from hypercontainer.model.record import CriSinkRecord, LogSinkRecord, PodRecord, RawSinkRecord
from hypercontainer.model.spec import ExecSpec
from hypercontainer.sandbox import archive
from hypercontainer.sandbox import container as container_module
from hypercontainer.sandbox.attach import AttachSession
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.exec import ExecSession
from hypercontainer.sandbox.log import Wanted
from hypercontainer.sandbox.logs import log_of, read_log
from hypercontainer.sandbox.pod import Pod
from hypercontainer.sandbox.raw import handed_over
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
    assert lot.supervisor.events == ["pod start", "cat start", "cat began", "cat 0?", "cat die", "cat ended, exited"]
    assert (cat.record.state, cat.record.exit_code, len(lot.hypervisor.alive)) == ("exited", 0, 1)
    async with pod.locked() as locked:
        assert pod.idle
        await locked.power_off()
    assert (lot.hypervisor.alive, lot.network.nics, pod.record.guest) == ([], {}, None)


async def test_what_follows_from_an_end_is_the_owners_to_say(lot: Lot) -> None:
    pod = lot.pod("exit 7")
    [container] = pod.containers.values()
    lot.supervisor.after = "restarting"
    await started(pod)
    await container.left.wait()
    assert lot.supervisor.events[-1] == "exit ended, restarting"
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
    assert lot.supervisor.events[-4:] == ["sleep die", "sleep ended, exited", "cat die", "cat ended, exited"]
    assert lot.network.nics == {}


async def test_a_machine_that_is_powered_off_takes_all_that_runs_in_it_along(lot: Lot) -> None:
    pod = lot.pod("sleep 1000", "cat")
    sleep, cat = pod.containers.values()
    session = AttachSession(pod, sleep, {1}, stdin=False)
    await started(pod, sleep, cat)
    session.started([])
    await pod.kill(cat)
    exec_ = pod.add_exec(sleep, ExecSpec(command=["sleep", "1000"]), Process(args=["sleep", "1000"]))
    await pod.start_exec(exec_)
    async with pod.locked() as locked:
        await locked.power_off()
    with pytest.raises(GuestDied, match="the virtual machine of p was ended"):
        await ExecSession(exec_).wait()
    assert ([piece async for piece in session], await session.wait()) == ([], 137)
    assert (sleep.record.state, sleep.record.exit_code, sleep.record.stopped_by_user) == ("exited", 137, True)
    assert sleep.left.is_set()
    written = msgspec.json.decode(lot.supervisor.written, type=PodRecord)
    assert [container.state for container in written.containers] == ["exited", "exited"]
    assert lot.supervisor.events[-4:] == ["sleep 137?", "pod stop", "sleep die", "sleep ended, exited"]


async def test_the_guest_keeps_a_status_until_the_record_is_written(lot: Lot) -> None:
    pod = lot.pod("exit 7", "sleep 1000")
    ends, _ = pod.containers.values()
    await started(pod)
    lot.supervisor.full = True
    agent = lot.hypervisor.alive[0].agent
    await ends.left.wait()
    async with pod.locked() as locked:
        assert pod.unwritten == [ends] and ends.record.id in agent.processes
        lot.supervisor.full = False
        await locked.written()
    assert not pod.unwritten and ends.record.id not in agent.processes


async def test_a_start_that_cannot_be_written_down_leaves_no_machine(lot: Lot) -> None:
    pod = lot.pod("cat")
    lot.supervisor.full = True
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
    assert lot.supervisor.events == ["pod start", "unused", "unused"]
    assert pod.idle and lot.network.nics == {}


async def test_a_pod_is_taken_up_again_by_its_record(lot: Lot) -> None:
    pod = lot.pod("cat", "exit 3")
    cat, ends = pod.containers.values()
    await started(pod, cat)
    again = await restarted(lot, pod)
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


# where its output goes


@pytest.fixture
def handed(tmp_path: Path) -> Iterator[tuple[RawSinkRecord, int]]:
    """A fifo that was handed over, and its reader, who has not begun to read."""
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    yield handed_over(reader, ["stdout"]), reader
    os.close(reader)


@pytest.mark.parametrize("reads", ["slowly", "not"])
async def test_a_reader_is_waited_for_after_the_end_while_it_reads(
    lot: Lot, handed: tuple[RawSinkRecord, int], monkeypatch: pytest.MonkeyPatch, reads: str
) -> None:
    monkeypatch.setattr(container_module, "DRAIN_S", 0.05)
    sink, reader = handed
    pod = lot.pod("cat", sinks=[sink, LogSinkRecord()])
    [cat] = pod.containers.values()
    session = AttachSession(pod, cat, {1}, stdin=True)
    await started(pod)
    session.started([])
    said, got = os.urandom(200_000), b""
    await session.write(said)
    await session.close_stdin()
    while reads == "slowly" and len(got) < len(said):
        await asyncio.sleep(0.01)
        with suppress(BlockingIOError):
            got += os.read(reader, 4096)
        assert cat.running or len(said) - len(got) <= 1 << 16  # what is in the fifo is its reader's
    assert await session.wait() == 0
    assert b"".join([data async for _, data in session]) == said
    assert b"".join([entry.data async for entry in entries(cat)]) == said
    if reads == "not":
        got = os.read(reader, len(said))
        assert said.startswith(got) and 0 < len(got) < len(said)


async def test_who_does_not_read_keeps_no_container_from_being_killed(
    lot: Lot, handed: tuple[RawSinkRecord, int]
) -> None:
    """Nor does the machine end for that."""
    pod = lot.pod("cat", sinks=[handed[0]])
    [cat] = pod.containers.values()
    session = AttachSession(pod, cat, {1}, stdin=True)
    await started(pod)
    session.started([])
    await session.write(os.urandom(200_000))
    await session.close_stdin()
    await pod.kill(cat, obey_s=0.1)
    assert (cat.record.state, len(lot.hypervisor.alive)) == ("exited", 1)


async def test_a_container_without_a_log_has_no_file_of_ours(lot: Lot) -> None:
    pod = lot.pod("cat", sinks=[])
    [cat] = pod.containers.values()
    session = AttachSession(pod, cat, {1}, stdin=True)
    await started(pod)
    session.started([])
    await session.write(b"hello\n")
    assert await anext(aiter(session)) == (1, b"hello\n")
    pod = await restarted(lot, pod)
    [cat] = pod.containers.values()
    session = AttachSession(pod, cat, {1}, stdin=True)
    with pytest.raises(NoLog, match="cannot begin with the log of cat: it was made without a log"):
        session.begin_with_log()
    session.started([])
    await session.write(b"again\n")
    await session.close_stdin()
    assert b"".join([data async for _, data in session]).endswith(b"again\n")
    assert await session.wait() == 0
    assert list((pod.folder / cat.record.id).rglob("*.log")) == []


async def test_the_sinks_are_there_again_after_a_restart(lot: Lot, tmp_path: Path) -> None:
    pod = lot.pod("cat", sinks=[LogSinkRecord(), CriSinkRecord(path=str(tmp_path / "0.log"))])
    [cat] = pod.containers.values()
    with pytest.raises(WrongState, match="cannot reopen the log of cat: it is created"):
        pod.reopen_log(cat)
    await started(pod)
    for word in ("one", "two", "three"):
        session = AttachSession(pod, cat, {1}, stdin=True)
        session.started([])
        await session.write(f"{word}\n".encode())
        assert await anext(aiter(session)) == (1, f"{word}\n".encode())
        pod = await restarted(lot, pod)
        [cat] = pod.containers.values()
        (tmp_path / "0.log").rename(tmp_path / f"0.log.{word}")
        pod.reopen_log(cat)
    rows = [(tmp_path / f"0.log.{word}").read_text().split() for word in ("one", "two", "three")]
    assert [row[1:] for row in rows] == [["stdout", "F", word] for word in ("one", "two", "three")]
    assert b"".join([entry.data async for entry in entries(cat)]) == b"one\ntwo\nthree\n"
    pod.machine.unreached = "it stands still"  # so nobody knows yet how far the log is
    with pytest.raises(WrongState, match="cannot reopen the log of cat: it is not reached yet"):
        pod.reopen_log(cat)
    pod.machine.unreached = ""
    (tmp_path / "0.log").unlink()
    (tmp_path / "0.log").mkdir()
    with pytest.raises(HyperError, match="cannot reopen the log of cat: Is a directory"):
        pod.reopen_log(cat)


async def test_a_container_whose_output_goes_elsewhere_has_no_log_to_reopen(lot: Lot) -> None:
    pod = lot.pod("cat")
    await started(pod)
    with pytest.raises(InvalidInput, match="cannot reopen the log of cat: it has none in Kubernetes' format"):
        pod.reopen_log(*pod.containers.values())


async def restarted(lot: Lot, pod: Pod) -> Pod:
    """As the next hyperd has it."""
    await pod.let_go()
    again = Pod(lot.site, pod.record, lot.supervisor, pod.folder)
    async with again.locked() as locked:
        assert await locked.attach()
    return again


def entries(container: Container) -> AsyncIterator[LogEntry]:
    return read_log(container, log_of(container, "read the log of"), Wanted(), follow=False, tail=None)
