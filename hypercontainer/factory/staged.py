"""The scratch disk that a guest has mounted while it waits: it becomes that of the pod whose container is new."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from hypercontainer.agent.messages import DISK_STAGE
from hypercontainer.factory.base import EMPTY, NewScratch
from hypercontainer.hypervisor.base import SLOTS, Adoptable, VmConfig
from hypercontainer.model.record import DiskRecord
from hypercontainer.vm import Vm

TARGET = SLOTS[1]


@dataclass(frozen=True)
class StagedDisk:
    """A new scratch disk at `path`, for a guest whose SLOTS are empty."""

    vm: Vm
    path: Path

    async def mount(self) -> None:
        await self._swap(DiskRecord(target=TARGET, path=str(self.path), read_only=False))
        await self.vm.agent.stage_disk(TARGET)

    async def become(self, config: VmConfig) -> VmConfig:
        """Be the new disk of `config`, if it has one, and return what else there is to adopt. Else nothing is left of
        this one, and its slot is empty."""
        if config.new_scratch:
            [path] = [disk.path for disk in config.disks if disk.target == TARGET]
            os.replace(self.path, path)  # of two that are alike
            return replace(config, disks=[disk for disk in config.disks if disk.target != TARGET])
        # Before it is unmounted, which writes, and waits until that is on a disk: nobody wants it.
        await self._swap(EMPTY[TARGET])
        await self.vm.agent.stage_disk(None)
        self.clear()
        return config

    def clear(self) -> None:
        """Remove it, unless it is a pod's. Safe any number of times."""
        self.path.unlink(missing_ok=True)

    async def _swap(self, disk: DiskRecord) -> None:
        guest = self.vm.guest
        assert isinstance(guest, Adoptable)  # noqa: S101  else it does not wait
        await guest.swap_disk(disk)


async def mounted(vm: Vm, make: NewScratch | None, name: str) -> StagedDisk | None:
    """A new one of that name, which `vm` has mounted; None where guests cannot, or nobody makes them."""
    if make is None or not vm.agent.has(DISK_STAGE):
        return None
    disk = StagedDisk(vm, await make(name))
    try:
        await disk.mount()
    except BaseException:
        disk.clear()
        raise
    return disk
