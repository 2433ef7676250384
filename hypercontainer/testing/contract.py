"""What every driver must do, fake or real: a suite to inherit from, with three fixtures of your own.

    class TestMyDriver(HypervisorContract): ...

`hypervisor` (a Hypervisor), `config` (a VmConfig whose guest runs our agent), `run_dir` (an empty folder of ours).
"""

import asyncio
from pathlib import Path

import pytest

from hypercontainer import vm as vms
from hypercontainer.errors import GuestDied, GuestSilent
from hypercontainer.hypervisor.base import Hypervisor, VmConfig
from hypercontainer.lib.trace import Timings

LIMIT_S = 60.0
SHORT_S = 0.5  # for an answer that must not come


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
