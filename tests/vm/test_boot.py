"""The QEMU driver: guests that boot, end in every way there is, and leave nothing."""

import asyncio
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hypercontainer import vm
from hypercontainer.errors import GuestDied, GuestError, GuestSilent, InUse, NotFound
from hypercontainer.hypervisor.base import Nic, SharedFolder, VmConfig
from hypercontainer.hypervisor.host import tsc
from hypercontainer.hypervisor.host.cause import why_ended
from hypercontainer.hypervisor.qemu import argv
from hypercontainer.hypervisor.qemu.driver import QemuHypervisor
from hypercontainer.hypervisor.qemu.guest import QemuGuest
from hypercontainer.hypervisor.qemu.rundir import qemu_run
from hypercontainer.lib.trace import Timings
from hypercontainer.model.record import DiskRecord, GuestRecord

pytestmark = pytest.mark.vm

Booted = Callable[..., AbstractAsyncContextManager[QemuGuest]]
Config = Callable[..., VmConfig]
Lines = Callable[[QemuGuest], AbstractAsyncContextManager[Callable[[str], Any]]]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_the_agents_port_answers_and_a_power_off_is_named(booted: Booted, line: Lines) -> None:
    async with booted() as guest:
        async with line(guest) as ask:
            assert await ask("ping") == "pong"
            ending = asyncio.create_task(ask("poweroff"))
            assert await guest.wait() == "powered off"
            ending.cancel()
        assert "the guest of the tests is up" in guest.console_tail()
        await guest.kill()
        assert await guest.wait() == "powered off"
        assert "the guest of the tests is up" in guest.console_tail()  # it is kept when its file goes


@pytest.mark.parametrize(
    ("word", "cause"),
    [
        ("t.panic", "guest kernel panic: sysrq triggered crash"),
        ("t.exit", "guest kernel panic: Attempted to kill init!"),
    ],
)
async def test_a_kernel_panic_is_named(booted: Booted, word: str, cause: str) -> None:
    async with booted(word) as guest:
        assert (await guest.wait()).startswith(cause)


async def test_a_guest_that_resets_itself_ends(booted: Booted, line: Lines) -> None:
    async with booted() as guest, line(guest) as ask:
        asking = asyncio.create_task(ask("reset"))
        assert await guest.wait() == "the guest reset itself"
        asking.cancel()


async def test_a_killed_vmm_is_named(booted: Booted, line: Lines) -> None:
    async with booted() as guest, line(guest) as ask:
        await ask("ping")
        os.kill(guest.record.process.pid, signal.SIGKILL)
        assert await guest.wait() == "killed by signal 9 (SIGKILL)"
        with pytest.raises(GuestError, match="monitor is gone"):
            await guest.pause()


async def test_a_kill_of_ours_is_no_accident(booted: Booted) -> None:
    async with booted() as guest:
        waiting = asyncio.create_task(guest.wait())
        await asyncio.gather(guest.kill(), guest.kill())
        assert await waiting == "killed"


