"""A pool: guests of one spec that wait, and how it stands with them."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from hypercontainer.factory.base import PoolInfo, PoolSpec, Shape, Share, size
from hypercontainer.factory.demand import Demand
from hypercontainer.factory.staged import StagedDisk
from hypercontainer.factory.trouble import Trouble
from hypercontainer.hypervisor.base import VmConfig
from hypercontainer.vm import Vm


@dataclass(eq=False)
class WarmGuest:
    """A guest that runs and is nobody's yet. `watch` ends with it."""

    vm: Vm
    shape: Shape
    folder: Path
    share: Share | None
    disk: StagedDisk | None
    watch: asyncio.Task[None]
    memory_kib: int  # PSS of its VMM and of what serves it, when it began to wait


@dataclass(eq=False)  # another one with the same spec is another pool
class Pool:
    """The warm guests of one spec."""

    spec: PoolSpec
    wanted: int = 0  # guests: as many as the spec says, and those that were needed besides and have room
    demand: Demand = field(default_factory=Demand)
    waiting: deque[WarmGuest] = field(default_factory=deque)
    memory_kib: int = 0  # of that made last
    taken: int = 0
    poisoned: int = 0
    trouble: Trouble = field(default_factory=Trouble)
    making: bool = False

    @property
    def short(self) -> bool:
        return len(self.waiting) < self.wanted

    @property
    def due(self) -> bool:
        return self.short and not self.trouble.left_s()

    @property
    def settled(self) -> bool:
        """Nobody needs to wait for what its spec says: it is there, or will not be soon."""
        return len(self.waiting) >= self.spec.cache or self.trouble.lasting

    def reason(self) -> str:
        """Why fewer wait than are wanted; "" if all do."""
        if not self.short:
            return ""
        return self.trouble.words() or ("being made" if self.making else "made when processors are free")

    def info(self) -> PoolInfo:
        config = self.spec.config
        return PoolInfo(
            arch=config.arch,
            vcpus=config.vcpus,
            memory_mib=config.memory_mib,
            share=config.share is not None,
            network=bool(config.nics),
            tenant=config.tenant,
            wanted=self.wanted,
            waiting=len(self.waiting),
            taken=self.taken,
            poisoned=self.poisoned,
            reason=self.reason(),
        )

    @property
    def size(self) -> str:
        """Of its guests, in words."""
        return size(self.spec.config.vcpus, self.spec.config.memory_mib)

    def suits(self, config: VmConfig) -> bool:
        """Its guests may write disks as large as that of `config`, and share folders if, and as, `config` does."""
        own = self.spec.config
        return config.disk_mib <= own.disk_mib and _promised(config) == _promised(own)

    def surplus(self, keep: int) -> list[WarmGuest]:
        """Take out the guests that are too many."""
        return [self.waiting.pop() for _ in range(keep, len(self.waiting))]


def _promised(config: VmConfig) -> tuple[bool, float, bool] | None:
    """Of what it shares."""
    share = config.share
    return (share.host_locks, share.cache_s, share.keep) if share else None
