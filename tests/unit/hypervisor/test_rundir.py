"""The files of one VMM."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.errors import InvalidInput
from hypercontainer.hypervisor.host.reaper import reap
from hypercontainer.hypervisor.host.rundir import VmmFile
from hypercontainer.hypervisor.qemu.rundir import qemu_run
from hypercontainer.lib import cgroup, proc


def test_a_path_too_long_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="too long for a socket"):
        qemu_run(tmp_path / ("x" * 120))


def test_the_lock_is_held_by_one(tmp_path: Path) -> None:
    run = qemu_run(tmp_path)
    lock = run.lock()
    assert lock is not None
    assert run.lock() is None
    os.close(lock)
    again = run.lock()
    assert again is not None
    os.close(again)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    run, known = qemu_run(tmp_path), VmmFile(boot_id="b", cgroups=["/a", "/b"])
    assert run.load() is None
    run.save(known)
    assert run.load() == known


def test_the_tail_of_a_log_goes_back_into_its_predecessor(tmp_path: Path) -> None:
    run = qemu_run(tmp_path)
    assert run.read_tail("qemu.out", 10) == b""
    (tmp_path / "qemu.out").write_bytes(b"newer")
    assert run.read_tail("qemu.out", 3) == b"wer"
    (tmp_path / "qemu.out.old").write_bytes(b"older")
    assert run.read_tail("qemu.out", 7) == b"ernewer"
    assert run.read_tail("qemu.out", 100) == b"oldernewer"


@given(st.binary(max_size=50), st.binary(max_size=50), st.integers(0, 120))
def test_a_tail_is_a_tail(tmp_path_factory: pytest.TempPathFactory, old: bytes, new: bytes, size: int) -> None:
    folder = tmp_path_factory.mktemp("t")
    (folder / "a").write_bytes(new)
    (folder / "a.old").write_bytes(old)
    assert qemu_run(folder).read_tail("a", size) == (old + new)[max(0, len(old + new) - size) :]


def test_processes_are_read_when_they_are_written(tmp_path: Path) -> None:
    run = qemu_run(tmp_path)
    assert run.processes("qemu") == []
    (tmp_path / "qemu.pid").write_text("")
    assert run.processes("qemu") == []
    (tmp_path / "qemu.pid").write_text("10 100\n11 101\n")
    assert [(p.pid, p.start_time) for p in run.processes("qemu")] == [(10, 100), (11, 101)]


async def test_reaping_removes_our_files_and_no_others(tmp_path: Path) -> None:
    run = qemu_run(tmp_path)
    run.save(VmmFile(boot_id="b", cgroups=[str(tmp_path / "no-cgroup")]))
    run.jail.mkdir()
    for path in run.files():
        path.touch() if path.name != "vmm.json" else None
    (tmp_path / "theirs").touch()
    await reap(run)
    await reap(run)
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


async def test_who_was_cancelled_reaps_all_the_same(tmp_path: Path) -> None:
    run = qemu_run(tmp_path)
    keeper = await asyncio.create_subprocess_exec("sleep", "1000")
    (tmp_path / "qemu.pid").write_text(f"{keeper.pid} {proc.start_time(keeper.pid)}\n")
    lock = run.lock()
    assert lock is not None
    begun = asyncio.Event()

    async def start() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await reap(run)

    starting = asyncio.create_task(start())
    await begun.wait()
    starting.cancel()
    await asyncio.wait([starting], timeout=0.2)  # it must wait: somebody holds the lock
    os.close(lock)
    keeper.kill()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert list(tmp_path.iterdir()) == []
    await keeper.wait()


async def test_reaping_never_kills_a_later_process_with_the_same_pid(tmp_path: Path) -> None:
    run = qemu_run(tmp_path)
    started = proc.start_time(os.getpid())
    assert started is not None
    (tmp_path / "qemu.pid").write_text(f"{os.getpid()} {started - 1}\n{os.getpid()} {started - 1}\n")
    await reap(run)  # or this test would be dead
    assert list(tmp_path.iterdir()) == []


# cgroups: folders stand for them


@pytest.fixture
def hierarchies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cgroup, "CGROUPS", tmp_path)
    return tmp_path


def test_version_2_is_one_folder_and_version_1_one_for_each_controller(hierarchies: Path) -> None:
    assert cgroup.plan("vm") == []
    for name in ("memory", "pids", "cpu"):
        (hierarchies / name).mkdir()
    assert cgroup.plan("vm") == [hierarchies / "memory/hyper/vm", hierarchies / "pids/hyper/vm"]
    (hierarchies / "cgroup.controllers").write_text("memory pids")
    assert cgroup.plan("vm") == [hierarchies / "hyper/vm"]


@pytest.mark.parametrize("file", ["memory.events", "memory.oom_control"])
def test_a_kill_for_memory_is_seen(hierarchies: Path, file: str) -> None:
    folder = hierarchies / "vm"
    folder.mkdir()
    assert not cgroup.out_of_memory([folder])
    (folder / file).write_text("under_oom 0\noom_kill 0\n")
    assert not cgroup.out_of_memory([folder])
    (folder / file).write_text("under_oom 0\noom_kill 1\n")
    assert cgroup.out_of_memory([folder])


async def test_a_vmm_that_let_go_of_its_lock_is_killed_all_the_same(tmp_path: Path) -> None:
    run = qemu_run(tmp_path)
    vmm = await asyncio.create_subprocess_exec("sleep", "1000")
    started = proc.start_time(vmm.pid)
    (tmp_path / "qemu.pid").write_text(f"{os.getpid()} {proc.start_time(os.getpid())}\n{vmm.pid} {started}\n")
    await reap(run)
    assert await vmm.wait() == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []
