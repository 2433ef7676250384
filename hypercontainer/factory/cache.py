"""Guests that wait: clones (or booted ones) that run already, have rehearsed, and become whoever's pod comes first.

All that a start still does is to swap the files behind two disks, name a tap and tell the guest who it is.
"""

import asyncio
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path

from hypercontainer import vm as vms
from hypercontainer.errors import HyperError
from hypercontainer.factory import staged
from hypercontainer.factory.base import (
    Factory,
    NewScratch,
    PoolInfo,
    PoolSpec,
    RehearsalRoots,
    Shape,
    Share,
    TemplateInfo,
    anonymous_config,
    shape,
)
from hypercontainer.factory.pool import Pool, WarmGuest
from hypercontainer.factory.rehearsal import rehearse
from hypercontainer.factory.template import TemplateFactory
from hypercontainer.factory.trouble import Trouble
from hypercontainer.hypervisor.base import Adoptable, Feature, Hypervisor, VmConfig, need
from hypercontainer.lib import memory
from hypercontainer.lib.tasks import all_of, uninterrupted
from hypercontainer.lib.trace import Timings, Trace
from hypercontainer.model.record import GuestRecord

log = logging.getLogger(__name__)

QUIET_S = 0.3  # after a claim, before a guest for the pool is made: so it is in nobody's way who runs a short command
REVIEW_S = 60.0  # after which what was needed lately is looked at again
LATE_S = 0.01  # after it may be tried again: two clocks are read
ANSWER_S = 1.0  # for one that waits to say that it is alive; it takes a millisecond


