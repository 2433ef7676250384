"""Compares the kernels of this checkout, or one with itself under other parameters: python -m bench.kernels.

python -m bench.kernels [--rounds 10] [--memory 128] [NAME[:PARAMETER…] …]
"""

import argparse
import asyncio
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path

from bench import places
from bench.measure import Series
from hypercontainer import vm
from hypercontainer.hypervisor.base import VmConfig
from hypercontainer.hypervisor.qemu.driver import QemuHypervisor
from hypercontainer.kernel import initramfs
from hypercontainer.kernel.bundle import Bundle, KernelStore
from hypercontainer.lib.trace import Timings
from hypercontainer.model.arch import host_name

CHECKOUT = Path(__file__).parents[1]
HYPERSTART = CHECKOUT / "hypercontainer/_bin" / host_name() / "hyperstart"
UID = 1_898_000_000


class Candidate:
    """A kernel, and what is measured of it."""

    def __init__(self, store: KernelStore, words: str, memory_mib: int, up: Path) -> None:
        name, *self.parameters = words.split(":")
        self.words, self.memory_mib = words, memory_mib
        self.bundle: Bundle = store.get(name)
        self.kernel, self.initrd = store.boot_files(self.bundle, HYPERSTART)
        self.up = up
        self.user_space = Series("QEMU's start to user space")
        self.agent = Series("QEMU's start to the agent's answer")
        self.cpu = Series("  of it: CPU time, the driver's helpers left out")
        self.used = Series("memory that the guest uses: MemTotal - MemAvailable", "MiB")
        self.lost = Series("memory that it has not for programs: size - MemAvailable", "MiB")

    @property
    def series(self) -> list[Series]:
        return [self.user_space, self.agent, self.cpu, self.used, self.lost]

    def config(self, initrd: Path) -> VmConfig:
        return VmConfig(
            name="bench",
            kernel=self.kernel,
            initrd=initrd,
            vcpus=1,
            memory_mib=self.memory_mib,
            uid=UID + secrets.randbelow(10_000),
            kernel_parameters=self.parameters,
        )

    async def measure(self) -> None:
        await self._user_space()
        await self._agent()

    async def _user_space(self) -> None:
        with tempfile.TemporaryDirectory(prefix="hyb") as folder:
            begin = time.perf_counter()
            guest = await QemuHypervisor().boot(self.config(self.up), Path(folder), Timings())
            while "user space" not in guest.console_tail():  # noqa: ASYNC110  nothing tells when a line has come
                await asyncio.sleep(0.001)
            self.user_space.samples.append((time.perf_counter() - begin) * 1e3)
            await guest.kill()

    async def _agent(self) -> None:
        with tempfile.TemporaryDirectory(prefix="hyb") as folder:
            begin = time.perf_counter()
            async with vm.booted(QemuHypervisor(), self.config(self.initrd), Path(folder)) as booted:
                self.agent.samples.append((time.perf_counter() - begin) * 1e3)
                self.cpu.samples.append(cpu_ms(booted.guest.record.process.pid))
                info = await booted.agent.info()
                total, available = info.memory_total_kib / 1024, info.memory_available_kib / 1024
                self.used.samples.append(total - available)
                self.lost.samples.append(self.memory_mib - available)

    def report(self) -> str:
        size = self.kernel.stat().st_size / 1e6
        head = f"{self.words}: kernel {size:.1f} MB, initramfs {self.initrd.stat().st_size / 1e6:.1f} MB"
        rows = (f"  {s.name:60} {s.median:8.1f} {min(s.samples):8.1f} {s.p95:8.1f} {s.unit}" for s in self.series)
        return "\n".join([head, *rows])


def cpu_ms(pid: int) -> float:
    """What `pid` has used until now: on a busy machine a better measure than the clock."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def init(folder: Path) -> Path:
    """An initramfs whose PID 1 says one line."""
    places.program("up.c", folder / "init")
    initrd = folder / "initrd"
    initrd.write_bytes(initramfs.build((folder / "init").read_bytes(), []))
    initrd.chmod(0o644)
    folder.chmod(0o755)
    return initrd


async def compare(candidates: list[Candidate], rounds: int) -> None:
    for number in range(rounds + 1):
        for candidate in candidates:
            await candidate.measure()
            if number == 0:  # it warmed the caches
                for series in candidate.series:
                    series.samples.clear()


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.kernels", description="Compare kernels: median, least, p95.")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--memory", type=int, default=128, help="MiB of each guest")
    parser.add_argument("--store", type=Path, default=CHECKOUT / ".cache/hyper")
    args = parser.parse_args()
    store = KernelStore(args.store)
    with tempfile.TemporaryDirectory(prefix="hyb") as folder:
        up = init(Path(folder))
        names = args.names or [bundle.name for bundle in store.list() if bundle.arch == host_name()]
        candidates = [Candidate(store, name, args.memory, up) for name in names]
        asyncio.run(compare(candidates, args.rounds))
    print("\n".join(candidate.report() for candidate in candidates))
    return 0


if __name__ == "__main__":
    sys.exit(main())
