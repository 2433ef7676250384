"""What a factory is: it gives a running guest for a configuration, one way or another. See docs/howto/templates.md."""

from pathlib import Path
from typing import Protocol

from hypercontainer.hypervisor.base import VmConfig
from hypercontainer.lib.trace import Trace
from hypercontainer.vm import Vm


class Factory(Protocol):
    """Guests that were asked for in the same words are the same, whichever factory they come from."""

    async def boot(self, config: VmConfig, run_dir: Path, trace: Trace) -> Vm:
        """A guest whose agent answers, told nothing yet: as `vm.boot`, with the same errors. Nothing is left of one
        that failed."""

    async def close(self) -> None:
        """Let go of what is kept for later guests. Those that run stay. Again is harmless."""
