"""What all pods of one hyperd share: the stores below the engine, and the folders they are in."""

import asyncio
import shutil
from collections.abc import Iterator
from functools import partial
from importlib import resources
from pathlib import Path

from hypercontainer.engine import accelerator, dns, rehearsal, resolve
from hypercontainer.engine.accelerator import BootFiles, Choice
from hypercontainer.engine.checkpoint import CheckpointStore
from hypercontainer.engine.events import Events
from hypercontainer.engine.store import PodIndex, PodStore
from hypercontainer.errors import InvalidInput, NotFound, Unavailable
from hypercontainer.factory.base import Factory
from hypercontainer.factory.cache import CacheFactory
from hypercontainer.factory.direct import DirectFactory
from hypercontainer.factory.template import TemplateFactory
from hypercontainer.factory.trouble import Trouble
from hypercontainer.hypervisor import registry
from hypercontainer.hypervisor.base import Feature, Hypervisor, need
from hypercontainer.images.hosts import Registries
from hypercontainer.images.store import ImageStore
from hypercontainer.kernel.bundle import KernelStore
from hypercontainer.lib import memory, netns
from hypercontainer.model import arch
from hypercontainer.model.record import Accelerator, NetworkRecord, PodRecord
from hypercontainer.model.settings import USUAL_HANDLER, Handler, Pool, Settings
from hypercontainer.model.spec import DEFAULT, PodSpec
from hypercontainer.network import ipam, pools
from hypercontainer.network.bridge_network import BridgeNetwork
from hypercontainer.network.cni.pods import PodNetworks
from hypercontainer.network.nameserver import Nameserver
from hypercontainer.network.store import Kind, NetworkStore
from hypercontainer.sandbox import size
from hypercontainer.sandbox.site import Boot, Limits, Site
from hypercontainer.storage import scratch, times
from hypercontainer.storage.mounted import MountedVolumes
from hypercontainer.storage.share import Share
from hypercontainer.storage.volume import VolumeStore

UIDS = 65536  # users of VMMs: pod number n's from `uid_base` up, and the one after them the templates'


