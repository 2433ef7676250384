"""Measures QEMU's two machine types for guests beside each other: python -m bench.machines.

python -m bench.machines [--rounds 16] [--idle 30] [--kernel NAME] [--memory 128]

`make bench` has the same rows. All in one run, in turn, emulated. Boots are of hyperstart; nothing is asked of it. What
a guest asks of its devices is counted by QEMU, once: under KVM each of that is an exit.
"""

import argparse
import asyncio
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

from bench import memory
from bench.kernels import HYPERSTART, UID, cpu_ms
from bench.measure import Series, table
from bench.places import KERNELS, say
from hypercontainer import vm
from hypercontainer.agent.client import AgentClient
from hypercontainer.hypervisor.base import Snapshot, VmConfig
from hypercontainer.hypervisor.host import tsc
from hypercontainer.hypervisor.qemu import argv
from hypercontainer.hypervisor.qemu.driver import QemuHypervisor
from hypercontainer.hypervisor.qemu.machines import MICROVM, Q35, Machine
from hypercontainer.kernel.bundle import KernelStore

SWITCHES = re.compile(r"^voluntary_ctxt_switches:\s+(\d+)", re.MULTILINE)
ACCESS = re.compile(r"memory_region_ops_\w+ .* name '([^']*)'")
BOOT_S = 60.0
MEMORY_MIB = 128
IDLE_S = 30.0


class Candidate:
    """A machine type, and what is measured of it."""

    def __init__(self, machine: Machine, kernel: str, memory_mib: int) -> None:
        store = KernelStore(KERNELS.parent)
        bundle = store.of(machine.arch, kernel)
        self.machine, self.memory_mib = machine, memory_mib
        self.kernel, self.initrd = store.boot_files(bundle, HYPERSTART, machine.modules)
        name = machine.type
        self.agent = Series(f"{name}: exec to the agent's answer")
        self.cpu = Series(f"  {name}: processor time of QEMU until then")
        self.used = Series(f"  {name}: what the guest uses, MemTotal - MemAvailable", "MiB")
        self.pss = Series(f"  {name}: PSS of QEMU", "MiB")
        self.idle_cpu = Series(f"  {name}: processor time when idle, of a second")
        self.wakes = Series(f"  {name}: wake-ups when idle", "/s")
        self.greeting = Series(f"  {name}: exec to QMP's greeting, a clone's command line")
        self.clone = Series(f"  {name}: PSS of QEMU then", "MiB")

    @property
    def series(self) -> list[Series]:
        return [
            self.agent, self.cpu, self.used, self.pss, self.idle_cpu, self.wakes, self.greeting, self.clone
        ]  # fmt: skip

    def config(self, origin: Snapshot | None = None) -> VmConfig:
        return VmConfig(
            name="bench", kernel=self.kernel, initrd=self.initrd, vcpus=1, memory_mib=self.memory_mib,
            uid=UID + secrets.randbelow(10_000), arch=self.machine.arch, accelerator="tcg", origin=origin,
        )  # fmt: skip

    @asynccontextmanager
    async def booted(self) -> AsyncIterator[vm.Vm]:
        with tempfile.TemporaryDirectory(prefix="hyb") as folder:
            async with vm.booted(QemuHypervisor(machine=self.machine), self.config(), Path(folder)) as booted:
                yield booted

    async def boot(self) -> None:
        begin = time.perf_counter()
        async with self.booted() as booted:
            self.agent.samples.append((time.perf_counter() - begin) * 1e3)
            pid = booted.guest.record.process.pid
            self.cpu.samples.append(cpu_ms(pid))
            info = await booted.agent.info()
            self.used.samples.append((info.memory_total_kib - info.memory_available_kib) / 1024)
            self.pss.samples.append(memory.pss_mib(memory.vmm(pid)))

    async def idle(self, seconds: float) -> None:
        async with self.booted() as booted:
            pid = booted.guest.record.process.pid
            await asyncio.sleep(3.0)  # what a boot leaves to be done
            cpu, wakes = cpu_ms(pid), _wakes(pid)
            await asyncio.sleep(seconds)
            self.idle_cpu.samples.append((cpu_ms(pid) - cpu) / seconds)
            self.wakes.samples.append((_wakes(pid) - wakes) / seconds)

    def greet(self) -> None:
        with ExitStack() as files:
            memory_file = os.memfd_create("memory", os.MFD_CLOEXEC)
            files.callback(os.close, memory_file)
            os.truncate(memory_file, self.memory_mib << 20)
            folder, sockets = files.enter_context(_listening())
            fds = argv.Descriptors(qmp=sockets[0], agent=sockets[1], memory=memory_file)
            words = argv.command(
                self.machine.program, self.machine, self.config(Snapshot(memory=memory_file, state=memory_file)), fds
            )
            client = files.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(f"{folder}/qmp")
            begin = time.perf_counter()
            with subprocess.Popen(words, pass_fds=fds.all(), stdin=subprocess.DEVNULL) as process:
                client.recv(1)
                self.greeting.samples.append((time.perf_counter() - begin) * 1e3)
                self.clone.samples.append(memory.pss_mib(memory.vmm(process.pid)))
                process.kill()

    def accesses(self) -> Counter[str]:
        """How often a guest that boots reads or writes a register, by whose that is."""
        with _listening() as (folder, (qmp, agent)):
            timed = [f"{self.machine.clock}={asyncio.run(tsc.khz())}"]  # as the driver has it
            config = replace(self.config(), kernel_parameters=timed)
            words = argv.command(self.machine.program, self.machine, config, argv.Descriptors(qmp=qmp, agent=agent))
            paths = {argv.KERNEL: str(self.kernel), argv.INITRD: str(self.initrd)}
            log = folder / "accesses"
            traced = [*(paths.get(word, word) for word in words), "-trace", "memory_region_ops_*", "-D", str(log)]
            with subprocess.Popen(
                traced, pass_fds=[qmp, agent], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            ) as process:
                asyncio.run(_answers(folder / "agent"))
                process.kill()
            return Counter(match[1] for match in ACCESS.finditer(log.read_text(errors="replace")))


