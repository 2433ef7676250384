"""Guests that wait: clones (or booted ones) that run already, have rehearsed, and become whoever's pod comes first.

All that a start still does is to swap the files behind two disks, name a tap and tell the guest who it is.
"""

import asyncio
import logging
import secrets
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from hypercontainer import vm as vms
from hypercontainer.errors import HyperError
from hypercontainer.factory.base import Factory, Kept, Pool, Shape, Stage, Wish, nobodys, shape, size
from hypercontainer.factory.rehearsal import rehearse
from hypercontainer.factory.template import TemplateFactory
from hypercontainer.factory.trouble import Trouble
from hypercontainer.hypervisor.base import Adoptable, Feature, Hypervisor, VmConfig, need
from hypercontainer.lib.tasks import all_of, uninterrupted
from hypercontainer.lib.trace import Timings, Trace

log = logging.getLogger(__name__)

QUIET_S = 0.1  # without a start, before a guest for the pool is made: so it is in nobody's way
LATE_S = 0.01  # after it may be tried again: two clocks are read
ANSWER_S = 1.0  # for one that waits to say that it is alive; it takes a millisecond


@dataclass(eq=False)
class Waiting:
    """A guest that is nobody's. `watch` ends with it."""

    vm: vms.Vm
    shape: Shape
    folder: Path
    watch: asyncio.Task[None]


@dataclass(eq=False)  # one with the same wish is another stock
class Stock:
    """What there is of one wish."""

    wish: Wish
    waiting: deque[Waiting] = field(default_factory=deque)
    taken: int = 0
    poisoned: int = 0
    trouble: Trouble = field(default_factory=Trouble)
    making: bool = False

    @property
    def short(self) -> bool:
        return len(self.waiting) < self.wish.cache

    @property
    def due(self) -> bool:
        return self.short and not self.trouble.left_s()

    @property
    def settled(self) -> bool:
        """Nobody needs to wait for it: it is there, or will not be soon."""
        return not self.short or self.trouble.lasting

    def reason(self) -> str:
        """Why fewer wait than are wanted; "" if all do."""
        if not self.short:
            return ""
        return self.trouble.words() or ("being made" if self.making else "made when no start is under way")


