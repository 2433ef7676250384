"""What a hypervisor driver is: it boots guests and keeps hold of them. See docs/architecture.md, "Drivers"."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hypercontainer.lib.trace import Trace
from hypercontainer.model.record import DiskRecord, GuestRecord


@dataclass(frozen=True, kw_only=True)
class Nic:
    """A tap device that exists already, and the address of the guest's end."""

    tap: str
    mac: str


@dataclass(frozen=True, kw_only=True)
class VmConfig:
    """A virtual machine to boot. `uid` is the unprivileged user and group that its VMM runs as."""

    name: str
    kernel: Path
    initrd: Path
    vcpus: int
    memory_mib: int
    uid: int
    disks: Sequence[DiskRecord] = ()
    nic: Nic | None = None
    share: Path | None = None  # folder served to the guest by virtiofs under the tag "hyper"
    boot_timeout_s: float = 60.0
    accelerator: str = "tcg"
    kernel_parameters: Sequence[str] = field(default=())


class Guest(Protocol):
    """One running virtual machine. It outlives us: `record` is what `Hypervisor.attach` needs to find it again."""

    @property
    def record(self) -> GuestRecord: ...

    @property
    def agent_socket(self) -> Path: ...

    async def add_disk(self, disk: DiskRecord) -> None:
        """Plug a SCSI disk at `disk.target`; the file is opened read-only when the record says so."""

    async def remove_disk(self, target: int) -> None: ...

    async def pause(self) -> None:
        """Stop the virtual CPUs."""

    async def resume(self) -> None: ...

    async def kill(self) -> None:
        """End the VMM and its helpers, remove its run-time files. Safe in any state, any number of times."""

    async def wait(self) -> str:
        """Wait until the VMM has ended, and return why, in words: "powered off", "guest kernel panic: …",
        "killed by signal 9", "qemu: …" """

    def console_tail(self, size: int = 4096) -> str:
        """The last words on the guest's console."""


class Hypervisor(Protocol):
    """Boots guests. A driver knows nothing of containers, images or the engine's state files."""

    async def boot(self, config: VmConfig, run_dir: Path, trace: Trace) -> Guest:
        """Start a VMM in `run_dir` (exists, empty, ours). Returns when it runs; the agent may not answer yet.

        GuestDied when it ended at once. On any failure nothing is left of it."""

    async def attach(self, record: GuestRecord) -> Guest | None:
        """Take hold of a guest that was booted before our own restart; None if it is gone."""

    async def version(self) -> str:
        """Of the VMM: "7.2.22". Unavailable when it is not installed. Asked often: kept."""

    async def reap(self, run_dir: Path) -> None:
        """Remove whatever a boot in `run_dir` that was cut short left: processes, mounts, files."""
