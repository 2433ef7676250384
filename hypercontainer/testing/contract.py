"""What every driver and every factory must do, fake or real: suites to inherit from, with fixtures of your own.

    class TestMyDriver(HypervisorContract): ...

`hypervisor` (a Hypervisor), for a factory `factory` (a Factory) and `share` (a factory.base.Share) too, `config` (a
VmConfig whose guest runs our agent and has no disks), `run_dir` (an empty folder of ours). What a hypervisor need not
be able to do is tried where its features promise it.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest

from hypercontainer import vm as vms
from hypercontainer.agent.messages import Interface, PodSetup, Resolver
from hypercontainer.errors import GuestDied, GuestSilent, HyperError, InUse
from hypercontainer.factory.base import EMPTY, Factory, Share
from hypercontainer.factory.sealed import SealedFile
from hypercontainer.hypervisor.base import (
    HOT_NICS,
    SHARE_TAG,
    SLOTS,
    Adoptable,
    Connectable,
    Copyable,
    Feature,
    Hotplug,
    Hypervisor,
    Nic,
    Resizable,
    Savable,
    SharedFolder,
    Snapshot,
    VmConfig,
    can,
)
from hypercontainer.lib.trace import Timings, Trace
from hypercontainer.model.arch import host_name
from hypercontainer.model.record import DiskRecord

LIMIT_S = 60.0
SHORT_S = 0.5  # for an answer that must not come


# What a guest of such a hypervisor is.
ABILITIES: Mapping[Feature, type] = {
    Feature.HOTPLUG: Hotplug,
    Feature.NICS: Connectable,
    Feature.RESIZE: Resizable,
    Feature.SNAPSHOT: Savable,
    Feature.COPY: Copyable,
    Feature.ADOPT: Adoptable,
}


def promised(hypervisor: Hypervisor, feature: Feature) -> None:
    """Skip the test that calls where `hypervisor` does not claim that guests of this host's architecture have it."""
    if not can(hypervisor, feature, host_name()):
        pytest.skip(f"{hypervisor.product} does not promise: {feature}")


def folders(run_dir: Path, *names: str) -> list[Path]:
    """One for each VMM."""
    made = [run_dir / name for name in names]
    for folder in made:
        folder.mkdir(mode=0o711)
    return made


def a_file(folder: Path) -> Path:
    path = folder / "disk"
    path.write_bytes(bytes(1 << 20))
    return path


def tap_name(number: int) -> str:
    """One that no other process's tests have."""
    return f"hyv{os.getpid()}x{number:x}"


def a_pod(*, share: str) -> PodSetup:
    entropy = os.urandom(32)
    return PodSetup(hostname="test", dns=Resolver(), hosts=[], time_ns=time.time_ns(), entropy=entropy, share=share)


