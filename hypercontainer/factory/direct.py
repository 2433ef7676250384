"""Each guest is booted, and shares no memory with any other."""

from collections.abc import Sequence
from pathlib import Path

from hypercontainer import vm as vms
from hypercontainer.factory.base import PoolInfo, PoolSpec, TemplateInfo
from hypercontainer.hypervisor.base import Hypervisor, VmConfig
from hypercontainer.lib.trace import Trace


class DirectFactory:
    """Implements factory.base.Factory."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self._hypervisor = hypervisor

    async def boot(self, config: VmConfig, run_dir: Path, trace: Trace) -> vms.Vm:
        return await vms.boot(self._hypervisor, config, run_dir, trace)

    def templates(self) -> Sequence[TemplateInfo]:
        return ()

    def pools(self) -> Sequence[PoolInfo]:
        return ()

    def troubles(self) -> Sequence[str]:
        return ()

    async def init(self, specs: Sequence[PoolSpec]) -> None:
        pass

    async def clear(self) -> None:
        pass

    async def close(self) -> None:
        pass
