"""What a hypervisor driver is: it boots guests and keeps hold of them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from hypercontainer.errors import Unsupported
from hypercontainer.lib.trace import Trace
from hypercontainer.lib.vsock import Vsock
from hypercontainer.model import arch
from hypercontainer.model.record import MOST_NICS, DiskRecord, GuestRecord

# Numbers of the disks of a pod's first container: guests may know them before they have anything behind them.
SLOTS = (0, 1)
OPENED = "/proc/self/fd/"  # the path of a disk below it: of a file that who says it has open, O_PATH is enough
SNAPSHOT_MAC = "52:54:00:00:00:00"  # of a snapshot's NIC: each clone is told its own (docs/wire.md, `hardware`)

SHARE_TAG = "hyper"  # a guest's shared folder has that name for its kernel

# Numbers of the network interfaces that come while a guest runs; smaller ones are of those that it is booted with.
HOT_NICS = range(MOST_NICS, 2 * MOST_NICS)

OUT_OF_MEMORY = "out of memory"  # so begins why a guest ended whose kernel had no more of it


@dataclass(frozen=True, kw_only=True)
class Nic:
    """The name of the tap device that the VMM makes ("": any), and the address of the guest's end. Whoever wants the
    tap to lead somewhere joins it to a network while the VMM runs; it goes with the interface, or with the VMM."""

    number: int = 0  # among those of its guest
    tap: str
    mac: str
    netns: str = ""  # path of the network namespace that the tap is to be in; "": where we are
    macvtap: bool = False  # the tap is there already, as a macvtap of that name, and stays: the VMM has it open


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What a guest was when `Savable.save` stopped it: descriptors of open files that nobody can change any more."""

    memory: int
    state: int  # of its devices and CPUs
    complete: Callable[[], Awaitable[object]] | None = None  # returns when both are; `memory` has its size before


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a guest has: `added_mib` of its memory came after its start."""

    vcpus: int
    memory_mib: int
    added_mib: int


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a guest may take of this host, with its VMM and helpers; 0 = no limit, or the usual weight. In the kernel's
    words: microseconds in each 100,000, shares of cgroups of version 1, io.weight of version 2."""

    cpu_quota_us: int = 0
    cpu_shares: int = 0
    io_weight: int = 0


@dataclass(frozen=True, kw_only=True)
class SharedFolder:
    """A folder served to the guest by virtiofs under SHARE_TAG.

    `prepare` is called in a thread before a VMM is started that serves the folder, and makes that and the one around
    it, which is its own; None: it is there.
    `host_locks`: file locks are the host's, held against everybody, but nobody can wait for one: that is not
    supported. Else they are the guest's own. `cache_s`: how long the guest may believe what it was told of
    names and files. `keep`: what was read of a file stays in its memory while it is told the same size and time."""

    folder: Path
    prepare: Callable[[], object] | None = None
    host_locks: bool = False
    cache_s: float = 0.0
    keep: bool = False


@dataclass(frozen=True, kw_only=True)
class VmConfig:
    """A virtual machine to boot. `uid` is the unprivileged user and group that its VMM runs as."""

    name: str
    kernel: Path
    initrd: Path
    vcpus: int
    memory_mib: int
    uid: int
    arch: str = field(default_factory=arch.host_name)  # of the kernel, and so of the machine
    disks: Sequence[DiskRecord] = ()
    nics: Sequence[Nic] = ()
    share: SharedFolder | None = None
    boot_timeout_s: float = 60.0
    accelerator: str = "tcg"
    tenant: str = ""  # it shares memory pages with guests of the same alone: see `factory`; a driver has no use for it
    kernel_parameters: Sequence[str] = field(default=())
    background: bool = False  # nobody waits for it: it gives way to others, until it is adopted
    new_scratch: bool = False  # of `disks`, that at SLOTS[1] is empty, as all new ones: see `factory`
    disk_mib: int = 0  # the largest that is plugged while it runs and written; of `disks` it is known
    memory: int | None = None  # descriptor of a file as large as the guest's RAM, which becomes it: for `Savable.save`
    origin: Snapshot | None = None  # go on from there, with disks and NIC of one's own; see `Hypervisor.shape`