async def test_a_file_that_is_no_kernel_is_named(booted: Booted, tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_text("not a kernel" * 1000)
    (tmp_path / "vmlinux").chmod(0o644)
    with pytest.raises(GuestDied, match=r"cannot start the virtual machine: qemu: .*kernel"):
        async with booted(kernel=tmp_path / "vmlinux"):
            pass


async def test_a_kernel_that_is_not_there_is_named(booted: Booted, tmp_path: Path) -> None:
    with pytest.raises(GuestDied, match=f"{tmp_path}/none: No such file"):
        async with booted(kernel=tmp_path / "none"):
            pass


async def test_more_memory_than_the_host_has_is_refused_in_qemus_words(booted: Booted) -> None:
    with pytest.raises(GuestDied, match=r"qemu: ."):
        async with booted(memory_mib=1 << 40):
            pass


async def test_a_silent_guest_is_bounded_and_its_console_shown(
    driver: QemuHypervisor, config: Config, run_dir: Path
) -> None:
    with pytest.raises(GuestSilent, match="the guest of the tests is up"):
        await vm.boot(driver, config("t.silent", boot_timeout_s=20), run_dir, Timings())


async def test_a_panic_while_we_wait_for_the_agent_is_named(
    driver: QemuHypervisor, config: Config, run_dir: Path
) -> None:
    with pytest.raises(GuestDied, match="kernel panic: sysrq triggered crash"):
        await vm.boot(driver, config("t.panic"), run_dir, Timings())


async def test_a_flood_on_the_console_is_bounded(booted: Booted, run_dir: Path) -> None:
    async with booted("t.flood") as guest:
        old = run_dir / "qemu.out.old"
        await until(lambda: old.exists() and old.stat().st_size > 0)
        assert max(path.stat().st_size for path in run_dir.iterdir()) <= 256 * 1024
        assert "\033" not in guest.console_tail()
        assert guest.console_tail().count("7\n") or guest.console_tail().count("7[2J")


async def test_a_second_guest_in_the_same_folder_is_refused(
    booted: Booted, line: Lines, driver: QemuHypervisor, config: Config, run_dir: Path
) -> None:
    async with booted() as guest, line(guest) as ask:
        with pytest.raises(InUse):
            await driver.boot(config(), run_dir, Timings())
        assert await ask("ping") == "pong"


async def test_a_paused_guest_is_silent_until_it_is_resumed(booted: Booted, line: Lines) -> None:
    async with booted() as guest, line(guest) as ask:
        await ask("ping")
        await guest.pause()
        waiting = asyncio.create_task(ask("ping"))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
        await guest.resume()
        assert await waiting == "pong"


# Disks


def disk(path: Path, target: int, *, read_only: bool = False) -> DiskRecord:
    if not path.exists():
        path.write_bytes(f"disk {target}\n".encode().ljust(1 << 20, b"\0"))
    return DiskRecord(target=target, path=str(path), read_only=read_only)


async def scan(ask: Callable[[str], Any], *targets: int) -> dict[int, str]:
    """Let the guest look at `targets`; their block devices, which appear a little after the scan has been answered."""
    for target in targets:
        assert await ask(f"scan {target}") == "ok"
    async with asyncio.timeout(60):
        while len(found := await disks(ask)) < len(targets):
            pass
    return found


async def disks(ask: Callable[[str], Any]) -> dict[int, str]:
    """Block devices by SCSI target, as sysfs has them: sda=0:0:3:0"""
    pairs = [word.split("=") for word in (await ask("disks")).split()]
    return {int(address.split(":")[2]): f"/dev/{name}" for name, address in pairs}


async def test_disks_are_found_by_target_and_an_image_cannot_be_written(
    booted: Booted, line: Lines, tmp_path: Path
) -> None:
    image, scratch = disk(tmp_path / "image", 0, read_only=True), disk(tmp_path / "scratch", 1)
    before = hashlib.sha256((tmp_path / "image").read_bytes()).digest()
    async with booted(disks=[image, scratch]) as guest, line(guest) as ask:
        assert await disks(ask) == {}  # none until it looks: asking all 256 targets takes time
        found = await scan(ask, 0, 1)
        assert await ask(f"get {found[0]}") == "disk 0"
        assert await ask(f"scribble {found[0]}") != "ok"
        assert await ask(f"scribble {found[1]}") == "ok"
    assert hashlib.sha256((tmp_path / "image").read_bytes()).digest() == before
    assert (tmp_path / "scratch").read_bytes().startswith(b"a hostile guest")


async def test_a_disk_is_plugged_and_pulled_while_the_guest_runs(booted: Booted, line: Lines, tmp_path: Path) -> None:
    async with booted() as guest, line(guest) as ask:
        await ask("ping")
        for turn in range(2):  # the second time finds nothing of the first in its way
            await guest.add_disk(disk(tmp_path / f"image{turn}", 6, read_only=True))
            await guest.add_disk(disk(tmp_path / f"scratch{turn}", 7))
            found = await scan(ask, 6, 7)
            assert await ask(f"get {found[6]}") == "disk 6"
            assert await ask(f"scribble {found[6]}") != "ok"
            for target, device in found.items():
                assert await ask(f"detach {device.removeprefix('/dev/')}") == "ok"
                await guest.remove_disk(target)
            assert await disks(ask) == {}
            assert open_paths(guest.record.process.pid, tmp_path) == []


def open_paths(pid: int, below: Path) -> list[str]:
    links = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]
    return [link for link in links if link.startswith(str(below))]