class CacheFactory:
    """Implements factory.base.Factory."""

    def __init__(
        self, templates: TemplateFactory, booting: Factory, hypervisor: Hypervisor, run_dir: Path,
        uids: Callable[[], Iterator[int]], stage: Stage | None = None,
    ) -> None:  # fmt: skip
        """Who waits has a new folder below `run_dir`, and a user of its own from `uids()`: those that are free."""
        need(hypervisor, Feature.ADOPT, 'have virtual machines wait, as factory = "cache" is to')
        self._templates, self._booting, self._hypervisor = templates, booting, hypervisor
        self._run_dir, self._uids, self._stage = run_dir, uids, stage
        self._stocks: list[Stock] = []
        self._starts = 0  # under way: what waits is made when none is
        self._changed = asyncio.Condition()
        self._telling: set[asyncio.Task[None]] = set()
        self._filler: asyncio.Task[None] | None = None

    async def boot(self, config: VmConfig, run_dir: Path, trace: Trace) -> vms.Vm:
        self._starts += 1
        try:
            vm = await self._taken(config, run_dir, trace)
            return vm or await self._templates.boot(config, run_dir, trace)
        finally:
            self._starts -= 1
            self._tell()

    async def init(self, wishes: Sequence[Wish]) -> None:
        before = {id(stock): stock for stock in self._stocks}
        stocks = []
        for wish in wishes:
            known = next((s for s in before.values() if s.wish.config == wish.config), None)
            stocks.append(before.pop(id(known)) if known else Stock(wish))
            stocks[-1].wish, stocks[-1].trouble = wish, Trouble()
        self._stocks = stocks
        surplus = [one for stock in before.values() for one in _beyond(stock, 0)]
        await self._discard(*surplus, *(one for stock in stocks for one in _beyond(stock, stock.wish.cache)))
        if self._filler is None:
            self._filler = asyncio.create_task(self._fill(), name="pool")
        await self._templates.init([wish for wish in wishes if not wish.cache])
        async with self._changed:
            self._changed.notify_all()
            await self._changed.wait_for(lambda: all(stock.settled for stock in self._stocks))

    def kept(self) -> Sequence[Kept]:
        return self._templates.kept()

    def pools(self) -> Sequence[Pool]:
        return [
            Pool(
                vcpus=stock.wish.config.vcpus,
                memory_mib=stock.wish.config.memory_mib,
                tenant=stock.wish.config.tenant,
                wanted=stock.wish.cache,
                waiting=len(stock.waiting),
                taken=stock.taken,
                poisoned=stock.poisoned,
                reason=stock.reason(),
            )
            for stock in self._stocks
        ]

    def troubles(self) -> Sequence[str]:
        mine = [f"no {_size(s.wish)} waits for a pod: {s.trouble.words()}" for s in self._stocks if s.trouble.failures]
        return [*mine, *self._templates.troubles()]

    async def clear(self) -> None:
        stocks, self._stocks = self._stocks, []
        await self._discard(*(one for stock in stocks for one in _beyond(stock, 0)))
        self._tell()
        await self._templates.clear()

    async def close(self) -> None:
        if self._filler:
            self._filler.cancel()
            await asyncio.gather(self._filler, return_exceptions=True)
            self._filler = None
        await self.clear()
        await self._templates.close()

    # Taking

    async def _taken(self, config: VmConfig, run_dir: Path, trace: Trace) -> vms.Vm | None:
        """One that waits, made the guest of `config`; None if none does."""
        if config.share or config.origin:
            return None
        key = shape(self._hypervisor, config)
        for stock in [s for s in self._stocks if s.waiting and self._makes(s, key) and _holds(s, config)]:
            while stock.waiting:
                one = stock.waiting.popleft()
                if one.shape != key:  # it is of a kernel or a VMM that was replaced
                    await self._discard(one)
                    continue
                with trace.step("claim"):  # one try: where one is of no use the next may not be either
                    if await self._answers(stock, one) and await self._adopted(stock, one, config, run_dir):
                        return one.vm
                return None
        return None

    def _makes(self, stock: Stock, key: Shape) -> bool:
        try:
            return self._shape(stock.wish) == key
        except OSError:  # its kernel is gone
            return False

    async def _answers(self, stock: Stock, one: Waiting) -> bool:
        """If not, or whatever is raised, nothing of it is left."""
        try:
            await one.vm.agent.ping(timeout_s=ANSWER_S)
        except BaseException as e:
            await self._useless(stock, one, e)
            return False
        return True

    async def _adopted(self, stock: Stock, one: Waiting, config: VmConfig, run_dir: Path) -> bool:
        """The same. No other one is tried then: what failed may be what it was to become."""
        guest = one.vm.guest
        assert isinstance(guest, Adoptable)  # noqa: S101  asked at the beginning
        try:
            await guest.adopt(config, run_dir)
        except BaseException as e:
            await self._useless(stock, one, e)
            return False
        one.watch.cancel()
        stock.taken += 1
        stock.trouble = Trouble()
        return True

    async def _useless(self, stock: Stock, one: Waiting, why: BaseException) -> None:
        """Throw it away; raise what is no failure of a guest's."""
        await self._discard(one)
        if not isinstance(why, HyperError):
            raise why
        stock.poisoned += 1
        log.warning("a guest that waited is of no use, it was thrown away: %s", why)

    # Filling

    async def _fill(self) -> None:
        """Until it is cancelled, also where what fails in the wake of that hides the cancellation."""
        while not (task := asyncio.current_task()) or not task.cancelling():
            await self._needed()
            await asyncio.sleep(QUIET_S)
            for stock in [s for s in self._stocks if s.due and not self._starts][:1]:
                stock.making = True
                try:
                    await self._add(stock)
                finally:
                    stock.making = False
                self._tell()

    async def _needed(self) -> None:
        """Until one is to be made, and no start is under way."""
        async with self._changed:
            await self._changed.wait_for(lambda: any(s.due for s in self._stocks) and not self._starts)

    def _failed(self, stock: Stock, why: str) -> None:
        """It is due again later, and the filler is told then."""
        stock.trouble.failed(why)
        asyncio.get_running_loop().call_later(stock.trouble.left_s() + LATE_S, self._tell)

    async def _add(self, stock: Stock) -> None:
        try:
            one = await self._made(stock)
        except (HyperError, OSError) as e:  # OSError: no room for its folder, a kernel that is gone
            self._failed(stock, str(e))
            log.warning("cannot make a guest for the pool: %s", e)
            return
        stock.trouble = Trouble()
        if stock in self._stocks:
            stock.waiting.append(one)
        else:  # nobody wants it any more
            await self._discard(one)

    async def _made(self, stock: Stock) -> Waiting:
        self._run_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="waiting-", dir=self._run_dir))
        folder.chmod(0o711)  # the VMM's user passes through
        config = self._config(stock.wish)
        key = self._shape(stock.wish)
        async with AsyncExitStack() as undo:
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            factory: Factory = self._templates if stock.wish.template else self._booting
            vm = await factory.boot(config, folder, Timings())
            undo.push_async_callback(vm.guest.kill)
            undo.push_async_callback(vm.close)
            if self._stage:
                scene = folder / "stage"
                scene.mkdir(mode=0o700)
                undo.callback(shutil.rmtree, scene, ignore_errors=True)
                await rehearse(vm, await self._stage(scene), network=config.nic is not None)
                shutil.rmtree(scene)
            undo.pop_all()
        return Waiting(vm, key, folder, asyncio.create_task(self._watch(stock, vm), name="waiting"))

    def _config(self, wish: Wish) -> VmConfig:
        """A guest of its own user and tap, that is nobody's."""
        config = nobodys(wish.config)
        mine = {one.vm.guest.record.uid for stock in self._stocks for one in stock.waiting}
        uid = next(uid for uid in self._uids() if uid not in mine)
        nic = config.nic and replace(config.nic, tap=f"hyw{secrets.token_hex(4)}")
        return replace(config, name="waiting", uid=uid, nic=nic, background=True)

    def _shape(self, wish: Wish) -> Shape:
        return shape(self._hypervisor, wish.config)

    async def _watch(self, stock: Stock, vm: vms.Vm) -> None:
        cause = await vm.guest.wait()
        for one in [one for one in stock.waiting if one.vm is vm]:
            log.warning("a guest that waited has ended: %s", cause)
            stock.waiting.remove(one)
            stock.poisoned += 1
            self._failed(stock, f"one that waited has ended: {cause}")
            await self._discard(one)
        self._tell()

    def _tell(self) -> None:
        """Whoever waits for a change. Not waited for: a cancellation here would lose a guest that was just taken."""
        telling = asyncio.create_task(self._notify())
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _discard(self, *ones: Waiting) -> None:
        """To their end, whoever is cancelled: nobody else knows of them any more."""
        for one in ones:
            if one.watch is not asyncio.current_task():
                one.watch.cancel()
        await uninterrupted(all_of(*map(_end, ones)))


def _size(wish: Wish) -> str:
    return size(wish.config.vcpus, wish.config.memory_mib)


def _holds(stock: Stock, config: VmConfig) -> bool:
    """Its guests may write disks as large as that of `config`."""
    return config.disk_mib <= stock.wish.config.disk_mib


def _beyond(stock: Stock, keep: int) -> list[Waiting]:
    """Take out those that are too many."""
    return [stock.waiting.pop() for _ in range(keep, len(stock.waiting))]


async def _end(one: Waiting) -> None:
    await one.vm.close()
    try:
        await one.vm.guest.kill()
    except HyperError as e:
        log.error("a guest that waited is left for the next hyperd to remove: %s", e)
        return
    shutil.rmtree(one.folder, ignore_errors=True)