class HypervisorContract:
    async def test_a_booted_guest_answers_and_a_killed_one_leaves_nothing(
        self, hypervisor: Hypervisor, config: VmConfig, run_dir: Path
    ) -> None:
        timings = Timings()
        async with vms.booted(hypervisor, config, run_dir, timings) as vm:
            await vm.agent.ping()
            assert vm.guest.record.run_dir == str(run_dir)
            assert "agent" in [step.name for step in timings.steps]
        await hypervisor.reap(run_dir)
        assert list(run_dir.iterdir()) == []

    async def test_kill_may_be_repeated_and_wait_says_why(
        self, hypervisor: Hypervisor, config: VmConfig, run_dir: Path
    ) -> None:
        async with vms.booted(hypervisor, config, run_dir) as vm:
            waiting = [asyncio.create_task(vm.guest.wait()) for _ in range(2)]
            await asyncio.gather(vm.guest.kill(), vm.guest.kill())
            await vm.guest.kill()
            async with asyncio.timeout(LIMIT_S):
                causes = {*await asyncio.gather(*waiting), await vm.guest.wait()}
            assert len(causes) == 1
            assert "killed" in causes.pop()

    async def test_a_guest_that_was_told_to_end_has_ended_and_a_kill_leaves_nothing_of_it(
        self, hypervisor: Hypervisor, config: VmConfig, run_dir: Path
    ) -> None:
        async with vms.booted(hypervisor, config, run_dir) as vm, asyncio.timeout(LIMIT_S):
            for _ in range(2):
                await vm.guest.tell_end()
            assert "killed" in await vm.guest.wait()
            await vm.guest.kill()
            assert list(run_dir.iterdir()) == []
            await vm.guest.tell_end()

    async def test_calls_under_way_end_with_the_guests_death(
        self, hypervisor: Hypervisor, config: VmConfig, run_dir: Path
    ) -> None:
        async with vms.booted(hypervisor, config, run_dir) as vm:
            await vm.guest.pause()
            call = asyncio.create_task(vm.agent.ping(timeout_s=LIMIT_S))
            await asyncio.sleep(0)
            await vm.guest.kill()
            with pytest.raises(GuestDied, match="ended: "):
                await call
            with pytest.raises(GuestDied, match="ended: "):
                await vm.call("ping")

    async def test_a_paused_guest_is_silent_until_it_is_resumed(
        self, hypervisor: Hypervisor, config: VmConfig, run_dir: Path
    ) -> None:
        async with vms.booted(hypervisor, config, run_dir) as vm:
            await vm.guest.pause()
            with pytest.raises(GuestSilent):
                await vm.agent.ping(timeout_s=SHORT_S)
            await vm.guest.resume()
            await vm.agent.ping(timeout_s=LIMIT_S)

    async def test_power_off_ends_the_guest_in_good_order(
        self, hypervisor: Hypervisor, config: VmConfig, run_dir: Path
    ) -> None:
        async with vms.booted(hypervisor, config, run_dir) as vm, asyncio.timeout(LIMIT_S):
            assert await vm.power_off() == "powered off"

    async def test_a_guest_that_is_gone_is_not_found(
        self, hypervisor: Hypervisor, config: VmConfig, run_dir: Path
    ) -> None:
        async with vms.booted(hypervisor, config, run_dir) as vm:
            await vm.guest.kill()
            assert await vms.attach(hypervisor, vm.guest.record) is None

    async def test_reaping_ends_what_nobody_holds(
        self, hypervisor: Hypervisor, config: VmConfig, run_dir: Path
    ) -> None:
        async with vms.booted(hypervisor, config, run_dir) as vm:
            await vm.close()
            await hypervisor.reap(run_dir)
            assert await hypervisor.attach(vm.guest.record) is None
            assert list(run_dir.iterdir()) == []
            await hypervisor.reap(run_dir)

    async def test_a_guest_can_do_what_is_promised_and_no_more(
        self, hypervisor: Hypervisor, config: VmConfig, run_dir: Path
    ) -> None:
        async with vms.booted(hypervisor, config, run_dir) as vm:
            able = {feature for feature, kind in ABILITIES.items() if isinstance(vm.guest, kind)}
        assert able == hypervisor.features & ABILITIES.keys()

    async def test_a_disk_comes_and_goes(
        self, hypervisor: Hypervisor, config: VmConfig, run_dir: Path, tmp_path: Path
    ) -> None:
        promised(hypervisor, Feature.HOTPLUG)
        disk = DiskRecord(target=5, path=str(a_file(tmp_path)), read_only=True)
        async with vms.booted(hypervisor, config, run_dir) as vm:
            assert isinstance(vm.guest, Hotplug)
            assert await vm.guest.plugged() == set()
            for _ in range(2):
                await vm.guest.add_disk(disk)
                assert await vm.guest.plugged() == {5}
                for _ in range(2):
                    await vm.guest.remove_disk(5)
                assert await vm.guest.plugged() == set()
            await vm.agent.ping()

    @pytest.mark.parametrize("booted_with", [0, 1])
    async def test_interfaces_come_and_go(
        self, hypervisor: Hypervisor, config: VmConfig, run_dir: Path, booted_with: int
    ) -> None:
        promised(hypervisor, Feature.NICS)
        first, *hot = [Nic(number=n, tap=tap_name(n), mac=f"52:54:00:00:00:{n:02x}") for n in (0, *HOT_NICS[:3])]
        boot = {first.number} if booted_with else set[int]()
        async with vms.booted(hypervisor, replace(config, nics=[first][:booted_with]), run_dir) as vm:
            assert isinstance(vm.guest, Connectable)
            for _ in range(2):  # with names, addresses and numbers that were there before
                for nic in hot:
                    await vm.guest.add_nic(nic)
                assert await vm.guest.nics() == boot | {nic.number for nic in hot}
                found = [Interface(mac=nic.mac, name=nic.tap, addresses=[]) for nic in hot]
                await vm.agent.setup_pod(PodSetup(interfaces=found))
                await vm.agent.setup_pod(PodSetup(removed=[nic.mac for nic in hot]))
                for nic in hot:
                    await vm.guest.remove_nic(nic.number)
                    assert not Path("/sys/class/net", nic.tap).exists()
                    await vm.guest.remove_nic(nic.number)
                assert await vm.guest.nics() == boot
            await vm.guest.remove_nic(first.number)
            assert await vm.guest.nics() == set()
            await vm.agent.ping()

    async def test_a_guest_that_holds_on_to_an_interface_loses_it(
        self, hypervisor: Hypervisor, config: VmConfig, run_dir: Path
    ) -> None:
        promised(hypervisor, Feature.NICS)
        nic = Nic(number=HOT_NICS[0], tap=tap_name(1), mac="52:54:00:00:00:01")
        async with vms.booted(hypervisor, config, run_dir) as vm:
            assert isinstance(vm.guest, Connectable)
            await vm.guest.add_nic(nic)
            await vm.agent.setup_pod(
                PodSetup(interfaces=[Interface(mac=nic.mac, name="eth9", addresses=["10.9.9.9/24"])])
            )
            await vm.guest.pause()  # nor can it say anything
            await vm.guest.remove_nic(nic.number)
            await vm.guest.resume()
            assert await vm.guest.nics() == set()
            await vm.agent.ping(timeout_s=LIMIT_S)

    async def test_an_interface_whose_tap_is_anothers_is_refused(
        self, hypervisor: Hypervisor, config: VmConfig, run_dir: Path
    ) -> None:
        promised(hypervisor, Feature.NICS)
        one, other = (Nic(number=n, tap=tap_name(1), mac=f"52:54:00:00:00:{n:02x}") for n in HOT_NICS[:2])
        async with vms.booted(hypervisor, config, run_dir) as vm:
            assert isinstance(vm.guest, Connectable)
            await vm.guest.add_nic(one)
            with pytest.raises(InUse):
                await vm.guest.add_nic(other)
            assert await vm.guest.nics() == {one.number}

    async def test_a_guest_grows(self, hypervisor: Hypervisor, config: VmConfig, run_dir: Path) -> None:
        promised(hypervisor, Feature.RESIZE)
        wanted = (config.vcpus + 1, config.memory_mib + 64)
        async with vms.booted(hypervisor, config, run_dir) as vm:
            for size in (await vm.resize(*wanted), await vm.resize(*wanted), await vm.guest.size()):
                assert (size.vcpus, size.memory_mib, size.added_mib) == (*wanted, 64)

    async def test_a_folder_is_shared(
        self, hypervisor: Hypervisor, config: VmConfig, run_dir: Path, tmp_path: Path
    ) -> None:
        promised(hypervisor, Feature.SHARE)
        async with vms.booted(hypervisor, replace(config, share=SharedFolder(folder=tmp_path)), run_dir) as vm:
            await vm.agent.setup_pod(a_pod(share=SHARE_TAG))

    async def test_others_go_on_from_a_guest_that_was_saved(
        self, hypervisor: Hypervisor, config: VmConfig, run_dir: Path
    ) -> None:
        promised(hypervisor, Feature.SNAPSHOT)
        with closing(SealedFile("memory", config.memory_mib << 20)) as memory, closing(SealedFile("state", 0)) as state:
            async with vms.booted(hypervisor, replace(config, memory=memory.fileno()), run_dir) as vm:
                await vm.close()
                assert isinstance(vm.guest, Savable)
                await vm.guest.save(state.fileno())
            memory.seal()
            state.seal()
            origin = Snapshot(memory=memory.fileno(), state=state.fileno())
            for _ in range(2):
                async with vms.booted(hypervisor, replace(config, origin=origin), run_dir) as vm:
                    await vm.agent.ping()

    async def test_a_guest_that_was_copied_goes_on_and_so_does_the_copy(
        self, hypervisor: Hypervisor, config: VmConfig, run_dir: Path
    ) -> None:
        promised(hypervisor, Feature.COPY)
        first, second = folders(run_dir, "first", "second")
        with closing(SealedFile("memory", 0)) as memory, closing(SealedFile("state", 0)) as state:
            async with vms.booted(hypervisor, config, first) as vm:
                assert isinstance(vm.guest, Copyable)
                await vm.guest.copy_memory(memory.fileno())
                await vm.guest.pause()
                await vm.guest.dump(memory.fileno(), state.fileno())
                await vm.guest.resume()
                memory.seal()
                state.seal()
                origin = Snapshot(memory=memory.fileno(), state=state.fileno())
                async with vms.booted(hypervisor, replace(config, origin=origin), second) as copy:
                    await copy.agent.ping()
                    await vm.agent.ping()
        first.rmdir()
        second.rmdir()

    async def test_a_guest_that_waited_is_somebodys(
        self, hypervisor: Hypervisor, config: VmConfig, run_dir: Path, tmp_path: Path
    ) -> None:
        promised(hypervisor, Feature.ADOPT)
        waiting, pod = folders(run_dir, "waiting", "pod")
        disks = [DiskRecord(target=SLOTS[0], path=str(a_file(tmp_path)), read_only=True)]
        async with vms.booted(hypervisor, replace(config, disks=EMPTY, background=True), waiting) as vm:
            assert isinstance(vm.guest, Adoptable)
            await vm.guest.adopt(replace(config, disks=disks), pod)
            assert vm.guest.record.run_dir == str(pod)
            await vm.agent.ping()
        assert list(run_dir.iterdir()) == [pod]
        pod.rmdir()


