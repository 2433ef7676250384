"""Guests that wait: they become whoever's comes first, are replaced, and never in the way of a start."""

import asyncio
import errno
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.agent.messages import DISK_STAGE
from hypercontainer.errors import Exhausted, GuestDied, HyperError
from hypercontainer.factory import cache, demand
from hypercontainer.factory.base import Factory, PoolSpec
from hypercontainer.factory.cache import CacheFactory
from hypercontainer.factory.direct import DirectFactory
from hypercontainer.factory.template import TemplateFactory
from hypercontainer.factory.trouble import LASTING
from hypercontainer.hypervisor.base import SNAPSHOT_MAC, Nic, SharedFolder, VmConfig
from hypercontainer.lib import memory
from hypercontainer.lib.trace import Timings, Trace
from hypercontainer.model.record import DiskRecord
from hypercontainer.testing.contract import FactoryContract, made
from hypercontainer.testing.fake_agent import FakeAgent
from hypercontainer.testing.fake_process import Refused
from hypercontainer.testing.fakes import FakeGuest, FakeHypervisor, FakeShare
from hypercontainer.vm import Vm

UID = 1000
EACH_KIB = 50 << 10  # of each guest
LIMIT_S = 30.0


@pytest.fixture
def room_kib() -> list[int]:
    """What guests may have of memory, for more to wait than are wanted at first."""
    return [0]


