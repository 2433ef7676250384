"""Clones of a guest of which nothing was asked: what QEMU and the guest's kernel take before there is a container."""

import asyncio
import secrets
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from bench import memory
from bench.kernels import HYPERSTART, UID
from bench.measure import Series
from bench.places import KERNELS
from hypercontainer import vm
from hypercontainer.factory.template import TemplateFactory
from hypercontainer.hypervisor.base import VmConfig
from hypercontainer.hypervisor.qemu.driver import QemuHypervisor
from hypercontainer.kernel.bundle import KernelStore
from hypercontainer.lib.trace import Timings


def pss(count: int, kernel: str, memory_mib: int, qemu: str = "", accelerator: str = "tcg") -> Series:
    """The memory of each of `count` of them, all alive at once, run by `qemu` ("": as by default)."""
    series = Series(f"a bare clone, {count} at once: PSS of each", "MiB")
    series.samples.extend(asyncio.run(_measure(count, kernel, memory_mib, qemu, accelerator)))
    return series


async def _measure(count: int, kernel: str, memory_mib: int, qemu: str, accelerator: str) -> list[float]:
    store = KernelStore(KERNELS.parent)
    image, initrd = store.boot_files(store.get(kernel), HYPERSTART)
    base, hypervisor = UID + secrets.randbelow(10_000), QemuHypervisor(qemu)
    with tempfile.TemporaryDirectory(prefix="hyb") as folder:
        Path(folder).chmod(0o711)
        async with AsyncExitStack() as stack:
            factory = TemplateFactory(hypervisor, Path(folder), base)
            stack.push_async_callback(factory.close)
            pids: list[int] = []
            for n in range(1, count + 1):
                run_dir = Path(folder) / str(n)
                run_dir.mkdir(mode=0o711)
                config = VmConfig(
                    name="bare",
                    kernel=image,
                    initrd=initrd,
                    vcpus=1,
                    memory_mib=memory_mib,
                    uid=base + n,
                    accelerator="tcg" if accelerator == "auto" else accelerator,
                )
                booted: vm.Vm = await factory.boot(config, run_dir, Timings())
                stack.push_async_callback(booted.guest.kill)
                stack.push_async_callback(booted.close)
                pids.append(booted.guest.record.process.pid)
            await asyncio.sleep(1.0)
            return [memory.pss_mib(memory.vmm(pid)) for pid in pids]