class Host:
    """The stores of one hyperd, its factories and its kernels; `site` is what one pod may know of them."""

    def __init__(self, settings: Settings, hypervisor: Hypervisor | None = None, bridges: Kind | None = None) -> None:
        """The stores below `settings.root`, made if they are missing."""
        self.root = root = Path(settings.root)
        root.mkdir(mode=0o711, parents=True, exist_ok=True)  # the VMM's user passes through to its kernel
        self.settings = settings
        pools.check(settings.address_pools)
        self.index = PodIndex()
        self.names = Nameserver(partial(dns.asker, self.index))
        self.volumes = VolumeStore(root / "volumes")
        self.networks = NetworkStore(root / "networks", settings, bridges or self._bridge)
        self.mounted = MountedVolumes(self.volumes)
        plugins = [Path(folder) for folder in settings.cni_bin_dirs]
        self.pod_networks = PodNetworks(root, Path(settings.run), Path(settings.cni_conf_dir), plugins)
        self.site = Site(
            limits=_limits(settings, keep=settings.share_keep and times.proved()),
            hypervisor=hypervisor or registry.load(settings),
            networks=self.networks.__getitem__,
            factory=self.factory_of,
            boot=self.boot,
            run=Path(settings.run),
            scratches=root / "scratch",
            volumes=self.mounted,
            internetworking_model=settings.internetworking_model,
            apparmor=settings.apparmor,
            profiles=Path(settings.apparmor_profiles),
        )
        self.pods = PodStore(root / "pods")
        self.images = ImageStore(root / "images")
        self.registries = Registries(settings.registries, settings.registry_config_path)
        self.checkpoints = CheckpointStore(root / "checkpoints")
        self.waiting = root / "waiting"  # scratch disks of guests that wait
        self.dumps = root / "dumps"  # what guests say of processes, until it is in an archive
        self.kernels = KernelStore(root)
        self.events = Events(root / "events.db")
        self.binaries = Path(str(resources.files("hypercontainer"))) / "_bin"
        self.unprepared = Trouble()  # of the pools of the settings, before there is a factory's
        self.unwaited: dict[str, str] = {}  # whose machines cannot wait, and why
        self._factories = self._make_factories()  # each that there is, by its name
        self.factory = list(self._factories.values())[-1]  # as the settings say
        for name, handler in settings.cri_handlers.items():
            self._check_handler(name, handler)
        for pool in settings.pool:
            _check_pool(pool)
        self._proving = asyncio.Lock()
        self._accelerator: Accelerator = "tcg"  # until it is known

    def _bridge(self, record: NetworkRecord) -> BridgeNetwork:
        """Pods in that of the settings ask the host's servers, as with docker."""
        names = None if record.name == DEFAULT else self.names
        return BridgeNetwork(ipam.plan(record), Path(self.settings.run), names)

    def _make_factories(self) -> dict[str, Factory]:
        """The factories that the settings leave, the usual one last."""
        settings, hypervisor = self.settings, self.site.hypervisor
        direct = DirectFactory(hypervisor)
        if settings.factory == "direct" or settings.template_scope == "none":
            return {"direct": direct}
        folder = self.site.run_dir("")
        roots = None
        if Feature.ADOPT in hypervisor.features:
            roots = partial(rehearsal.roots, self.hyperstart, settings.scratch_mib, self.site.scratches)
        templates = TemplateFactory(hypervisor, folder, settings.uid_base + UIDS, roots)
        if settings.factory == "template":
            return {"direct": direct, "template": templates}
        if any(pool.share for pool in settings.pool) or any(each.cache for each in settings.cri_handlers.values()):
            need(hypervisor, Feature.SHARE, "have virtual machines wait with a share, as `pool` or `cri_handlers` asks")
        uids, share = self._waiting_uids, self._share
        cache = CacheFactory(
            templates, direct, hypervisor, folder, uids, share, roots, self._room_kib, self._new_scratch
        )
        return {"direct": direct, "template": templates, "cache": cache}

    def _room_kib(self) -> int:
        """Memory that guests may have which wait because more were needed lately: none of a host that has less than a
        quarter of its own left."""
        total, available = memory.host_kib()
        if available < total // 4:
            return 0
        most_mib = self.settings.pool_memory_mib
        return total // 16 if most_mib is None else most_mib << 10

    def _share(self, name: str) -> Share:
        return Share(self.site.share_dir(name))

    async def _new_scratch(self, name: str) -> Path:
        self.waiting.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.waiting / f"{name}.img"
        await scratch.create(path, self.settings.scratch_mib, self.site.scratches)
        return path

    def check_factory(self, asked: str) -> None:
        """InvalidInput when the settings leave out the one that a new pod asks for."""
        if asked and asked not in self._factories:
            there = ", ".join(self._factories)
            raise InvalidInput(f"cannot use factory {asked!r}: the settings of hyperd leave {there}")

    def _check_handler(self, name: str, handler: Handler) -> None:
        """InvalidInput for one whose machines are of no size, or come from a factory that there is not."""
        try:
            machine = PodSpec(vcpus=handler.vcpus, memory_mib=handler.memory_mib)
            resolve.check_size(machine, implicit=False)
            self.check_factory(handler.factory)
        except InvalidInput as e:
            raise InvalidInput(f"invalid setting cri_handlers.{name}: {e}") from e

    def factory_of(self, asked: str) -> Factory:
        """The one that a pod asks for; the usual one if it does not, or if the settings have left it out since."""
        return self._factories.get(asked, self.factory)

    def troubles(self) -> list[str]:
        """What the factory could not make, where names do not resolve, and why."""
        unprepared = self.unprepared.words()
        waiting = [f"no VM waits for a pod: {unprepared}"] if unprepared else []
        waiting += [f"no VM waits for {whose}: {why}" for whose, why in self.unwaited.items()]
        return [*waiting, *self.factory.troubles(), *self.names.troubles()]

    def _waiting_uids(self) -> Iterator[int]:
        """Users of guests that are nobody's yet; they stay theirs when they are a pod's."""
        taken = {pod.uid for pod in self.index.there()} | self.site.endings.uids()
        first = self.settings.uid_base + UIDS + 1
        return (uid for uid in range(first, first + UIDS) if uid not in taken)

    def hyperstart(self, of: str) -> Path:
        """The PID 1 of guests of that architecture, as installed with us. NotFound."""
        path = self.binaries / of / "hyperstart"
        if not path.exists():
            raise NotFound("hyperstart", of, f"in a checkout `make guest ARCH={of}` builds it: {path}")
        return path

    def check_arch(self, name: str) -> None:
        """Unavailable or NotFound when guests of that architecture lack something here; this host's have it, or are
        told when they boot."""
        if name != arch.host_name():
            if self.settings.accelerator == "kvm":
                why = 'it would be emulated, and the setting accelerator is "kvm"'
                raise Unavailable(f"cannot run a virtual machine of {name}: {why}")
            self.site.hypervisor.check(name)
            self.kernels.of(name)
            self.hyperstart(name)

    async def bootable(self, of: str = "") -> tuple[BootFiles, Choice]:
        """What a guest of an architecture boots ("": of this host's), and what accelerates it; proved now if it never
        was, by one guest at a time.

        NotFound when there is no kernel."""
        here = arch.host_name()
        if of not in ("", here):
            return await self.boot_files("", of), Choice(accelerator="tcg", reason=f"this host is of {here}")
        files = await self.boot_files(self.settings.kernel)
        async with self._proving:
            run_dir = self.site.run_dir("")
            choice = await accelerator.choose(self.settings, self.site.hypervisor, files, self.root, run_dir)
        self._accelerator = choice.accelerator
        return files, choice

    async def choice(self, of: str = "") -> Choice:
        """What accelerates guests here, of an architecture or of this host's; proved now if it never was."""
        try:
            return (await self.bootable(of))[1]
        except (NotFound, Unavailable) as e:
            return Choice(accelerator="tcg", reason=str(e))

    async def boot(self, pod: PodRecord) -> Boot:
        self.check_arch(pod.arch)
        files, choice = await self.bootable(pod.arch)
        handler = self.settings.handlers().get(pod.kube.handler or USUAL_HANDLER) if pod.kube else None
        if handler and handler.kernel:
            files = await self.boot_files(handler.kernel)
        return Boot(*files, choice.accelerator)

    async def boot_files(self, kernel: str, of: str = "") -> BootFiles:
        """Of the kernel bundle of that name, for an architecture or this host's; NotFound."""
        of = of or arch.host_name()
        bundle = self.kernels.of(of, kernel)
        further = self.site.hypervisor.modules if of == arch.host_name() else ()
        return await asyncio.to_thread(self.kernels.boot_files, bundle, self.hyperstart(of), further)

    def usual_vcpus(self, accelerator: Accelerator) -> int:
        """Processors of a VM for which nobody said how many."""
        return size.usual_vcpus(self.settings.vcpus, accelerator)

    def vcpus(self, pod: PodRecord) -> int:
        """Processors of its VM."""
        usual = self._accelerator if pod.arch == arch.host_name() else "tcg"
        return self.site.vcpus(pod, pod.guest.accelerator if pod.guest else usual)

    async def discard(self, pod_id: str) -> None:
        """Remove what is left on this host of a pod that has no record."""
        await self.site.hypervisor.reap(self.site.run_dir(pod_id))
        self._share(pod_id).clear()
        netns.let_go(self.site.netns(pod_id))
        for folder in (self.site.run_dir(pod_id), self.site.share_dir(pod_id)):
            shutil.rmtree(folder, ignore_errors=True)

    async def close(self) -> None:
        await self.factory.close()
        await self.names.close()
        self.networks.close()
        self.events.close()


def _check_pool(pool: Pool) -> None:
    """InvalidInput for one of machines that there are not."""
    try:
        if pool.arch:
            arch.named(pool.arch)
    except InvalidInput as e:
        raise InvalidInput(f"invalid setting pool.arch: {e}") from e


def _limits(settings: Settings, *, keep: bool) -> Limits:
    return Limits(
        vcpus=settings.vcpus,
        memory_mib=settings.memory_mib,
        scratch_mib=settings.scratch_mib,
        log_max_mib=settings.log_max_mib,
        log_files=settings.log_files,
        boot_timeout_s=settings.boot_timeout_s,
        share_locks=settings.share_locks,
        share_cache_s=settings.share_cache_s,
        share_keep=keep,
        by_tenant=settings.template_scope == "tenant",
    )
