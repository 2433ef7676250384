"""What a factory is: it gives a running guest for a configuration, one way or another. See docs/howto/templates.md."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hypercontainer.hypervisor.base import VmConfig
from hypercontainer.lib.trace import Trace
from hypercontainer.vm import Vm


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A template that waits for guests of its shape."""

    kernel: Path
    vcpus: int
    memory_mib: int
    network: bool
    accelerator: str
    created_ns: int
    size: int  # bytes of memory that it takes
    clones: int  # guests that came from it


class Factory(Protocol):
    """Guests that were asked for in the same words are the same, whichever factory they come from."""

    async def boot(self, config: VmConfig, run_dir: Path, trace: Trace) -> Vm:
        """A guest whose agent answers, told nothing yet: as `vm.boot`, with the same errors. Nothing is left of one
        that failed."""

    def kept(self) -> Sequence[Kept]:
        """What waits for later guests, that used last at the end."""

    def clear(self) -> None:
        """Let go of it. Guests that run stay; a later guest has it made anew."""

    async def close(self) -> None:
        """Let go of it, and of what is being made. Again is harmless."""
