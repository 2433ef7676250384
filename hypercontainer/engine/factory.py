"""The use cases of the factory: templates, and guests that wait. model.api.Factory says what each promises."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypercontainer.engine.accelerator import BootFiles, Choice
from hypercontainer.engine.host import Host
from hypercontainer.errors import HyperError
from hypercontainer.factory.base import PoolInfo, PoolSpec, TemplateInfo
from hypercontainer.factory.trouble import MOST_S, Trouble
from hypercontainer.hypervisor.base import SNAPSHOT_MAC, Feature, Nic, SharedFolder, VmConfig, need
from hypercontainer.lib import clock
from hypercontainer.model import arch, settings
from hypercontainer.model import documents as doc
from hypercontainer.sandbox import agent_requests

log = logging.getLogger(__name__)


class Factory:
    def __init__(self, host: Host) -> None:
        self.host = host
        self._preparing: asyncio.Task[None] | None = None

    def prepare(self) -> None:
        """Have what the settings want made in the background, for the kernel that is chosen now."""
        if self._preparing:
            self._preparing.cancel()
        self._preparing = asyncio.create_task(self._prepare(), name="pool")

    async def _prepare(self) -> None:
        trouble = self.host.unprepared = Trouble()
        while True:
            try:
                await self.init()
            except (HyperError, OSError) as e:
                log.info("no virtual machine waits for a pod: %s", e)
                trouble.failed(str(e))
                await asyncio.sleep(trouble.left_s())
            else:
                self.host.unprepared = Trouble()
                if not self.host.unwaited:
                    return
                await asyncio.sleep(MOST_S)  # a kernel may come

    async def stop_preparing(self) -> None:
        """Stop preparing."""
        if self._preparing:
            self._preparing.cancel()
            await asyncio.gather(self._preparing, return_exceptions=True)

    async def status(self) -> doc.Factory:
        usual, factory = self.host.settings, self.host.factory
        return doc.Factory(
            kind=usual.factory if usual.template_scope != "none" else "direct",
            scope=usual.template_scope,
            templates=[_template(info) for info in factory.templates()],
            pools=[_pool(pool) for pool in factory.pools()],
            warnings=self.host.troubles(),
        )

    async def init(self) -> None:
        boot, choice = await self.host.bootable()
        specs = [self._spec(pool, boot, choice) for pool in self.host.settings.pool if not pool.arch]
        await self.host.factory.init(specs + await self._of_handlers(boot, choice) + await self._of_others())

    async def _of_others(self) -> list[PoolSpec]:
        """Machines of architectures that the settings name. Where one's cannot wait, for want of its kernel, the
        others' do."""
        specs = []
        for pool in self.host.settings.pool:
            if pool.arch:
                name = arch.named(pool.arch).name
                with self._unwaited(f"pods for {pool.arch}"):
                    self.host.check_arch(name)
                    if pool.share:
                        doing = "have virtual machines wait with a share"
                        need(self.host.site.hypervisor, Feature.SHARE, doing, name)
                    specs.append(self._spec(pool, *await self.host.bootable(name), name))
        return specs

    @contextmanager
    def _unwaited(self, whose: str) -> Iterator[None]:
        """What fails in the block keeps nobody else's machines from waiting: it is known why."""
        unwaited = self.host.unwaited
        try:
            yield
            unwaited.pop(whose, None)
        except HyperError as e:
            if unwaited.get(whose) != str(e):
                log.warning("no virtual machine waits for %s: %s", whose, e)
            unwaited[whose] = str(e)

    async def _of_handlers(self, boot: BootFiles, choice: Choice) -> list[PoolSpec]:
        """Machines of RuntimeClasses that are to wait. Where one's cannot, for want of its kernel, the others' do."""
        specs = []
        for name, handler in self.host.settings.cri_handlers.items():
            if not handler.cache:
                continue
            with self._unwaited(f"pods of handler {name}"):
                specs.append(await self._for(handler, boot, choice))
        return specs

    async def _for(self, handler: settings.Handler, boot: BootFiles, choice: Choice) -> PoolSpec:
        """With a share, as all pods of kubelets have."""
        pool = settings.Pool(
            vcpus=handler.vcpus, memory_mib=handler.memory_mib, share=True, cache=handler.cache,
            template=handler.factory != "direct",
        )  # fmt: skip
        return self._spec(pool, await self.host.boot_files(handler.kernel) if handler.kernel else boot, choice)

    async def clear(self) -> None:
        await self.host.factory.clear()

    def _spec(self, pool: settings.Pool, boot: BootFiles, choice: Choice, of: str = "") -> PoolSpec:
        usual, limits = self.host.settings, self.host.site.limits
        asked = agent_requests.WITH_APPARMOR if usual.apparmor else ()
        share = SharedFolder(
            folder=Path(),
            host_locks=limits.share_locks == "host",
            cache_s=limits.share_cache_s,
            keep=limits.share_keep,
        )
        config = VmConfig(
            name="",
            kernel=boot[0],
            initrd=boot[1],
            arch=of or arch.host_name(),
            vcpus=pool.vcpus or self.host.usual_vcpus(choice.accelerator),
            memory_mib=pool.memory_mib or usual.memory_mib,
            uid=0,
            disk_mib=usual.scratch_mib,
            nics=[Nic(tap="", mac=SNAPSHOT_MAC)] if pool.network else [],
            share=share if pool.share else None,
            boot_timeout_s=usual.boot_timeout_s,
            accelerator=choice.accelerator,
            kernel_parameters=(*agent_requests.FOR_NET_ADMIN, *asked),
            tenant=pool.tenant if usual.template_scope == "tenant" else "",
        )
        return PoolSpec(config=config, template=pool.template, cache=pool.cache)


def _pool(pool: PoolInfo) -> doc.Pool:
    return doc.Pool(
        architecture=pool.arch,
        vcpus=pool.vcpus,
        memory_mib=pool.memory_mib,
        share=pool.share,
        network=pool.network,
        tenant=pool.tenant,
        wanted=pool.wanted,
        waiting=pool.waiting,
        taken=pool.taken,
        poisoned=pool.poisoned,
        reason=pool.reason,
    )


def _template(info: TemplateInfo) -> doc.Template:
    return doc.Template(
        kernel=info.kernel.parent.name,
        architecture=info.arch,
        vcpus=info.vcpus,
        memory_mib=info.memory_mib,
        network=info.network,
        tenant=info.tenant,
        accelerator=info.accelerator,
        created_at=clock.rfc3339(info.created_ns),
        size=info.size,
        clones=info.clones,
    )
