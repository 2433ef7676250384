"""What all pods of one hyperd share: the stores below the engine, and the folders they are in."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path

from hypercontainer.engine import accelerator, rehearsal
from hypercontainer.engine.accelerator import BootFiles, Choice
from hypercontainer.engine.checkpoint import CheckpointStore
from hypercontainer.engine.events import Events
from hypercontainer.engine.store import Index, PodStore
from hypercontainer.errors import InvalidInput
from hypercontainer.factory.base import Factory
from hypercontainer.factory.cache import CacheFactory
from hypercontainer.factory.direct import DirectFactory
from hypercontainer.factory.template import TemplateFactory
from hypercontainer.factory.trouble import Trouble
from hypercontainer.hypervisor.base import Hypervisor
from hypercontainer.hypervisor.qemu.driver import QemuHypervisor
from hypercontainer.images.store import ImageStore
from hypercontainer.kernel.bundle import KernelStore
from hypercontainer.model.record import PodRecord
from hypercontainer.model.settings import Settings
from hypercontainer.network.network import Network
from hypercontainer.storage.share import Share
from hypercontainer.storage.volume import VolumeStore

MOST_VCPUS = 8  # by default, however many the host has: as many as `update` can give one that runs
UIDS = 65536  # users of VMMs: pod number n's from `uid_base` up, and the one after them the templates'


@dataclass
class Host:
    settings: Settings
    root: Path
    pods: PodStore
    index: Index
    images: ImageStore
    volumes: VolumeStore
    checkpoints: CheckpointStore
    kernels: KernelStore
    network: Network
    hypervisor: Hypervisor
    factory: Factory  # as the settings say
    events: Events
    hyperstart: Path  # the guest's PID 1, as installed with us
    unprepared: Trouble = field(default_factory=Trouble)  # of the wishes of the settings, before there is a factory's
    _factories: dict[str, Factory] = field(default_factory=dict)  # each that there is, by its name
    _proving: asyncio.Lock = field(default_factory=asyncio.Lock)
    _accelerator: str = "tcg"  # until it is known

    @classmethod
    def of(cls, settings: Settings, hypervisor: Hypervisor | None) -> "Host":
        """The stores below `settings.root`, made if they are missing."""
        root = Path(settings.root)
        root.mkdir(mode=0o711, parents=True, exist_ok=True)  # the VMM's user passes through to its kernel
        hypervisor = hypervisor or QemuHypervisor()
        binaries = Path(str(resources.files("hypercontainer"))) / "_bin"
        return cls(
            settings=settings,
            root=root,
            pods=PodStore(root / "pods"),
            index=Index(),
            images=ImageStore(root / "images"),
            volumes=VolumeStore(root / "volumes"),
            checkpoints=CheckpointStore(root / "checkpoints"),
            kernels=KernelStore(root),
            network=Network(settings, Path(settings.run)),
            hypervisor=hypervisor,
            factory=DirectFactory(hypervisor),
            events=Events(root / "events.db"),
            hyperstart=binaries / "x86_64" / "hyperstart",
        )._with_factory()

    def _with_factory(self) -> "Host":
        settings = self.settings
        self._factories["direct"] = direct = self.factory
        if settings.factory == "direct" or settings.template_scope == "none":
            return self
        folder, scratches = _run_dir(settings), self.root / "scratch"
        stage = partial(rehearsal.stage, self.hyperstart, settings.scratch_mib, scratches)
        templates = TemplateFactory(self.hypervisor, folder, settings.uid_base + UIDS, stage)
        self._factories["template"] = self.factory = templates
        if settings.factory == "cache":
            cache = CacheFactory(templates, direct, self.hypervisor, folder, self._waiting_uids, stage)
            self._factories["cache"] = self.factory = cache
        return self

    def check_factory(self, asked: str) -> None:
        """InvalidInput when the settings leave out the one that a new pod asks for."""
        if asked and asked not in self._factories:
            there = ", ".join(self._factories)
            raise InvalidInput(f"cannot use factory {asked!r}: the settings of hyperd leave {there}")

    def factory_of(self, asked: str) -> Factory:
        """The one that a pod asks for; the usual one if it does not, or if the settings have left it out since."""
        return self._factories.get(asked, self.factory)

    def troubles(self) -> list[str]:
        """What the factory could not make, and why."""
        unprepared = self.unprepared.words()
        return [*([f"no VM waits for a pod: {unprepared}"] if unprepared else []), *self.factory.troubles()]

    def _waiting_uids(self) -> Iterator[int]:
        """Users of guests that are nobody's yet; they stay theirs when they are a pod's."""
        taken = {pod.uid for pod in self.index.pods.values()}
        first = self.settings.uid_base + UIDS + 1
        return (uid for uid in range(first, first + UIDS) if uid not in taken)

    async def bootable(self) -> tuple[BootFiles, Choice]:
        """What a guest boots here, and what accelerates it; proved now if it never was, by one guest at a time.

        NotFound when there is no kernel."""
        bundle = self.kernels.get(self.settings.kernel)
        boot = await asyncio.to_thread(self.kernels.boot_files, bundle, self.hyperstart)
        async with self._proving:
            choice = await accelerator.choose(self.settings, self.hypervisor, boot, self.root, self.run_dir(""))
        self._accelerator = choice.accelerator
        return boot, choice

    def usual_vcpus(self, accelerator: str) -> int:
        """Processors of a VM for which nobody said how many. Emulated, each costs an idle guest's host time: ADR 23."""
        if self.settings.vcpus:
            return self.settings.vcpus
        return min(len(os.sched_getaffinity(0)), MOST_VCPUS) if accelerator == "kvm" else 1

    def vcpus(self, pod: PodRecord) -> int:
        """Processors of its VM."""
        return pod.spec.vcpus or self.usual_vcpus(pod.guest.accelerator if pod.guest else self._accelerator)

    def run_dir(self, pod_id: str) -> Path:
        """Of its VMM: sockets, console, pids. Gone with it."""
        return _run_dir(self.settings) / pod_id

    def share_dir(self, pod_id: str) -> Path:
        return Path(self.settings.run) / "shares" / pod_id

    async def discard(self, pod_id: str) -> None:
        """Remove what is left on this host of a pod that has no record."""
        await self.hypervisor.reap(self.run_dir(pod_id))
        Share(self.share_dir(pod_id)).clear()
        for folder in (self.run_dir(pod_id), self.share_dir(pod_id)):
            shutil.rmtree(folder, ignore_errors=True)

    async def close(self) -> None:
        await self.factory.close()
        self.network.close()
        self.events.close()


def _run_dir(settings: Settings) -> Path:
    return Path(settings.run) / "pods"
