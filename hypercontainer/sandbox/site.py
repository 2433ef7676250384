"""What a pod needs of its host, and of who answers for it. Other pods, names, images, volumes are no part of it."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from hypercontainer.factory.base import Factory
from hypercontainer.hypervisor.base import Hypervisor
from hypercontainer.model.record import Accelerator, ContainerRecord, Model, NicRecord, PodRecord
from hypercontainer.network.base import Network
from hypercontainer.network.netns import NetnsNetwork
from hypercontainer.sandbox import size
from hypercontainer.sandbox.endings import Endings
from hypercontainer.sandbox.turns import Turns
from hypercontainer.storage.filling import Filling


class Boot(NamedTuple):
    """What a guest boots, and what accelerates it."""

    kernel: Path
    initrd: Path
    accelerator: Accelerator


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a pod has of everything that it does not ask for, and how long its guest is waited for."""

    vcpus: int = 0  # 0: as what accelerates it makes right, see size.py
    memory_mib: int
    scratch_mib: int  # of a container's writable layer, sparse
    log_max_mib: int  # of one file of a container's log
    log_files: int
    boot_timeout_s: float
    share_locks: Literal["guest", "host"] = "guest"  # whose locks hold on files that are shared with it
    share_cache_s: float = 0.0  # how late it may see a change that others made to them
    share_keep: bool = False  # what was read of one of these stays in memory while size and time are the same
    by_tenant: bool = False  # it shares memory pages with pods of its tenant alone


class Volumes(Protocol):
    """Who has volumes mounted that are file systems of their own: storage.mounted says what each method promises."""

    async def use(self, name: str, user: str) -> None: ...

    async def keep(self, user: str, names: Iterable[str]) -> None: ...

    def adopt(self, user: str, names: Iterable[str]) -> None: ...


@dataclass(kw_only=True)
class Site:
    limits: Limits
    hypervisor: Hypervisor
    networks: Callable[[str], Network]  # the one of that name; NotFound
    factory: Callable[[str], Factory]  # the one of that name, or the usual one
    boot: Callable[[PodRecord], Awaitable[Boot]]  # NotFound when there is no kernel
    run: Path  # what does not outlive a reboot
    scratches: Path  # empty scratch disks, made once
    volumes: Volumes
    internetworking_model: Model = "tcfilter"  # of interfaces in namespaces that others made
    apparmor: bool = False  # machines have it, also those whose pods have not asked for it yet
    profiles: Path = Path("/etc/apparmor.d")  # its sources
    filling: Filling = field(default_factory=Filling)  # of new volumes
    endings: Endings = field(default_factory=Endings)
    turns: Turns = field(default_factory=Turns)

    def run_dir(self, pod_id: str) -> Path:
        """Of its VMM: sockets, console, pids. Gone with it."""
        return self.run / "pods" / pod_id

    def share_dir(self, pod_id: str) -> Path:
        return self.run / "shares" / pod_id

    def netns(self, pod_id: str) -> Path:
        """Where the network namespace that somebody else made for a pod is held while its machine runs."""
        return self.run / "netns" / pod_id

    def given(self, pod_id: str) -> NetnsNetwork:
        """The network of a pod whose namespace somebody else made."""
        return NetnsNetwork(str(self.netns(pod_id)), self.internetworking_model)

    def network_of(self, nic: NicRecord) -> Network:
        """The one that an interface is of; NotFound."""
        return NetnsNetwork(nic.netns) if nic.netns else self.networks(nic.network)

    def vcpus(self, pod: PodRecord, accelerator: Accelerator) -> int:
        """Processors of its VM."""
        return pod.spec.vcpus or size.usual_vcpus(self.limits.vcpus, accelerator)

    def machine_mib(self, pod: PodRecord) -> int:
        """Memory of its VM."""
        return size.machine_mib(pod, self.limits.memory_mib)

    def limit_mib(self, pod: PodRecord, container: ContainerRecord) -> int:
        """What a container that its VM was made for may use, where that is less than the VM has; else 0."""
        return size.limit_mib(pod, container, self.limits.memory_mib)


class Records(Protocol):
    """Keeps the records of pods, and what no two of them may have."""

    async def allocate(self, pod: PodRecord) -> None:
        """Give it a user for its VMM, and the network interfaces that it is to have, and save that."""

    def save(self, pod: PodRecord, *, durable: bool = False) -> None:
        """Replace its record on disk. Exhausted when the disk takes no more: the old one is there."""

    def note(self, pod: PodRecord) -> bool:
        """Write down what has happened already. A disk that takes no more keeps nobody from going on: False, and it is
        written as soon as that can be; `LockedPod.written` is called then."""

    def hosts(self, pod: PodRecord) -> list[list[str]]:
        """Rows of its guest's /etc/hosts beside its own: of those that it is linked to."""

    def emit(self, action: str, pod: PodRecord, container: ContainerRecord | None, **attributes: str) -> None:
        """Tell of something that happened to it, or to a container in it."""
