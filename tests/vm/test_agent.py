"""The agent behind a real port: every driver's contract kept by QEMU, and lines cut in front of a real guest."""

import asyncio
import functools
import os
import random
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hypercontainer import vm as vms
from hypercontainer.agent.client import AgentClient
from hypercontainer.errors import GuestError, HyperError
from hypercontainer.hypervisor.base import VmConfig
from hypercontainer.hypervisor.qemu import argv
from hypercontainer.hypervisor.qemu.driver import QemuHypervisor
from hypercontainer.testing.contract import HypervisorContract
from hypercontainer.testing.cutter import Cut, Cutter, Direction
from tests.vm.conftest import GUEST_S

pytestmark = pytest.mark.vm

DIRECTIONS: list[Direction] = ["to guest", "to host"]
STARVED_S = 11  # longer than a guest looks for anything by the clock
LOOKS_S = 0.05  # of a processor: some hundred looks
WORDS = {"entropy": "eHh4" * 128}  # a request of some length


@pytest.fixture
def config(with_agent: Callable[..., VmConfig]) -> VmConfig:
    return with_agent()


class TestQemu(HypervisorContract):
    pass


async def test_lines_cut_anywhere_lose_no_request_and_no_answer(
    hypervisor: QemuHypervisor, config: VmConfig, run_dir: Path, tmp_path: Path
) -> None:
    async with vms.booted(hypervisor, config, run_dir) as vm, asyncio.timeout(120):
        await vm.agent.close()
        for seed in range(30):
            dice = random.Random(seed)
            cuts = [Cut(dice.choice(DIRECTIONS), dice.randrange(1, 400)) for _ in range(5)]
            assert isinstance(vm.guest.agent_socket, Path)
            cutter = Cutter(vm.guest.agent_socket, cuts)
            await cutter.serve(tmp_path / f"cut{seed}")
            client = await AgentClient.connect(tmp_path / f"cut{seed}", timeout_s=60)
            try:
                for _ in range(10):
                    await client.call("entropy.add", timeout_s=60, **WORDS)
                    assert (await client.info(timeout_s=60)).uptime_ms > 0
            finally:
                await client.close()
                await cutter.close()


async def test_a_guest_without_a_processor_does_not_give_a_disk_up(
    hypervisor: QemuHypervisor, config: VmConfig, run_dir: Path
) -> None:
    async with vms.booted(hypervisor, config, run_dir) as vm, asyncio.timeout(GUEST_S):
        pid = vm.guest.record.process.pid
        staged = asyncio.create_task(vm.agent.stage([5], timeout_s=GUEST_S))
        await runs(pid, LOOKS_S)
        os.kill(pid, signal.SIGSTOP)
        await asyncio.wait([staged], timeout=STARVED_S)
        os.kill(pid, signal.SIGCONT)
        await runs(pid, LOOKS_S)
        assert not staged.done()
        with pytest.raises(GuestError, match="cannot find disk 5"):
            await staged
        await vm.agent.ping()


qemu_with_port = argv.command


def with_terminal(*what: Any) -> list[str]:
    words = qemu_with_port(*what)
    words[words.index(f"virtserialport,chardev=agent,name={argv.AGENT_PORT}")] = "isa-serial,chardev=agent"
    return words


async def runs(pid: int, for_s: float) -> None:
    """Wait until a process has had a processor for so long."""
    before_s = ran_s(pid)
    while ran_s(pid) < before_s + for_s:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def ran_s(pid: int) -> float:
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


async def test_a_machine_that_nothing_powers_off_ends_by_a_reset(
    hypervisor: QemuHypervisor, config: VmConfig, run_dir: Path
) -> None:
    config = replace(config, kernel_parameters=[*config.kernel_parameters, "hyper.off=reboot"])
    async with vms.booted(hypervisor, config, run_dir) as vm:
        assert await vm.power_off(grace_s=60) == "the guest reset itself"


async def hold_back(guest: Path, host: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
    """Serve a host with what the guest says, the last of it when the guest has said more."""
    reader, writer = await asyncio.open_unix_connection(guest)

    async def ask() -> None:
        while said := await host.read(1 << 16):
            writer.write(said)
        writer.close()

    asking = asyncio.create_task(ask())
    held = b""
    while said := await reader.read(1 << 16):
        answers.write(held)
        held = said
    answers.close()
    await asking


async def test_what_a_terminals_other_end_holds_back_comes(
    hypervisor: QemuHypervisor, config: VmConfig, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(argv, "command", with_terminal)
    config = replace(config, kernel_parameters=[*config.kernel_parameters, "hyper.agent=ttyS1"])
    async with vms.booted(hypervisor, config, run_dir) as vm, asyncio.timeout(GUEST_S):
        await vm.agent.close()
        serve = functools.partial(hold_back, Path(str(vm.guest.agent_socket)))
        async with await asyncio.start_unix_server(serve, tmp_path / "agent") as server:
            client = await AgentClient.connect(tmp_path / "agent", timeout_s=GUEST_S)
            for _ in range(3):
                await client.ping()
            await client.close()
            server.close()
            await server.wait_closed()


@pytest.mark.parametrize("channel", ["port", "terminal"])
async def test_hosts_that_come_and_go_find_the_guest_well(
    channel: str, hypervisor: QemuHypervisor, config: VmConfig, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if channel == "terminal":  # as where a VMM has no ports with names: the second serial line
        monkeypatch.setattr(argv, "command", with_terminal)
        config = replace(config, kernel_parameters=[*config.kernel_parameters, "hyper.agent=ttyS1"])
    async with vms.booted(hypervisor, config, run_dir) as vm, asyncio.timeout(120):
        await vm.agent.close()
        for seed in range(30):
            client = await AgentClient.connect(vm.guest.agent_socket, timeout_s=60)
            calls = [asyncio.create_task(client.call("entropy.add", timeout_s=60, **WORDS)) for _ in range(seed)]
            await asyncio.wait(calls, timeout=0.001) if calls else None
            await client.close()
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert all(end == {} or isinstance(end, HyperError) for end in ends)
        last = await AgentClient.connect(vm.guest.agent_socket, timeout_s=60)
        await last.ping()
        await last.close()