async def test_a_disk_that_cannot_be_plugged_leaves_nothing_open(booted: Booted, line: Lines, tmp_path: Path) -> None:
    async with booted(disks=[disk(tmp_path / "first", 1)]) as guest, line(guest) as ask:
        await ask("ping")
        with pytest.raises(NotFound):
            await guest.add_disk(DiskRecord(target=2, path=str(tmp_path / "none"), read_only=True))
        with pytest.raises(GuestError, match="refused"):
            await guest.add_disk(disk(tmp_path / "again", 1))  # the target is taken
        with pytest.raises(GuestError, match="refused"):
            await guest.add_disk(disk(tmp_path / "far", 70_000))  # no such target on the bus
        assert set(open_paths(guest.record.process.pid, tmp_path)) == {str(tmp_path / "first")}
        await guest.remove_disk(5)


async def test_a_disk_that_was_half_taken_away(booted: Booted, line: Lines, tmp_path: Path) -> None:
    """By a hyperd that was killed in the middle of it."""
    async with booted() as guest, line(guest) as ask:
        await ask("ping")
        for parts in (1, 2, 3):
            await guest.add_disk(disk(tmp_path / f"d{parts}", 6))
            await guest._monitor.delete_device(argv.device_id(6))
            for name in (argv.node_name(6), argv.file_name(6))[: parts - 1]:
                await guest._close(name)
            assert await guest.plugged() == ({6} if parts < 3 else set())
            await guest.remove_disk(6)
            assert await guest.plugged() == set()
            assert open_paths(guest.record.process.pid, tmp_path) == []


async def test_a_scratch_disk_serves_one_guest_only(
    booted: Booted, tmp_path: Path, driver: QemuHypervisor, config: Config
) -> None:
    scratch = disk(tmp_path / "scratch", 1)
    other = tmp_path / "o"
    other.mkdir()
    async with booted(disks=[scratch]):
        with pytest.raises(GuestDied, match="lock"):
            await driver.boot(config(disks=[scratch]), other, Timings())
    assert list(other.iterdir()) == []


# Time


async def test_an_emulated_guest_is_told_how_fast_its_clock_goes(booted: Booted, line: Lines) -> None:
    """It would measure that, wrongly on a machine that is busy: every rdtsc of it would then be off by a factor."""
    async with booted() as guest, line(guest) as ask:
        said = re.search(r"tsc_early_khz=(\d+)", await ask("get /proc/cmdline"))
        assert said
        again = await tsc.khz()
        assert abs(int(said[1]) - again) < again / 10_000


# Network


async def test_the_nic_has_the_address_it_was_given_and_its_tap_goes_with_the_vmm(booted: Booted, line: Lines) -> None:
    nic = Nic(tap=f"hyv{os.getpid()}", mac="52:54:00:12:34:56")
    device = Path("/sys/class/net") / nic.tap
    async with booted(nics=[nic]) as guest, line(guest) as ask:
        assert await ask("get /sys/class/net/eth0/address") == nic.mac
        assert (device / "owner").read_text().strip() == str(guest.record.uid)
    await until(lambda: not device.exists())


async def test_the_name_of_a_tap_is_the_next_guests_at_once(booted: Booted, line: Lines) -> None:
    nic = Nic(tap=f"hyv{os.getpid()}", mac="52:54:00:12:34:56")
    for _ in range(3):
        async with booted(nics=[nic]) as guest, line(guest) as ask:
            assert await ask("ping") == "pong"


async def test_a_tap_of_another_vmm_is_in_use(
    booted: Booted, driver: QemuHypervisor, config: Config, tmp_path: Path
) -> None:
    nic = Nic(tap=f"hyv{os.getpid()}", mac="52:54:00:12:34:56")
    async with booted(nics=[nic]):
        with pytest.raises(InUse, match="another virtual machine has it"):
            await driver.boot(config(nics=[nic]), tmp_path, Timings())
    assert list(tmp_path.iterdir()) == []


# Our own death

