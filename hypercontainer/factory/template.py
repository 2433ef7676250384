"""Guests are clones of one that was booted before: a template, made for the first guest of each shape.

Templates are sealed memory files of this process, no files of a file system. QEMU opens its memory for writing even
to map it copy on write: a file that one VMM could write, or cut short, would be in every later guest. So there is
nothing to lock, to find damaged or to sweep either; another process makes its own.
"""

import asyncio
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from hypercontainer import vm as vms
from hypercontainer.errors import (
    Exhausted,
    GuestDied,
    GuestError,
    GuestSilent,
    HyperError,
    InvalidInput,
    Unavailable,
    reason,
)
from hypercontainer.factory.base import (
    EMPTY,
    PoolInfo,
    PoolSpec,
    RehearsalRoots,
    Shape,
    TemplateInfo,
    anonymous_config,
    shape,
    size,
)
from hypercontainer.factory.rehearsal import rehearse, usual_mounts
from hypercontainer.factory.sealed import SealedFile
from hypercontainer.factory.trouble import Trouble
from hypercontainer.hypervisor.base import SLOTS, Feature, Hypervisor, Savable, Snapshot, VmConfig, can, need
from hypercontainer.lib.trace import Timings, Trace

log = logging.getLogger(__name__)

KEPT = 4  # templates of a tenant, those used last: each takes what its guest took to boot, some 60 to 100 MiB
KEPT_IN_ALL = 16  # of all tenants; the next one comes at the expense of the tenant that has the most
MAX_FAILURES = 256  # shapes whose failures are known


@dataclass
class Template:
    """A guest as it was when its agent had answered."""

    config: VmConfig
    memory: SealedFile
    state: SealedFile
    created_ns: int
    clones: int = 0

    def seal(self) -> None:
        self.memory.seal()
        self.state.seal()

    def close(self) -> None:
        self.memory.close()
        self.state.close()

    def snapshot(self) -> Snapshot:
        """For as long as this object is kept."""
        return Snapshot(memory=self.memory.fileno(), state=self.state.fileno())

    def info(self) -> TemplateInfo:
        config = self.config
        return TemplateInfo(
            kernel=config.kernel,
            arch=config.arch,
            vcpus=config.vcpus,
            memory_mib=config.memory_mib,
            network=bool(config.nics),
            tenant=config.tenant,
            accelerator=config.accelerator,
            created_ns=self.created_ns,
            size=self.memory.used + self.state.used,
            clones=self.clones,
        )