async def _answers(agent: Path) -> None:
    client = await AgentClient.connect(agent, timeout_s=BOOT_S)
    await client.close()


@contextmanager
def _listening() -> Iterator[tuple[Path, list[int]]]:
    """A folder of sockets for QMP and the agent, and their descriptors."""
    with tempfile.TemporaryDirectory(prefix="hyb") as folder, ExitStack() as files:
        descriptors = []
        for name in ("qmp", "agent"):
            listener = files.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(f"{folder}/{name}")
            listener.listen(1)
            descriptors.append(listener.fileno())
        yield Path(folder), descriptors


def _wakes(pid: int) -> int:
    """How often a thread of it went to sleep."""
    found = [SWITCHES.search(path.read_text()) for path in Path(f"/proc/{pid}/task").glob("*/status")]
    return sum(int(match[1]) for match in found if match)


def candidates(kernel: str, memory_mib: int = MEMORY_MIB) -> list[Candidate]:
    return [Candidate(machine, kernel, memory_mib) for machine in (Q35, MICROVM)]


async def compare(candidates: list[Candidate], rounds: int, idle_s: float = IDLE_S) -> None:
    """`idle_s`: twice each."""
    for number in range(rounds + 1):
        say(f"round {number} of {rounds}; the first is not counted")
        for candidate in candidates if number % 2 else candidates[::-1]:
            await candidate.boot()
            candidate.greet()
            if number == 0:
                for series in candidate.series:
                    series.samples.clear()
    for _ in range(2):
        for candidate in candidates:
            await candidate.idle(idle_s)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.machines", description=__doc__)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--idle", type=float, default=IDLE_S, help="seconds, twice each")
    parser.add_argument("--kernel", default="", help="a bundle's name (default: the one that guests boot)")
    parser.add_argument("--memory", type=int, default=MEMORY_MIB, help="MiB of each guest")
    args = parser.parse_args()
    both = candidates(args.kernel, args.memory)
    asyncio.run(compare(both, args.rounds, args.idle))
    print(table([series for candidate in both for series in candidate.series]))
    for candidate in both:
        found = candidate.accesses()
        most = ", ".join(f"{name} {count}" for name, count in found.most_common(5))
        print(f"{candidate.machine.type}: {found.total()} reads and writes of registers in a boot; most: {most}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