class Feature(StrEnum):
    """What a hypervisor may be able to do beyond booting guests and ending them. Callers ask before they begin."""

    HOTPLUG = auto()  # its guests are Hotplug
    NICS = auto()  # … Connectable
    RESIZE = auto()  # … Resizable
    SHARE = auto()  # `VmConfig.share`
    SNAPSHOT = auto()  # … Savable, when booted with `VmConfig.memory`; others go on with `VmConfig.origin`
    COPY = auto()  # … Copyable: a Snapshot of a guest that goes on
    ADOPT = auto()  # … Adoptable; disks may have nothing behind them


class Guest(Protocol):
    """One running virtual machine. It outlives us: `record` is what `Hypervisor.attach` needs to find it again."""

    @property
    def record(self) -> GuestRecord: ...

    @property
    def agent_socket(self) -> Path | Vsock: ...

    async def size(self) -> Size:
        """What it has now; of its processors, some may be switched off."""

    async def limit(self, limits: Limits) -> None:
        """Have this host hold it to these from now on, in place of those of before, as far as this host can: what it
        cannot is in the log."""

    async def enter(self, groups: Sequence[Path]) -> None:
        """Have all of it be in these control groups of somebody else's, which it is limited by from now on as by its
        own, unless what is around them has less. `limit` is to be called next. What cannot be done is in the log."""

    async def leave(self, groups: Sequence[Path]) -> None:
        """Have all of it be in its own control groups again, if it is in these. `limit` is to be called next."""

    async def pause(self) -> None:
        """Stop the virtual CPUs."""

    async def resume(self) -> None: ...

    async def lacks_room(self) -> bool:
        """It stands still, for this host's disk has no room for what it writes. By itself it goes on when there is."""

    async def tell_end(self) -> None:
        """Have it end: it runs no more. Returns when it uses nothing that it shares; the VMM may be there for a while
        yet, and have its disks open: `kill` waits for that. Safe in any state, any number of times."""

    async def kill(self) -> None:
        """End the VMM and its helpers, remove its run-time files. Safe in any state, any number of times."""

    def waited_s(self) -> Mapping[int, float]:
        """Seconds that each thread of it has waited for a processor of the host. No time limit counts them."""

    async def wait(self) -> str:
        """Wait until the VMM has ended, and return why, in words: "powered off", "guest kernel panic: …",
        "killed by signal 9", "qemu: …" """

    def console_tail(self, size: int = 4096) -> str:
        """The last words on the guest's console."""


@runtime_checkable
class Hotplug(Protocol):
    """A guest whose disks come and go while it runs: Feature.HOTPLUG."""

    async def add_disk(self, disk: DiskRecord) -> None:
        """Plug a disk as number `disk.target`, or put its file behind the one that is there with nothing behind it (one
        of SLOTS); the file is opened read-only when the record says so. InvalidInput when it is larger than what the
        VMM may write (`VmConfig.disk_mib`)."""

    async def plugged(self) -> set[int]:
        """The numbers of its disks that have a file behind them, whoever plugged them."""

    async def remove_disk(self, target: int) -> None:
        """All that there is of it. None: nothing happens."""


@runtime_checkable
class Connectable(Protocol):
    """A guest whose network interfaces come and go while it runs: Feature.NICS.

    It is told of neither: whoever speaks with it has it look for one that came, and let go of one before that goes."""

    async def add_nic(self, nic: Nic) -> None:
        """Plug one, numbered as one of HOT_NICS. InUse when there is a tap of its name. On failure nothing is left."""

    async def nics(self) -> set[int]:
        """The numbers of its interfaces, whoever plugged them."""

    async def remove_nic(self, number: int) -> None:
        """Take one away, and its tap, whatever the guest does with it. One that is not there, or half: likewise."""


@runtime_checkable
class Resizable(Protocol):
    """A guest that has more or less while it runs: Feature.RESIZE."""

    async def resize(self, vcpus: int, memory_mib: int) -> Size:
        """Give it so much while it runs, or as near to it as it comes: processors never go, nor does memory that it
        started with, or that it cannot give back (whatever is in use stays whole). Memory comes in blocks of some MiB.

        Returns what it has then; see `vm.Vm.resize` for what it makes of it. Again changes nothing. InvalidInput when
        that is more than any guest that runs can get: nothing has changed then."""


@runtime_checkable
class Savable(Protocol):
    """A guest that others can go on from, when it was booted for that: Feature.SNAPSHOT."""

    async def save(self, state: int) -> None:
        """Stop a guest that was booted with `VmConfig.memory` for good, and write all else that it is to the file
        `state`. Its memory's file is complete once it has been killed."""


