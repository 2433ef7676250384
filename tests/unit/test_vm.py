"""One booted guest: what its callers hear when it lives, dies, panics, or says nothing."""

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from hypercontainer import vm as vms
from hypercontainer.agent.wire import WireError
from hypercontainer.errors import GuestDied, GuestError, GuestSilent, InUse
from hypercontainer.hypervisor.base import SharedFolder, Size, VmConfig
from hypercontainer.lib.trace import Timings, Trace
from hypercontainer.testing.contract import HypervisorContract
from hypercontainer.testing.fakes import FakeAgent, FakeGuest, FakeHypervisor
from hypercontainer.vm import Vm

PANIC = "Kernel panic - not syncing: VFS: Unable to mount root fs"


@pytest.fixture
def config() -> VmConfig:
    return VmConfig(
        name="t", kernel=Path("k"), initrd=Path("i"), vcpus=1, memory_mib=128, uid=1, boot_timeout_s=0.2
    )  # fmt: skip


class TestFakeHypervisor(HypervisorContract):
    pass


class TestBareHypervisor(HypervisorContract):
    """Of what it need not do nothing is tried, but that its guests cannot."""

    @pytest.fixture
    async def hypervisor(self) -> AsyncIterator[FakeHypervisor]:
        hypervisor = FakeHypervisor(features=frozenset())
        yield hypervisor
        assert hypervisor.alive == []


async def booting(hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path) -> tuple[asyncio.Task[Vm], FakeGuest]:
    """A boot whose agent has been dialled and does not answer."""
    agent = FakeAgent()
    agent.muted = True
    hypervisor.make_agent = lambda: agent
    task = asyncio.create_task(vms.boot(hypervisor, config, run_dir, Timings()))
    await agent.dialled.wait()
    return task, hypervisor.guests[str(run_dir)]