class FactoryContract:
    async def test_a_guest_answers_has_its_disks_and_leaves_nothing(
        self, factory: Factory, config: VmConfig, run_dir: Path
    ) -> None:
        async with made(factory, config, run_dir) as vm:
            await vm.agent.ping()
            assert vm.guest.record.run_dir == str(run_dir)
            held = await vm.agent.list()
            assert (held.containers, held.processes) == ([], [])
        assert list(run_dir.iterdir()) == []

    async def test_guests_at_once_are_guests_of_their_own(
        self, factory: Factory, config: VmConfig, run_dir: Path
    ) -> None:
        folders = [run_dir / str(n) for n in range(3)]
        for folder in folders:
            folder.mkdir(mode=0o711)
        async with AsyncExitStack() as stack:
            vms_ = await asyncio.gather(
                *(stack.enter_async_context(made(factory, config, folder)) for folder in folders)
            )
            assert len({vm.guest.record.process.pid for vm in vms_} | {vm.guest.agent_socket for vm in vms_}) >= 3
            await vms_[0].guest.kill()
            for vm in vms_[1:]:
                await vm.agent.ping()
        for folder in folders:
            folder.rmdir()

    async def test_a_guest_with_a_shared_folder_finds_it(
        self, factory: Factory, hypervisor: Hypervisor, config: VmConfig, run_dir: Path, share: Share
    ) -> None:
        promised(hypervisor, Feature.SHARE)
        folder = SharedFolder(folder=share.root, prepare=share.prepare)
        for shared in (folder, None, folder):
            async with made(factory, replace(config, share=shared), run_dir) as vm:
                assert share.root.exists() == bool(shared)
                await vm.agent.setup_pod(a_pod(share=SHARE_TAG if shared else ""))
            share.clear()

    async def test_guests_outlive_their_factory(self, factory: Factory, config: VmConfig, run_dir: Path) -> None:
        async with made(factory, config, run_dir) as vm:
            await factory.close()
            await factory.close()
            await vm.agent.ping()

    async def test_whoever_gives_up_waiting_leaves_nothing(
        self, factory: Factory, config: VmConfig, run_dir: Path
    ) -> None:
        task = asyncio.create_task(factory.boot(config, run_dir, Timings()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert list(run_dir.iterdir()) == []
        async with made(factory, config, run_dir) as vm:
            await vm.agent.ping()

    async def test_what_was_asked_for_in_error_is_said(self, factory: Factory, config: VmConfig, run_dir: Path) -> None:
        missing = replace(config, disks=[DiskRecord(target=0, path="/no/such/file", read_only=True)])
        with pytest.raises(HyperError, match="/no/such/file"):
            await factory.boot(missing, run_dir, Timings())
        assert list(run_dir.iterdir()) == []


@asynccontextmanager
async def made(factory: Factory, config: VmConfig, run_dir: Path, trace: Trace | None = None) -> AsyncIterator[vms.Vm]:
    """A guest of `factory`, killed at the block's end."""
    vm = await factory.boot(config, run_dir, trace or Timings())
    try:
        yield vm
    finally:
        await vm.close()
        await vm.guest.kill()