BOOT = """
import asyncio, json, os, signal, sys
from contextlib import contextmanager
from pathlib import Path
import msgspec
from hypercontainer.hypervisor.base import SharedFolder, VmConfig
from hypercontainer.hypervisor.qemu import argv
from hypercontainer.hypervisor.qemu.driver import QemuHypervisor

wanted = json.loads(sys.argv[1])

class Trace:
    @contextmanager
    def step(self, name):
        if wanted["die"] == f"before {name}":
            os.kill(os.getpid(), signal.SIGKILL)
        yield
        if wanted["die"] == f"after {name}":
            os.kill(os.getpid(), signal.SIGKILL)

async def main():
    made = {"kernel": Path, "initrd": Path, "share": lambda folder: SharedFolder(folder=Path(folder))}
    config = VmConfig(**{k: made[k](v) if k in made else v for k, v in wanted["config"].items()})
    guest = await QemuHypervisor().boot(config, Path(wanted["run_dir"]), Trace())
    print(msgspec.json.encode(guest.record).decode(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def boot_and_die(config: VmConfig, run_dir: Path, die: str = "") -> bytes:
    """Boot in another process, which is killed at the step `die`, or after it has printed the guest's record."""
    values = {
        "name": config.name,
        "kernel": str(config.kernel),
        "initrd": str(config.initrd),
        "vcpus": config.vcpus,
        "memory_mib": config.memory_mib,
        "uid": config.uid,
    } | ({"share": str(config.share.folder)} if config.share else {})
    wanted = json.dumps({"config": values, "run_dir": str(run_dir), "die": die})
    done = subprocess.run([sys.executable, "-c", BOOT, wanted], capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    return done.stdout


async def test_a_guest_outlives_us_and_is_found_again(
    driver: QemuHypervisor, config: Config, run_dir: Path, line: Lines, tmp_path: Path
) -> None:
    record = msgspec.json.decode(boot_and_die(config(), run_dir), type=GuestRecord)
    guest = await driver.attach(record)
    assert guest is not None
    async with line(guest) as ask:
        assert await ask("ping") == "pong"
        await guest.add_disk(disk(tmp_path / "late", 3))
        asking = asyncio.create_task(ask("poweroff"))
        assert await guest.wait() == "powered off"
        asking.cancel()
    assert "the guest of the tests is up" in guest.console_tail()
    await guest.kill()


async def test_an_end_that_nobody_saw_is_named(
    driver: QemuHypervisor, config: Config, run_dir: Path, line: Lines
) -> None:
    record = msgspec.json.decode(boot_and_die(config(), run_dir), type=GuestRecord)
    os.kill(record.process.pid, signal.SIGKILL)
    await until(lambda: (run_dir / "qemu.status").read_text() != "")
    assert await driver.attach(record) is None
    assert why_ended(qemu_run(run_dir)) == "killed by signal 9 (SIGKILL)"
    await driver.reap(run_dir)


async def test_a_record_of_another_boot_of_the_host_is_void(driver: QemuHypervisor, booted: Booted) -> None:
    async with booted() as guest:
        assert await driver.attach(msgspec.structs.replace(guest.record, boot_id="another")) is None
        later = msgspec.structs.replace(guest.record.process, start_time=guest.record.process.start_time + 1)
        assert await driver.attach(msgspec.structs.replace(guest.record, process=later)) is None


STEPS = ["record", "cgroup", "files", "vmm", "monitor"]


@pytest.mark.parametrize("die", [f"{when} {step}" for step in STEPS for when in ("before", "after")])
async def test_a_boot_that_is_cut_short_is_reaped(
    driver: QemuHypervisor, config: Config, run_dir: Path, tmp_path: Path, die: str
) -> None:
    assert boot_and_die(config(share=SharedFolder(folder=tmp_path)), run_dir, die) == b""
    await driver.reap(run_dir)
    assert list(run_dir.iterdir()) == []


async def test_a_boot_that_is_cancelled_leaves_nothing(driver: QemuHypervisor, config: Config, run_dir: Path) -> None:
    task = asyncio.create_task(driver.boot(config(), run_dir, Timings()))
    await until(lambda: (run_dir / "qemu.pid").exists())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(run_dir.iterdir()) == []