@runtime_checkable
class Copyable(Protocol):
    """A guest that can be copied while it runs: Feature.COPY."""

    async def copy_memory(self, memory: int) -> None:
        """Make the empty file `memory` as large as the guest's RAM, and write to it what of that stays as it is: a
        clone's greater part. The guest goes on; `dump` writes the rest. Neither is for guests with a shared folder.

        WrongState when memory was added to the guest, Exhausted when the file's disk is full."""

    async def dump(self, memory: int, state: int) -> None:
        """Of a guest that is paused, and stays so, write to `memory` what `copy_memory` left out, and all else that
        it is to the empty file `state`: a Snapshot, for guests of the same `Hypervisor.shape`. Exhausted as above."""


@runtime_checkable
class Adoptable(Protocol):
    """A guest that can wait for whom it is to be: Feature.ADOPT."""

    async def swap_disk(self, disk: DiskRecord) -> None:
        """Have another file behind disk number `disk.target`, which the guest must not be using. It is not told: it
        still believes in the size that it has seen."""

    async def adopt(self, config: VmConfig, run_dir: Path) -> None:
        """Make a guest that was booted for nobody, its SLOTS empty, that of `config`: its disks are in the slots, or
        plugged, its tap has the name, its run-time files have moved to `run_dir` (exists, empty, ours). The folder that
        it shares is where its mover has put that.

        After a failure it is of no use any more: kill it."""

    async def settled(self) -> None:
        """Wait until its taps are in their network namespaces, which goes on after `adopt`; there after a boot."""


class Hypervisor(Protocol):
    """Boots guests. A driver knows nothing of containers, images or the engine's state files."""

    name: str  # in the settings: registry.py
    product: str  # for people, and before the version in what outlives this hyperd: "QEMU"
    features: frozenset[Feature]  # said up front, so that callers ask instead of trying
    commands: Sequence[str]  # programs of the host that it runs for guests of this host's architecture
    accelerator: Literal["", "xen"]  # what runs its guests; "": KVM or emulation, as is proved or the settings say
    # of the kernel, that its guests of this host's architecture need besides those of all: kernel/modules.py
    modules: Sequence[str]

    def check(self, arch: str) -> None:
        """Unavailable when it can run no guest of that architecture; NotFound names the package that has what it needs
        for that."""

    def lacks(self, arch: str) -> Mapping[Feature, str]:
        """Which of its features it has not for guests of that architecture: what their machine is, and why, in words
        that go on from "not with QEMU's"."""

    async def boot(self, config: VmConfig, run_dir: Path, trace: Trace) -> Guest:
        """Start a VMM in `run_dir` (exists, empty, ours). Returns when it runs; the agent may not answer yet.

        As `check` where it has no machine of that architecture; GuestDied when it ended at once. On any failure nothing
        is left of it."""

    def shape(self, config: VmConfig) -> str:
        """All that a snapshot of a guest booted with `config` depends on: only a guest of the very same shape can
        go on from it. The VMM's program is part of it, as it is on disk now, and so is what was booted: but not of
        a configuration with an `origin`, which tells what a snapshot that outlives an upgrade needs."""

    async def attach(self, record: GuestRecord) -> Guest | None:
        """Take hold of a guest that was booted before our own restart; None if it is gone."""

    async def version(self) -> str:
        """Of the VMM: "7.2.22". Unavailable when it is not installed, or nobody would start it now. Asked often."""

    async def behind(self) -> str:
        """Why the VMM should be another one by now, and how it becomes that; "" when nothing says so. Unavailable."""

    async def reap(self, run_dir: Path) -> None:
        """Remove whatever a boot in `run_dir` that was cut short left: processes, mounts, files."""


def can(hypervisor: Hypervisor, feature: Feature, arch: str) -> bool:
    """Whether it has the feature for guests of that architecture."""
    return feature in hypervisor.features and feature not in hypervisor.lacks(arch)


def need(hypervisor: Hypervisor, feature: Feature, doing: str, arch: str = "") -> None:
    """Raise Unsupported, which says what was to be done, when `hypervisor` lacks the feature that takes: for whichever
    guests, or for those of `arch`."""
    if feature not in hypervisor.features:
        raise Unsupported(doing, hypervisor.product)
    if arch and (why := hypervisor.lacks(arch).get(feature)):
        raise Unsupported(doing, f"{hypervisor.product}'s {why}")