class CacheFactory:
    """Implements factory.base.Factory."""

    def __init__(
        self, templates: TemplateFactory, booting: Factory, hypervisor: Hypervisor, run_dir: Path,
        uids: Callable[[], Iterator[int]], shares: Callable[[str], Share], roots: RehearsalRoots | None = None,
        room_kib: Callable[[], int] = lambda: 0, scratch: NewScratch | None = None,
    ) -> None:  # fmt: skip
        """Who waits has a new folder below `run_dir`, a user of its own from `uids()`: those that are free, where it is
        to have one, the share of the folder's name, and a new scratch disk of that name. `room_kib()`: of memory that
        all who wait may have, for more of them than specs say."""
        need(hypervisor, Feature.ADOPT, 'have virtual machines wait, as factory = "cache" is to')
        self._templates, self._booting, self._hypervisor = templates, booting, hypervisor
        self._run_dir, self._uids, self._shares, self._roots, self._room_kib = run_dir, uids, shares, roots, room_kib
        self._scratch = scratch
        self._pools: list[Pool] = []
        self._starts = 0  # under way
        self._beside = max(len(os.sched_getaffinity(0)) // 2, 1)  # of those, what waits is made when fewer are
        self._changed = asyncio.Condition()
        self._notifying: set[asyncio.Task[None]] = set()
        self._filler: asyncio.Task[None] | None = None

    async def boot(self, config: VmConfig, run_dir: Path, trace: Trace) -> vms.Vm:
        self._starts += 1
        try:
            vm = await self._claim(config, run_dir, trace)
            return vm or await self._templates.boot(config, run_dir, trace)
        finally:
            self._starts -= 1
            self._notify_soon()

    async def init(self, specs: Sequence[PoolSpec]) -> None:
        before = {id(pool): pool for pool in self._pools}
        pools = []
        for spec in specs:
            known = next((s for s in before.values() if s.spec.config == spec.config), None)
            pools.append(before.pop(id(known)) if known else Pool(spec))
            pools[-1].spec, pools[-1].trouble = spec, Trouble()
        self._pools = pools
        self._review()
        unwanted = [warm for pool in before.values() for warm in pool.surplus(0)]
        await self._discard(*unwanted, *(warm for pool in pools for warm in pool.surplus(pool.wanted)))
        if self._filler is None:
            self._filler = asyncio.create_task(self._fill(), name="pool")
        await self._templates.init([spec for spec in specs if not spec.cache])
        async with self._changed:
            self._changed.notify_all()
            await self._changed.wait_for(lambda: all(pool.settled for pool in self._pools))

    def templates(self) -> Sequence[TemplateInfo]:
        return self._templates.templates()

    def pools(self) -> Sequence[PoolInfo]:
        return [pool.info() for pool in self._pools]

    def troubles(self) -> Sequence[str]:
        mine = [f"no {s.size} waits for a pod: {s.trouble.words()}" for s in self._pools if s.trouble.failures]
        return [*mine, *self._templates.troubles()]

    async def clear(self) -> None:
        pools, self._pools = self._pools, []
        await self._discard(*(warm for pool in pools for warm in pool.surplus(0)))
        self._notify_soon()
        await self._templates.clear()

    async def close(self) -> None:
        if self._filler:
            self._filler.cancel()
            await asyncio.gather(self._filler, return_exceptions=True)
            self._filler = None
        await self.clear()
        await self._templates.close()

    # Taking

    async def _claim(self, config: VmConfig, run_dir: Path, trace: Trace) -> vms.Vm | None:
        """A guest that waits, made that of `config`; None if there is none."""
        if config.origin:
            return None
        key = shape(self._hypervisor, config)
        suitable = [s for s in self._pools if self._makes(s, key) and s.suits(config)]
        for pool in suitable[:1]:
            pool.demand.asked()
            self._review()
        for pool in suitable:
            while pool.waiting:
                warm = pool.waiting.popleft()
                if warm.shape != key:  # it is of a kernel or a VMM that was replaced
                    await self._discard(warm)
                    continue
                with trace.step("claim"):  # one try: where one is of no use the next may not be either
                    if await self._answers(pool, warm) and await self._adopted(pool, warm, config, run_dir):
                        return warm.vm
                return None
        return None

    def _makes(self, pool: Pool, key: Shape) -> bool:
        try:
            return self._shape(pool.spec) == key
        except OSError:  # its kernel is gone
            return False

    async def _answers(self, pool: Pool, warm: WarmGuest) -> bool:
        """Whether the guest does. If not, or whatever is raised, nothing of it is left."""
        try:
            await warm.vm.agent.ping(timeout_s=ANSWER_S)
        except BaseException as e:
            await self._discard_broken(pool, warm, e)
            return False
        return True

    async def _adopted(self, pool: Pool, warm: WarmGuest, config: VmConfig, run_dir: Path) -> bool:
        """Make it the guest of `config`. If not, or whatever is raised, nothing of it is left, and no other guest is
        tried: what failed may be what it was to become."""
        guest = warm.vm.guest
        assert isinstance(guest, Adoptable)  # noqa: S101  asked at the beginning
        try:
            if warm.share and config.share:
                warm.share.become(config.share.folder)  # first: where the rest fails, another guest may serve it
            if warm.disk:
                config = await warm.disk.become(config)
            await guest.adopt(config, run_dir)
        except BaseException as e:
            await self._discard_broken(pool, warm, e)
            return False
        warm.watch.cancel()
        pool.taken += 1
        pool.trouble = Trouble()
        return True

    async def _discard_broken(self, pool: Pool, warm: WarmGuest, why: BaseException) -> None:
        """Throw a guest away; raise what is no failure of a guest's."""
        await self._discard(warm)
        if not isinstance(why, HyperError):
            raise why
        pool.poisoned += 1
        log.warning("a guest that waited is of no use, it was thrown away: %s", why)

    # Filling

    async def _fill(self) -> None:
        """Fill pools until it is cancelled, also where what fails in the wake of that hides the cancellation."""
        while not (task := asyncio.current_task()) or not task.cancelling():
            await self._needed()
            await asyncio.sleep(QUIET_S)
            await self._discard(*(warm for pool in self._pools for warm in pool.surplus(pool.wanted)))
            for pool in self._next():
                pool.making = True
                try:
                    await self._add(pool)
                finally:
                    pool.making = False
                self._notify_soon()

    async def _needed(self) -> None:
        """Wait until a guest is to be made, with processors free for that, or more wait than were needed lately."""
        with suppress(TimeoutError):
            async with asyncio.timeout(REVIEW_S), self._changed:
                await self._changed.wait_for(self._next)
        self._review()

    def _next(self) -> list[Pool]:
        """The pool whose guest is made next, if one is to be made now: what specs say comes first."""
        due = [pool for pool in self._pools if pool.due] if self._starts < self._beside else []
        return sorted(due, key=lambda pool: len(pool.waiting) >= pool.spec.cache)[:1]

    def _review(self) -> None:
        """Want as many to wait as were needed lately, as far as there is room."""
        used_kib = sum(warm.memory_kib for pool in self._pools for warm in pool.waiting)
        for pool in self._pools:
            least, there = pool.spec.cache, len(pool.waiting)
            pool.wanted = max(least, min(pool.demand.needed(), there)) if least else 0
            if least and (further := pool.demand.needed() - pool.wanted) > 0:
                each_kib = pool.memory_kib or pool.spec.config.memory_mib << 10
                left_kib = self._room_kib() - used_kib - (pool.wanted - there) * each_kib
                pool.wanted += max(min(further, left_kib // each_kib), 0)

    def _failed(self, pool: Pool, why: str) -> None:
        """A pool is due again later, and the filler is told then."""
        pool.trouble.failed(why)
        asyncio.get_running_loop().call_later(pool.trouble.left_s() + LATE_S, self._notify_soon)

    async def _add(self, pool: Pool) -> None:
        try:
            warm = await self._made(pool)
        except (HyperError, OSError) as e:  # OSError: no room for its folder, a kernel that is gone
            self._failed(pool, str(e))
            log.warning("cannot make a guest for the pool: %s", e)
            return
        pool.trouble = Trouble()
        if pool in self._pools:
            pool.waiting.append(warm)
            pool.memory_kib = warm.memory_kib
            pool.demand.made()
            self._review()
            if not pool.short:
                pool.demand.met()
        else:  # nobody wants it any more
            await self._discard(warm)

    async def _made(self, pool: Pool) -> WarmGuest:
        self._run_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="waiting-", dir=self._run_dir))
        folder.chmod(0o711)  # the VMM's user passes through
        share = self._shares(folder.name) if pool.spec.config.share else None
        config = self._config(pool.spec, share)
        key = self._shape(pool.spec)
        async with AsyncExitStack() as undo:
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            if share:
                undo.push_async_callback(asyncio.to_thread, share.clear)
            factory: Factory = self._templates if pool.spec.template else self._booting
            vm = await factory.boot(config, folder, Timings())
            undo.push_async_callback(vm.guest.kill)
            undo.push_async_callback(vm.close)
            if self._roots:
                scratch = folder / "rehearsal"
                scratch.mkdir(mode=0o700)
                undo.callback(shutil.rmtree, scratch, ignore_errors=True)
                await rehearse(vm, await self._roots(config.arch, scratch), network=bool(config.nics), share=share)
                shutil.rmtree(scratch)
            memory_kib = await asyncio.to_thread(_memory_kib, vm.guest.record)
            # Those with a share are mostly a pod's that has none: of a kubelet, which begins without a container, or of
            # an engine whose root file systems are folders.
            disk = None if share else await staged.mounted(vm, self._scratch, folder.name)
            undo.pop_all()
        watch = asyncio.create_task(self._watch(pool, vm), name="waiting")
        return WarmGuest(vm, key, folder, share, disk, watch, memory_kib)

    def _config(self, spec: PoolSpec, share: Share | None) -> VmConfig:
        """A guest of its own user, tap and share, that is nobody's."""
        config = anonymous_config(spec.config)
        mine = {warm.vm.guest.record.uid for pool in self._pools for warm in pool.waiting}
        uid = next(uid for uid in self._uids() if uid not in mine)
        nics = [replace(nic, tap=f"hyw{secrets.token_hex(4)}", netns="") for nic in config.nics]
        served = None
        if spec.config.share and share:
            served = replace(spec.config.share, folder=share.root, prepare=share.prepare)
        return replace(config, name="waiting", uid=uid, nics=nics, share=served, background=True)

    def _shape(self, spec: PoolSpec) -> Shape:
        return shape(self._hypervisor, spec.config)

    async def _watch(self, pool: Pool, vm: vms.Vm) -> None:
        cause = await vm.guest.wait()
        for warm in [warm for warm in pool.waiting if warm.vm is vm]:
            log.warning("a guest that waited has ended: %s", cause)
            pool.waiting.remove(warm)
            pool.poisoned += 1
            self._failed(pool, f"one that waited has ended: {cause}")
            await self._discard(warm)
        self._notify_soon()

    def _notify_soon(self) -> None:
        """Tell whoever waits for a change. Nobody waits for this: a cancellation would lose a guest just taken."""
        notifying = asyncio.create_task(self._notify())
        self._notifying.add(notifying)
        notifying.add_done_callback(self._notifying.discard)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _discard(self, *guests: WarmGuest) -> None:
        """End guests, even when the caller is cancelled meanwhile: nobody else knows of them any more."""
        for warm in guests:
            if warm.watch is not asyncio.current_task():
                warm.watch.cancel()
        await uninterrupted(all_of(*map(_end, guests)))


def _memory_kib(record: GuestRecord) -> int:
    return sum(memory.pss_kib(process.pid) for process in (record.process, *record.helpers))


async def _end(warm: WarmGuest) -> None:
    await warm.vm.close()
    try:
        await warm.vm.guest.kill()
        if warm.share:
            await asyncio.to_thread(warm.share.clear)
        if warm.disk:
            warm.disk.clear()
    except (HyperError, OSError) as e:
        log.error("a guest that waited is left for the next hyperd to remove: %s", e)
        return
    shutil.rmtree(warm.folder, ignore_errors=True)