class TemplateFactory:
    """Implements factory.base.Factory."""

    def __init__(self, hypervisor: Hypervisor, run_dir: Path, uid: int, roots: RehearsalRoots | None = None) -> None:
        """Templates boot in new folders below `run_dir`, their VMM as user `uid`; they rehearse on `roots`."""
        need(hypervisor, Feature.SNAPSHOT, 'clone virtual machines, as factory = "template" or "cache" is to')
        self._hypervisor, self._run_dir, self._uid, self._roots = hypervisor, run_dir, uid, roots
        self._templates: dict[Shape, asyncio.Task[Template]] = {}  # by shape; the one used last is last
        self._making: set[asyncio.Task[Template]] = set()
        self._troubles: dict[Shape, tuple[str, Trouble]] = {}  # of what failed; the oldest is first

    async def boot(self, config: VmConfig, run_dir: Path, trace: Trace) -> vms.Vm:
        # a clone's interfaces have the template's address until they are told apart by their own: one can be
        vm = await self._clone(config, run_dir, trace) if len(config.nics) <= 1 and self._clones(config) else None
        if vm is not None:
            return vm
        return await vms.boot(self._hypervisor, config, run_dir, trace)

    def templates(self) -> Sequence[TemplateInfo]:
        made = [task for task in self._templates.values() if task.done() and not task.cancelled()]
        return [task.result().info() for task in made if not task.exception()]

    def pools(self) -> Sequence[PoolInfo]:
        return ()

    async def init(self, specs: Sequence[PoolSpec]) -> None:
        for spec in specs:
            if spec.template and self._clones(spec.config):
                try:
                    await self.make(spec.config)
                except HyperError as e:
                    key = shape(self._hypervisor, spec.config)
                    self._failed(key, spec.config, None, f"cannot make a template: {reason(e)}")

    def troubles(self) -> Sequence[str]:
        return [f"there is no template for a {what}: {trouble.words()}" for what, trouble in self._troubles.values()]

    async def make(self, config: VmConfig) -> Template:
        """The template of its shape, made now if there is none."""
        return await self._made(self._begun(shape(self._hypervisor, config), config), Timings())

    async def clear(self) -> None:
        self._templates.clear()
        self._troubles.clear()

    async def close(self) -> None:
        await self.clear()
        for task in self._making:
            task.cancel()
        await asyncio.gather(*self._making, return_exceptions=True)

    def _clones(self, config: VmConfig) -> bool:
        """Whether guests of its architecture can go on from another one. Where not, each is booted."""
        return can(self._hypervisor, Feature.SNAPSHOT, config.arch)

    async def _clone(self, config: VmConfig, run_dir: Path, trace: Trace) -> vms.Vm | None:
        """A clone of the template of its shape; None if that cannot be had."""
        key = shape(self._hypervisor, config)
        if (known := self._troubles.get(key)) and known[1].lasting and known[1].left_s():
            return None  # a start that tries it too would only take longer
        task = self._begun(key, config)
        if not task.done() and (smaller := self._smaller(config)):
            return await self._grown(smaller, config, run_dir, trace)
        try:
            template = await self._made(task, trace)
        except HyperError as e:
            self._failed(key, config, None, f"cannot make a template, booting {config.name}: {reason(e)}")
            return None
        try:
            vm = await self._from(template, config, run_dir, trace)
        except (GuestDied, GuestError) as e:
            self._failed(key, config, template, f"cannot clone {config.name}, booting it: {reason(e)}")
            return None
        except GuestSilent:  # a boot would not be quicker than it where there is too much to do
            self._failed(key, config, template, f"cannot clone {config.name}: it does not answer")
            raise
        self._troubles.pop(key, None)
        return vm

    async def _from(self, template: Template, config: VmConfig, run_dir: Path, trace: Trace) -> vms.Vm:
        taken = {disk.target for disk in config.disks}
        free = [slot for slot in EMPTY if slot.target not in taken]
        clone = replace(config, disks=[*config.disks, *free], origin=template.snapshot())
        vm = await vms.boot(self._hypervisor, clone, run_dir, trace)
        template.clones += 1
        return vm

    def _smaller(self, config: VmConfig) -> Template | None:
        """The largest template that lacks nothing but size, for who would have to wait for one of their own."""
        if Feature.RESIZE not in self._hypervisor.features:
            return None
        fitting = []
        for key, task in self._templates.items():
            if task.done() and not task.cancelled() and not task.exception():
                template = task.result()
                size = (template.config.memory_mib, template.config.vcpus)
                alike = replace(config, memory_mib=size[0], vcpus=size[1])
                if size[0] <= config.memory_mib and size[1] <= config.vcpus and shape(self._hypervisor, alike) == key:
                    fitting.append((size, template))
        return max(fitting, key=lambda each: each[0])[1] if fitting else None

    async def _grown(self, template: Template, config: VmConfig, run_dir: Path, trace: Trace) -> vms.Vm | None:
        """A clone of a smaller one, with the rest added to it; None if that cannot be had."""
        size = (template.config.vcpus, template.config.memory_mib)
        try:
            vm = await self._from(template, replace(config, vcpus=size[0], memory_mib=size[1]), run_dir, trace)
            async with AsyncExitStack() as undo:
                undo.push_async_callback(vm.guest.kill)
                undo.push_async_callback(vm.close)
                with trace.step("resize"):
                    await vm.resize(config.vcpus, config.memory_mib)
                undo.pop_all()
        except (GuestDied, GuestError, Exhausted, InvalidInput) as e:
            log.warning("cannot clone %s from a smaller template, booting it: %s", config.name, str(e))
            return None
        return vm

    def _failed(self, key: Shape, config: VmConfig, template: Template | None, complaint: str) -> None:
        """Throw it away, unless somebody has done so and there is another one."""
        log.warning("%s", complaint)
        task = self._templates.get(key)
        if task and task.done() and (task.cancelled() or task.exception() or task.result() is template):
            del self._templates[key]
            what, trouble = self._troubles.pop(key, (size(config.vcpus, config.memory_mib), Trouble()))
            trouble.failed(complaint)
            self._troubles[key] = what, trouble
            for old in list(self._troubles)[:-MAX_FAILURES]:
                del self._troubles[old]

    def _begun(self, key: Shape, config: VmConfig) -> asyncio.Task[Template]:
        """Made now if there is none: once, and to its end, whoever waits for it and gives up."""
        task = self._templates.pop(key, None)
        if task is None:
            original = replace(anonymous_config(config), name="template", uid=self._uid)
            task = asyncio.create_task(self._make(original), name="template")
            self._making.add(task)
            task.add_done_callback(self._making.discard)
            self._make_room(key.tenant)
        self._templates[key] = task
        return task

    @staticmethod
    async def _made(task: asyncio.Task[Template], trace: Trace) -> Template:
        if not task.done():
            with trace.step("template"):
                await asyncio.wait([task])
        if task.cancelled():
            raise Unavailable("cannot make a template: it was given up")
        return task.result()

    def _make_room(self, tenant: str) -> None:
        """For one more of this tenant: whoever wants many has its own go, or those of who has the most."""
        held = Counter(key.tenant for key in self._templates)
        if held[tenant] < KEPT and held.total() < KEPT_IN_ALL:
            return
        most = max(held.values())
        own = held[tenant] in (KEPT, most)
        old = next(key for key in self._templates if (key.tenant == tenant if own else held[key.tenant] == most))
        log.info("letting go of a template of tenant %r for one of %r", old.tenant, tenant)
        del self._templates[old]

    async def _make(self, config: VmConfig) -> Template:
        """A second time when the first guest fell silent, as emulated ones of several processors do now and then."""
        try:
            return await self._make_once(config)
        except GuestSilent as e:
            log.warning("making a template for %s again: %s", size(config.vcpus, config.memory_mib), e)
            return await self._make_once(config)

    async def _make_once(self, config: VmConfig) -> Template:
        try:
            memory, state = SealedFile("template memory", config.memory_mib << 20), SealedFile("template state", 0)
            self._run_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix="template-", dir=self._run_dir))
        except OSError as e:
            raise Unavailable(f"cannot make room for a template: {e.strerror}") from e
        folder.chmod(0o711)  # the VMM's user passes through
        template = Template(config, memory, state, time.time_ns())
        try:
            config = replace(config, memory=template.memory.fileno())
            async with vms.booted(self._hypervisor, config, folder, Timings()) as vm:
                await self._rehearse(vm, config, folder)
                await vm.close()  # it is saved without a host: each clone finds its own
                assert isinstance(vm.guest, Savable)  # noqa: S101  asked at the beginning
                await vm.guest.save(template.state.fileno())
            template.seal()
            return template
        except BaseException as e:
            template.close()
            if isinstance(e, OSError):  # of the folder's disk, most likely: it is full
                raise Unavailable(f"cannot make a template: {e.strerror or e}") from e
            raise
        finally:
            await vms.remove(self._hypervisor, folder)

    async def _rehearse(self, vm: vms.Vm, config: VmConfig, folder: Path) -> None:
        if self._roots is None:
            await vm.agent.stage(SLOTS, usual_mounts())
        else:
            await rehearse(vm, await self._roots(config.arch, folder), network=bool(config.nics))