@pytest.fixture
async def factory(
    hypervisor: FakeHypervisor, room_kib: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[CacheFactory]:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    monkeypatch.setattr(memory, "pss_kib", lambda pid: EACH_KIB)
    folder, shares, scratches = tmp_path / "nobody", tmp_path / "nobodys shares", tmp_path / "nobodys scratches"
    shares.mkdir()
    scratches.mkdir()
    templates = TemplateFactory(hypervisor, folder, UID)

    def uids() -> Iterator[int]:
        return itertools.count(UID + 1)

    def share(name: str) -> FakeShare:
        return FakeShare(shares / name)

    async def scratch(name: str) -> Path:
        path = scratches / name
        path.write_text(name)
        return path

    direct = DirectFactory(hypervisor)
    factory = CacheFactory(
        templates, direct, hypervisor, folder, uids, share, room_kib=lambda: room_kib[0], scratch=scratch
    )
    yield factory
    await factory.close()
    assert list(folder.glob("*")) == list(shares.iterdir()) == list(scratches.iterdir()) == []


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def spec(config: VmConfig, cache: int = 1, *, template: bool = True) -> PoolSpec:
    return PoolSpec(config=replace(config, nics=[Nic(tap="", mac=SNAPSHOT_MAC)]), template=template, cache=cache)


def shared(config: VmConfig, share: FakeShare | None = None, **promised: Any) -> VmConfig:
    """With `share`; without, as those that wait for whoever has one."""
    folder, prepare = (share.root, share.prepare) if share else (Path(), None)
    return replace(config, share=SharedFolder(folder=folder, prepare=prepare, **promised))


def waiting(factory: Factory) -> list[int]:
    return [pool.waiting for pool in factory.pools()]


class TestEmptyCache(FactoryContract):
    """Without a pool it is what lies below it."""


class TestCache(FactoryContract):
    @pytest.fixture
    async def factory(self, factory: CacheFactory, config: VmConfig) -> CacheFactory:
        await factory.init([spec(config, 2)])
        return factory


class TestCacheOfBootedGuests(FactoryContract):
    @pytest.fixture
    async def factory(self, factory: CacheFactory, config: VmConfig) -> CacheFactory:
        await factory.init([spec(config, 2, template=False)])
        return factory


class TestCacheOfGuestsWithAShare(FactoryContract):
    @pytest.fixture
    async def factory(self, factory: CacheFactory, config: VmConfig) -> CacheFactory:
        await factory.init([spec(shared(config), 2)])
        return factory


async def test_one_that_waits_becomes_the_pods(
    factory: CacheFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path, tmp_path: Path
) -> None:
    await factory.init([spec(config)])
    before = len(hypervisor.booted)
    image = tmp_path / "image"
    image.touch()
    disk, timings = DiskRecord(target=0, path=str(image), read_only=True), Timings()
    async with made(factory, replace(config, disks=[disk]), run_dir, timings) as vm:
        assert len(hypervisor.booted) == before
        assert [step.name for step in timings.steps] == ["claim"]
        assert isinstance(vm.guest, FakeGuest)
        assert vm.guest.disks[0] == disk and vm.guest.disks[1].path == ""
        assert (vm.guest.config.nics, vm.guest.record.uid) == (config.nics, UID + 1)
        [pool] = factory.pools()
        assert (pool.wanted, pool.taken, pool.poisoned) == (1, 1, 0)
        await until(lambda: waiting(factory) == [1])


async def test_those_that_wait_have_users_and_taps_of_their_own(
    factory: CacheFactory, hypervisor: FakeHypervisor, config: VmConfig
) -> None:
    await factory.init([spec(config, 3)])
    _, *guests = hypervisor.booted
    assert len({guest.uid for guest in guests}) == len({guest.nics[0].tap for guest in guests}) == 3
    assert all(guest.nics[0].tap.startswith("hyw") for guest in guests)


@pytest.mark.parametrize(
    "change",
    [
        {"memory_mib": 256},
        {"vcpus": 2},
        {"nics": ()},
        {"tenant": "acme"},
        {"disk_mib": 1 << 20},
        {"share": SharedFolder(folder=Path("/"))},
    ],
)
async def test_another_shape_is_not_taken_from_them(
    factory: CacheFactory, config: VmConfig, run_dir: Path, change: dict[str, object]
) -> None:
    await factory.init([spec(config)])
    async with made(factory, replace(config, **change), run_dir):  # type: ignore[arg-type]
        assert waiting(factory) == [1]


async def test_what_it_has_served_is_what_the_pod_shares(
    factory: CacheFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path, share: FakeShare
) -> None:
    await factory.init([spec(shared(config))])
    [guest] = hypervisor.alive
    assert guest.config.share
    served = guest.config.share.folder.stat().st_ino
    async with made(factory, shared(config, share), run_dir) as vm:
        assert vm.guest is guest
        assert share.root.stat().st_ino == served
        [pool] = factory.pools()
        assert (pool.share, pool.taken, pool.poisoned) == (True, 1, 0)
        await until(lambda: waiting(factory) == [1])


async def test_those_with_a_share_wait_for_nobody_else(
    factory: CacheFactory, config: VmConfig, run_dir: Path, share: FakeShare
) -> None:
    await factory.init([spec(shared(config))])
    promises: list[dict[str, Any]] = [{"host_locks": True}, {"cache_s": 1.0}, {"keep": True}]
    others = [shared(config, share, **promised) for promised in promises]
    for asked in (config, *others, replace(shared(config, share), tenant="acme")):
        async with made(factory, asked, run_dir):
            assert waiting(factory) == [1]
        share.clear()


async def test_of_two_pools_of_a_size_each_pod_is_given_one_of_its_own(
    factory: CacheFactory, config: VmConfig, run_dir: Path, share: FakeShare
) -> None:
    await factory.init([spec(config), spec(shared(config))])
    async with made(factory, shared(config, share), run_dir):
        assert [pool.taken for pool in factory.pools()] == [0, 1]
    async with made(factory, config, run_dir):
        assert [pool.taken for pool in factory.pools()] == [1, 1]


async def test_the_share_of_one_that_cannot_be_taken_is_there_for_the_next(
    factory: CacheFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path, share: FakeShare,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    await factory.init([spec(shared(config))])
    [first] = hypervisor.alive

    async def die(config: VmConfig, run_dir: Path) -> None:
        raise GuestDied("the virtual machine ended: killed by signal 9")

    monkeypatch.setattr(first, "adopt", die)
    async with made(factory, shared(config, share), run_dir) as vm:
        assert vm.guest is not first and not first.alive
        assert share.root.is_dir()


def with_scratch(config: VmConfig, folder: Path, *, new: bool) -> VmConfig:
    path = folder / "scratch.img"
    path.write_text("the pod's")
    return replace(config, disks=[DiskRecord(target=1, path=str(path), read_only=False)], new_scratch=new)


async def test_the_disk_that_it_has_mounted_is_the_new_one_of_the_pod(
    factory: CacheFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path, tmp_path: Path
) -> None:
    await factory.init([spec(config)])
    [guest] = hypervisor.alive
    name = Path(guest.record.run_dir).name
    assert (guest.agent.staged, Path(guest.disks[1].path).name) == (1, name)
    before = guest.disks[1]
    async with made(factory, with_scratch(config, tmp_path, new=True), run_dir) as vm:
        assert vm.guest is guest
        assert (guest.agent.staged, guest.disks[1]) == (1, before)  # it stays as it is
        assert (tmp_path / "scratch.img").read_text() == name
        await until(lambda: waiting(factory) == [1])
    assert (tmp_path / "scratch.img").exists()


@pytest.mark.parametrize("disk", [True, False])
async def test_the_disk_that_it_has_mounted_makes_way_for_one_that_is_not_new_or_for_none(
    factory: CacheFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path, tmp_path: Path, disk: bool
) -> None:
    await factory.init([spec(config)])
    [guest] = hypervisor.alive
    mounted = Path(guest.disks[1].path)
    asked = with_scratch(config, tmp_path, new=False) if disk else config
    async with made(factory, asked, run_dir) as vm:
        assert vm.guest is guest
        assert guest.agent.staged is None and not mounted.exists()
        assert guest.disks[1].path == (str(tmp_path / "scratch.img") if disk else "")
        assert (tmp_path / "scratch.img").exists() == disk


async def test_one_with_a_share_has_mounted_none(
    factory: CacheFactory, hypervisor: FakeHypervisor, config: VmConfig, tmp_path: Path
) -> None:
    await factory.init([spec(shared(config))])
    [guest] = hypervisor.alive
    assert guest.agent.staged is None and list((tmp_path / "nobodys scratches").iterdir()) == []


async def test_a_pod_has_its_disk_though_the_guest_that_had_mounted_it_is_of_no_use(
    factory: CacheFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    await factory.init([spec(config)])
    [first] = hypervisor.alive

    async def die(config: VmConfig, run_dir: Path) -> None:
        raise GuestDied("the virtual machine ended: killed by signal 9")

    monkeypatch.setattr(first, "adopt", die)
    asked = with_scratch(config, tmp_path, new=True)
    async with made(factory, asked, run_dir) as vm:
        assert isinstance(vm.guest, FakeGuest) and vm.guest is not first
        assert vm.guest.disks[1] == asked.disks[0] and (tmp_path / "scratch.img").exists()


async def test_one_that_does_not_let_go_of_its_disk_is_thrown_away(
    factory: CacheFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path, tmp_path: Path
) -> None:
    await factory.init([spec(config)])
    [first] = hypervisor.alive

    def busy(args: dict[str, object]) -> object:
        raise Refused(errno.EBUSY, "unmount /run/hyper/scratch")

    first.agent.answers["disk.stage"] = busy
    async with made(factory, with_scratch(config, tmp_path, new=False), run_dir) as vm:
        assert vm.guest is not first and not first.alive
        assert (tmp_path / "scratch.img").read_text() == "the pod's"


async def test_one_that_has_not_learnt_to_waits_without_a_disk(
    factory: CacheFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path, tmp_path: Path
) -> None:
    def older() -> FakeAgent:
        agent = FakeAgent()
        agent.features.remove(DISK_STAGE.word)
        return agent

    hypervisor.make_agent = older
    await factory.init([spec(config)])
    assert list((tmp_path / "nobodys scratches").iterdir()) == []
    async with made(factory, with_scratch(config, tmp_path, new=True), run_dir) as vm:
        assert isinstance(vm.guest, FakeGuest) and vm.guest.disks[1].path == str(tmp_path / "scratch.img")
        assert (tmp_path / "scratch.img").read_text() == "the pod's"


async def test_none_waits_that_has_no_disk_for_want_of_room(
    factory: CacheFactory, hypervisor: FakeHypervisor, config: VmConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(name: str) -> Path:
        raise Exhausted("create scratch disk: no space left on device")

    monkeypatch.setattr(factory, "_scratch", full)
    task = asyncio.create_task(factory.init([spec(config)]))
    await until(lambda: bool(factory.troubles()))
    assert "no space left" in factory.troubles()[0] and hypervisor.alive == []
    monkeypatch.undo()
    await task
    await until(lambda: waiting(factory) == [1])


async def test_one_that_died_is_counted_and_replaced(
    factory: CacheFactory, hypervisor: FakeHypervisor, config: VmConfig
) -> None:
    await factory.init([spec(config)])
    [guest] = hypervisor.alive
    await guest.die("killed by signal 9")
    await until(lambda: factory.pools()[0].poisoned == 1 and waiting(factory) == [1])


async def test_one_that_does_not_answer_is_thrown_away_at_the_claim(
    factory: CacheFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    await factory.init([spec(config, 2)])
    hypervisor.alive[0].agent.unanswered.add("ping")
    async with made(factory, config, run_dir) as vm:
        await vm.agent.ping()
        [pool] = factory.pools()
        assert (pool.taken, pool.poisoned, pool.waiting) == (0, 1, 1)  # one second is lost, not one for each
        assert len(hypervisor.alive) == 2  # the wedged one is gone


async def test_one_that_dies_as_it_is_taken_is_in_nobodys_way(
    factory: CacheFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await factory.init([spec(config, 2)])
    first, second = hypervisor.alive

    async def die(config: VmConfig, run_dir: Path) -> None:
        raise GuestDied("the virtual machine ended: killed by signal 9")

    monkeypatch.setattr(first, "adopt", die)
    async with made(factory, config, run_dir) as vm:
        await vm.agent.ping()
        [pool] = factory.pools()
        assert (pool.taken, pool.poisoned) == (0, 1)
        assert second.alive and vm.guest is not second  # what failed may be the pod's: it costs one of them
    assert not first.alive


async def test_pools_that_change_twice_leave_nobody_behind(
    factory: CacheFactory, hypervisor: FakeHypervisor, config: VmConfig
) -> None:
    await factory.init([spec(config, 3)])
    first = asyncio.create_task(factory.init([]))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert hypervisor.alive == []


async def test_a_folder_that_cannot_be_made_does_not_end_the_pool(
    factory: CacheFactory, config: VmConfig, tmp_path: Path
) -> None:
    (tmp_path / "nobody").touch()
    async with asyncio.timeout(LIMIT_S):
        await factory.init([spec(config)])
        assert waiting(factory) == [0]
        (tmp_path / "nobody").unlink()
        await factory.init([spec(config)])
    assert waiting(factory) == [1]


async def test_those_of_an_old_vmm_are_never_taken(
    factory: CacheFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    await factory.init([spec(config, 2)])
    old = set(map(id, hypervisor.alive))
    hypervisor.program = "7.2.99"
    async with made(factory, config, run_dir) as vm:
        assert id(vm.guest) not in old
        await until(lambda: waiting(factory) == [2])
        assert not old.intersection(map(id, hypervisor.alive))


async def test_pools_that_changed_are_what_is_there(
    factory: CacheFactory, hypervisor: FakeHypervisor, config: VmConfig
) -> None:
    big = replace(config, memory_mib=512)
    await factory.init([spec(config, 3), spec(big, 1)])
    kept = hypervisor.alive
    await factory.init([spec(config, 1)])
    assert waiting(factory) == [1] and hypervisor.alive[0] in kept
    await factory.init([])
    assert (factory.pools(), hypervisor.alive) == ([], [])


async def test_a_pool_of_a_template_alone(factory: CacheFactory, hypervisor: FakeHypervisor, config: VmConfig) -> None:
    await factory.init([spec(config, 0)])
    assert [info.memory_mib for info in factory.templates()] == [128]
    assert hypervisor.alive == []


async def test_what_failed_is_tried_again_until_it_is_there(
    factory: CacheFactory, hypervisor: FakeHypervisor, config: VmConfig
) -> None:
    hypervisor.fail = "no memory"
    async with asyncio.timeout(LIMIT_S):
        await factory.init([spec(config)])
    [pool] = factory.pools()
    assert pool.waiting == 0 and "no memory" in pool.reason and "times in a row, tried again" in pool.reason
    assert any("no memory" in line and "128 MiB" in line for line in factory.troubles())
    await until(lambda: factory._pools[0].trouble.failures > LASTING)
    hypervisor.fail = ""
    await until(lambda: waiting(factory) == [1])  # nobody asked for it again
    assert factory.pools()[0].reason == "" and not [line for line in factory.troubles() if "waits" in line]


async def test_starts_go_on_where_nothing_can_be_made(
    factory: CacheFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    hypervisor.fail = "no memory"
    async with asyncio.timeout(LIMIT_S):
        await factory.init([spec(config)])
    assert waiting(factory) == [0]
    hypervisor.fail = ""
    async with made(factory, config, run_dir) as vm:
        await vm.agent.ping()
    await factory.init([spec(config)])  # asked again, it is tried again
    assert waiting(factory) == [1]


async def test_nothing_is_left_of_a_claim_that_failed(
    factory: CacheFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    await factory.init([spec(config)])
    missing = replace(config, disks=[DiskRecord(target=0, path="/no/such", read_only=True)])
    with pytest.raises(HyperError, match="/no/such"):
        await factory.boot(missing, run_dir, Timings())
    assert hypervisor.alive == []
    await until(lambda: waiting(factory) == [1])


async def test_all_of_it_is_let_go(factory: CacheFactory, hypervisor: FakeHypervisor, config: VmConfig) -> None:
    await factory.init([spec(config, 2)])
    await factory.clear()
    assert (factory.pools(), factory.templates(), hypervisor.alive) == ([], [], [])


async def test_the_end_comes_while_one_is_made(
    factory: CacheFactory, hypervisor: FakeHypervisor, config: VmConfig, tmp_path: Path
) -> None:
    task = asyncio.create_task(factory.init([spec(config, LASTING)]))
    await until(lambda: bool(list((tmp_path / "nobody").glob("waiting-*"))))
    await factory.close()
    assert hypervisor.alive == []
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_one_in_the_making_is_not_lost_between_two_changes(
    factory: CacheFactory, hypervisor: FakeHypervisor, config: VmConfig, tmp_path: Path
) -> None:
    """The second pool is the same as the first, and so is what there is of it: nothing yet."""
    first = asyncio.create_task(factory.init([spec(config)]))
    await until(lambda: bool(list((tmp_path / "nobody").glob("waiting-*"))))
    await factory.clear()
    await factory.init([spec(config)])
    await first
    assert waiting(factory) == [1]
    await until(lambda: len(hypervisor.alive) == 1)


class Stubborn(DirectFactory):
    """Its guests are never done, and what is made of one cannot be taken back."""

    def __init__(self, hypervisor: FakeHypervisor) -> None:
        super().__init__(hypervisor)
        self.begun = asyncio.Event()

    async def boot(self, config: VmConfig, run_dir: Path, trace: Trace) -> Vm:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise HyperError("the disk is in use")


async def test_it_ends_though_what_is_in_the_making_cannot_be_taken_back(
    hypervisor: FakeHypervisor, config: VmConfig, tmp_path: Path
) -> None:
    booting = Stubborn(hypervisor)
    templates = TemplateFactory(hypervisor, tmp_path / "nobody", UID)
    uids = itertools.count(UID + 1)

    def share(name: str) -> FakeShare:
        return FakeShare(tmp_path / name)

    factory = CacheFactory(templates, booting, hypervisor, tmp_path / "nobody", lambda: uids, share)
    filling = asyncio.create_task(factory.init([spec(config, template=False)]))
    async with asyncio.timeout(LIMIT_S):
        await booting.begun.wait()
        await factory.close()
    filling.cancel()
    await asyncio.gather(filling, return_exceptions=True)


async def starts(factory: CacheFactory, config: VmConfig, folder: Path, count: int) -> None:
    """So many guests one after the other, before any other is made."""
    for number in range(count):
        place = folder / f"{count}-{number}"
        place.mkdir()
        async with made(factory, config, place):
            pass


@pytest.mark.parametrize(("room", "wait"), [(0, 1), (3 * EACH_KIB, 3), (3 * EACH_KIB - 1, 2), (100 * EACH_KIB, 8)])
async def test_as_many_wait_as_were_needed_and_have_room(
    factory: CacheFactory, config: VmConfig, room_kib: list[int], tmp_path: Path, room: int, wait: int
) -> None:
    await factory.init([spec(config)])
    room_kib[0] = room
    await starts(factory, config, tmp_path, 8)
    await until(lambda: waiting(factory) == [wait])
    [pool] = factory.pools()
    assert (pool.wanted, pool.reason) == (wait, "")


async def test_no_more_wait_than_were_needed_lately(
    factory: CacheFactory, config: VmConfig, room_kib: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "REVIEW_S", 0.01)
    await factory.init([spec(config)])
    room_kib[0] = 100 * EACH_KIB
    await starts(factory, config, tmp_path, 5)
    await until(lambda: waiting(factory) == [5])
    monkeypatch.setattr(demand, "KEPT_S", 0.0)
    await until(lambda: waiting(factory) == [1])


async def test_where_no_pool_is_wanted_none_is_learned(
    factory: CacheFactory, config: VmConfig, room_kib: list[int], tmp_path: Path
) -> None:
    await factory.init([spec(config, 0)])
    room_kib[0] = 100 * EACH_KIB
    await starts(factory, config, tmp_path, 5)
    assert [(pool.wanted, pool.waiting) for pool in factory.pools()] == [(0, 0)]


async def test_what_a_pool_is_to_have_comes_before_what_another_needed(
    factory: CacheFactory, config: VmConfig, room_kib: list[int], tmp_path: Path
) -> None:
    await factory.init([spec(config)])
    room_kib[0] = 100 * EACH_KIB
    await starts(factory, config, tmp_path, 8)
    other = replace(config, memory_mib=256)
    await factory.init([spec(config), spec(other)])  # returns when both have what they are to have
    assert all(waiting(factory)) and waiting(factory) != [8, 1]
    await until(lambda: waiting(factory) == [8, 1])


class Held(TemplateFactory):
    """Starts of pods wait for `go`."""

    go = asyncio.Event()

    async def boot(self, config: VmConfig, run_dir: Path, trace: Trace) -> Vm:
        if not config.background:
            await self.go.wait()
        return await super().boot(config, run_dir, trace)


@pytest.mark.parametrize(("processors", "beside"), [(1, False), (2, False), (4, True)])
async def test_guests_are_made_beside_a_start_where_processors_are_free(
    hypervisor: FakeHypervisor, config: VmConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    processors: int, beside: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(processors)))
    monkeypatch.setattr(cache, "QUIET_S", 0.0)
    monkeypatch.setattr(Held, "go", asyncio.Event())
    uids, folder = itertools.count(UID + 1), tmp_path / "nobody"

    def share(name: str) -> FakeShare:
        return FakeShare(tmp_path / name)

    factory = CacheFactory(
        Held(hypervisor, folder, UID), DirectFactory(hypervisor), hypervisor, folder, lambda: uids, share
    )
    await factory.init([spec(config)])
    (tmp_path / "held").mkdir()
    (tmp_path / "quick").mkdir()
    held = asyncio.create_task(factory.boot(replace(config, memory_mib=256), tmp_path / "held", Timings()))
    async with made(factory, config, tmp_path / "quick"):
        if beside:
            await until(lambda: waiting(factory) == [1])
        else:
            for _ in range(1000):
                await asyncio.sleep(0)
            assert waiting(factory) == [0]
        assert not held.done()
        Held.go.set()
        vm = await held
        await until(lambda: waiting(factory) == [1])
    await vm.close()
    await vm.guest.kill()
    await factory.close()