async def test_a_guest_that_panics_while_booting_is_named_with_its_console(
    hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    task, guest = await booting(hypervisor, config, run_dir)
    await guest.die("guest kernel panic: VFS", console=PANIC)
    with pytest.raises(GuestDied, match="ended: guest kernel panic: VFS") as died:
        await task
    assert died.value.console == PANIC


async def test_a_guest_that_stays_silent_is_killed_and_its_console_told(
    hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    task, guest = await booting(hypervisor, config, run_dir)
    guest.console = "hyperstart: waiting for the port"
    with pytest.raises(GuestSilent, match=r"within 0\.2 s; .* ends with: hyperstart: waiting for the port"):
        await task


async def test_a_guest_with_another_version_is_killed(
    hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    def newer() -> FakeAgent:
        agent = FakeAgent()
        agent.version = 2
        return agent

    hypervisor.make_agent = newer
    with pytest.raises(WireError, match="speaks version 2, we speak 1"):
        await vms.boot(hypervisor, config, run_dir, Timings())


async def test_a_boot_that_is_cancelled_waits_for_its_share(
    hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    """Or that would be there after whoever clears it up."""
    begun, go_on = threading.Event(), threading.Event()

    def prepare() -> Path:
        begun.set()
        go_on.wait()
        return run_dir

    share = SharedFolder(folder=run_dir, prepare=prepare)
    booting = vms.boot(hypervisor, replace(config, share=share), run_dir, Timings())
    task = asyncio.create_task(booting)
    await asyncio.to_thread(begun.wait)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not done and hypervisor.alive == []


@pytest.mark.parametrize("turns", range(60))
async def test_a_boot_that_is_cancelled_leaves_nobody_who_connects(
    turns: int, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    """A client that goes on ends the conversation of the next guest that has this socket."""
    hypervisor.make_agent = FakeAgent
    task = asyncio.create_task(vms.boot(hypervisor, config, run_dir, Timings()))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    [end] = await asyncio.gather(task, return_exceptions=True)
    if isinstance(end, Vm):
        await end.close()
        await end.guest.kill()
    else:
        assert isinstance(end, asyncio.CancelledError)
    assert [other for other in asyncio.all_tasks() if other.get_name().startswith("agent ")] == []


async def test_a_boot_that_is_cancelled_leaves_nothing(
    hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    task, _ = await booting(hypervisor, config, run_dir)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_hypervisor_that_fails_says_why(hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path) -> None:
    hypervisor.fail = "qemu: no memory"
    with pytest.raises(GuestDied, match="qemu: no memory"):
        await vms.boot(hypervisor, config, run_dir, Timings())
    assert list(run_dir.iterdir()) == []


async def test_readers_and_writers_hear_of_the_death_after_the_last_words(
    hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    async with vms.booted(hypervisor, config, run_dir) as vm, asyncio.timeout(60):
        guest = hypervisor.guests[str(run_dir)]
        guest.agent.add_container("c")
        first = vm.agent.new_streams(2)
        streams = {"stdin": first, "stdout": first + 1}
        await vm.call("process.start", id="p", container="c", args=["cat"], streams=streams)
        stdin, stdout = vm.agent.input(first), vm.agent.output(first + 1)
        await stdin.write(b"last words")
        await stdin.drained()
        await vm.agent.ping()
        writing = asyncio.create_task(stdin.write(bytes(1 << 24)))
        await guest.die("killed by signal 11", console="oops")
        assert (await stdout.read()).startswith(b"last words")
        with pytest.raises(GuestDied, match="signal 11"):
            while await stdout.read():
                pass
        with pytest.raises(GuestDied) as died:
            await writing
        assert died.value.console == "oops"
        assert isinstance(await vm.agent.ended(), GuestDied)


async def test_powering_off_a_guest_that_will_not_kills_it(
    hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    async with vms.booted(hypervisor, config, run_dir) as vm:
        hypervisor.guests[str(run_dir)].agent.answers["poweroff"] = lambda args: {}
        assert await vm.power_off(grace_s=0.1) == "killed by signal 9"


async def test_a_guest_that_does_not_answer_its_new_host_is_killed(
    hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    async with vms.booted(hypervisor, config, run_dir) as vm:
        await vm.close()
        hypervisor.guests[str(run_dir)].agent.muted = True
        with pytest.raises(GuestSilent):
            await vms.attach(hypervisor, vm.guest.record, timeout_s=0.1)
        assert not hypervisor.alive


async def test_a_guest_is_found_again(hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path) -> None:
    async with vms.booted(hypervisor, config, run_dir) as vm:
        await vm.close()
        again = await vms.attach(hypervisor, vm.guest.record)
        assert again
        await again.agent.ping()
        await again.close()


async def test_letting_go_twice_is_letting_go(hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path) -> None:
    async with vms.booted(hypervisor, config, run_dir) as vm:
        await vm.close()
        await vm.close()
        with pytest.raises(GuestSilent, match="closed"):
            await vm.agent.ping()


async def test_the_steps_of_a_boot_are_told(hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path) -> None:
    timings = Timings()
    trace: Trace = timings
    async with vms.booted(hypervisor, config, run_dir, trace):
        assert [step.name for step in timings.steps] == ["vmm", "agent"]


async def test_a_guest_grows_and_shrinks_and_its_agent_is_told(
    hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    async with vms.booted(hypervisor, config, run_dir) as vm:
        agent = hypervisor.guests[str(run_dir)].agent
        assert await vm.resize(2, 512) == Size(vcpus=2, memory_mib=512, added_mib=384)
        assert (agent.cpus, agent.added_kib) == (2, 384 << 10)
        assert await vm.resize(1, 128) == Size(vcpus=1, memory_mib=128, added_mib=0)
        assert (agent.cpus, agent.added_kib) == (1, 0)
        assert (await vm.resize(2, 64)).memory_mib == 128  # what it started with stays
        assert agent.cpus == 2  # switched on again


async def test_memory_in_use_is_not_taken(hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path) -> None:
    async with vms.booted(hypervisor, config, run_dir) as vm:
        await vm.resize(1, 512)
        agent = hypervisor.guests[str(run_dir)].agent
        agent.used_kib = agent.used_kib + (300 << 10)
        with pytest.raises(InUse, match="cannot shrink memory to 256 MiB: 428 MiB of 512 are in use"):
            await vm.resize(2, 256)
        assert (await vm.guest.size()).memory_mib == 512
        assert agent.cpus == 1


async def test_what_a_guest_cannot_give_back_it_keeps(
    hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    async with vms.booted(hypervisor, config, run_dir) as vm:
        await vm.resize(1, 512)
        hypervisor.guests[str(run_dir)].stuck_mib = 12
        assert await vm.resize(1, 128) == Size(vcpus=1, memory_mib=140, added_mib=12)


async def test_processors_that_do_not_run_are_said(hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path) -> None:
    async with vms.booted(hypervisor, config, run_dir) as vm:
        said = {"cpus": 1, "memory_total_kib": 1, "memory_used_kib": 1}
        hypervisor.guests[str(run_dir)].agent.answers["pod.resize"] = lambda args: said
        with pytest.raises(GuestError, match="cannot have the guest run 2 vCPUs: it runs 1"):
            await vm.resize(2, 128)
