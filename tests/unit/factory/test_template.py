"""Templates: made once for each shape, used by all of it, and never in the way of a start."""

import asyncio
import errno
import fcntl
import gc
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hypercontainer.errors import GuestDied, GuestSilent
from hypercontainer.factory.base import EMPTY, PoolSpec, Roots
from hypercontainer.factory.direct import DirectFactory
from hypercontainer.factory.sealed import SealedFile
from hypercontainer.factory.template import KEPT, KEPT_IN_ALL, TemplateFactory
from hypercontainer.factory.trouble import LASTING, Trouble
from hypercontainer.hypervisor.base import SNAPSHOT_MAC, Feature, Nic, SharedFolder, VmConfig
from hypercontainer.lib.trace import Timings
from hypercontainer.testing.contract import FactoryContract, made
from hypercontainer.testing.fakes import FakeAgent, FakeHypervisor, Refused

UID = 77


@pytest.fixture
async def factory(hypervisor: FakeHypervisor, tmp_path: Path) -> AsyncIterator[TemplateFactory]:
    files = len(os.listdir("/proc/self/fd"))
    factory = TemplateFactory(hypervisor, tmp_path / "templates", UID)
    yield factory
    await factory.close()
    assert list((tmp_path / "templates").glob("*")) == []
    gc.collect()  # errors hold on to what was there when they were raised
    assert len(os.listdir("/proc/self/fd")) <= files


class TestTemplateFactory(FactoryContract):
    pass


class TestDirectFactory(FactoryContract):
    @pytest.fixture
    def factory(self, hypervisor: FakeHypervisor) -> DirectFactory:
        return DirectFactory(hypervisor)


def originals(hypervisor: FakeHypervisor) -> int:
    """How many templates were booted."""
    return sum(config.memory is not None for config in hypervisor.booted)


async def test_the_first_guest_of_a_shape_makes_its_template_and_all_are_clones(
    factory: TemplateFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    async with made(factory, config, run_dir):
        pass
    async with made(factory, replace(config, name="db", uid=2, nics=[Nic(tap="hy1", mac="02:…")]), run_dir):
        pass
    original, *clones = hypervisor.booted
    assert (original.memory is None, original.origin, original.uid, original.disks) == (False, None, UID, EMPTY)
    assert original.nics == [Nic(tap="", mac=SNAPSHOT_MAC)]
    assert [clone.origin is not None for clone in clones] == [True, True]
    assert [(clone.name, clone.uid) for clone in clones] == [("web", 1), ("db", 2)]


async def test_who_cannot_be_cloned_is_booted(
    factory: TemplateFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    hypervisor.lacking[config.arch] = {Feature.SNAPSHOT: "machine, which is not saved"}
    await factory.init([PoolSpec(config=config, template=True, cache=0)])
    async with made(factory, config, run_dir):
        assert [(each.memory, each.origin) for each in hypervisor.booted] == [(None, None)]
    assert (factory.templates(), factory.troubles()) == ([], [])


async def test_the_steps_of_a_start_are_told(factory: TemplateFactory, config: VmConfig, run_dir: Path) -> None:
    first, second = Timings(), Timings()
    for timings in (first, second):
        async with made(factory, config, run_dir, timings):
            pass
    assert [step.name for step in first.steps] == ["template", "vmm", "agent"]
    assert [step.name for step in second.steps] == ["vmm", "agent"]


@pytest.mark.parametrize("change", [{"memory_mib": 256}, {"vcpus": 2}, {"kernel": Path("other")}, {"nics": ()}])
async def test_another_shape_has_another_template(
    factory: TemplateFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path, change: dict[str, object]
) -> None:
    for one in (config, replace(config, **change), config):  # type: ignore[arg-type]
        async with made(factory, one, run_dir):
            pass
    assert originals(hypervisor) == 2


async def test_an_upgraded_vmm_never_goes_on_from_the_old_ones_template(
    factory: TemplateFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    for program in ("7.2.21", "7.2.22"):
        hypervisor.program = program
        async with made(factory, config, run_dir):
            pass
    assert originals(hypervisor) == 2


async def test_what_is_kept_is_told_and_let_go(
    factory: TemplateFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    for _ in range(2):
        async with made(factory, config, run_dir):
            pass
    (kept,) = factory.templates()
    assert (kept.vcpus, kept.memory_mib, kept.network, kept.clones) == (1, 128, True, 2)
    assert kept.size > 0
    await factory.clear()
    assert factory.templates() == []
    async with made(factory, config, run_dir):
        assert originals(hypervisor) == 2


async def test_guests_at_once_wait_for_one_template(
    factory: TemplateFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    folders = [run_dir / str(n) for n in range(5)]
    for folder in folders:
        folder.mkdir()
    guests = await asyncio.gather(*(factory.boot(config, folder, Timings()) for folder in folders))
    assert originals(hypervisor) == 1
    for vm in guests:
        await vm.close()
        await vm.guest.kill()


async def test_more_shapes_at_once_than_are_kept_all_get_their_guests(
    factory: TemplateFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    sizes = [128 + n for n in range(2 * KEPT)]
    for size in sizes:
        (run_dir / str(size)).mkdir()
    starts = (factory.boot(replace(config, memory_mib=size), run_dir / str(size), Timings()) for size in sizes)
    for vm in await asyncio.gather(*starts):
        await vm.close()
        await vm.guest.kill()
    assert originals(hypervisor) == len(sizes)
    async with made(factory, replace(config, memory_mib=sizes[-1]), run_dir):  # of those used last
        assert originals(hypervisor) == len(sizes)


async def test_tenants_have_templates_of_their_own(
    factory: TemplateFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    for tenant, templates in (("acme", 1), ("", 2), ("acme", 2), ("zeta", 3)):
        async with made(factory, replace(config, tenant=tenant), run_dir):
            assert originals(hypervisor) == templates
    assert [(kept.tenant, kept.clones) for kept in factory.templates()] == [("", 1), ("acme", 2), ("zeta", 1)]


async def test_who_wants_many_templates_costs_nobody_else_the_last_one(
    factory: TemplateFactory, config: VmConfig
) -> None:
    others = [f"t{n}" for n in range(KEPT_IN_ALL - 2)]
    for tenant in others:
        await factory.make(replace(config, tenant=tenant))
    for n in range(2 * KEPT):
        await factory.make(replace(config, tenant="greedy", memory_mib=256 + n))
    kept = [one.tenant for one in factory.templates()]
    assert len(kept) == KEPT_IN_ALL and kept.count("greedy") == 2 and set(others) < set(kept)
    for n in range(2):  # there is room for no more tenants: who has most gives way, then who used his the longest ago
        await factory.make(replace(config, tenant=f"new{n}"))
    kept = [one.tenant for one in factory.templates()]
    assert len(kept) == KEPT_IN_ALL and "greedy" in kept and "t0" not in kept


async def test_a_tenant_keeps_those_used_last(factory: TemplateFactory, config: VmConfig) -> None:
    for n in range(KEPT + 2):
        await factory.make(replace(config, tenant="acme", memory_mib=256 + n))
    assert [kept.memory_mib for kept in factory.templates()] == [256 + n for n in range(2, KEPT + 2)]


async def test_guests_that_share_folders_have_the_template_of_those_that_do_not(
    factory: TemplateFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path, tmp_path: Path
) -> None:
    for share in (SharedFolder(folder=tmp_path), None):
        async with made(factory, replace(config, share=share), run_dir):
            assert (hypervisor.booted[0].share, hypervisor.booted[-1].share) == (None, share)
            assert hypervisor.booted[-1].origin
    assert originals(hypervisor) == 1


async def test_a_template_that_clones_badly_is_thrown_away_and_the_guest_booted(
    factory: TemplateFactory,
    hypervisor: FakeHypervisor,
    config: VmConfig,
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hypervisor.fail_clones = "qemu: load of migration failed"
    for attempt in range(1, LASTING + 1):
        async with made(factory, config, run_dir) as vm:
            await vm.agent.ping()
        assert originals(hypervisor) == attempt
    async with made(factory, config, run_dir):
        assert originals(hypervisor) == LASTING  # not now: it only costs time
    [line] = factory.troubles()
    assert "128 MiB" in line and "load of migration failed" in line
    hypervisor.fail_clones = ""
    monkeypatch.setattr(Trouble, "left_s", lambda self: 0.0)  # the time has come
    async with made(factory, config, run_dir):
        assert hypervisor.booted[-1].origin is not None
    assert factory.troubles() == []


async def test_a_clone_that_is_silent_is_an_error_and_its_template_thrown_away(
    factory: TemplateFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    async with made(factory, config, run_dir):
        pass
    make, hypervisor.make_agent = hypervisor.make_agent, mute
    with pytest.raises(GuestSilent):
        await factory.boot(replace(config, boot_timeout_s=0.1), run_dir, Timings())
    assert factory.templates() == []
    hypervisor.make_agent = make
    async with made(factory, config, run_dir):
        assert originals(hypervisor) == 2


async def test_a_first_guest_that_falls_silent_is_followed_by_another(
    factory: TemplateFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    make, agents = hypervisor.make_agent, iter([mute])
    hypervisor.make_agent = lambda: next(agents, make)()
    async with made(factory, replace(config, boot_timeout_s=2.0), run_dir):
        assert hypervisor.booted[-1].origin is not None
        assert originals(hypervisor) == 2
    assert factory.troubles() == []


def mute() -> FakeAgent:
    agent = FakeAgent()
    agent.muted = True
    return agent


async def test_many_clones_of_one_bad_template_count_as_one_failure(
    factory: TemplateFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    async with made(factory, config, run_dir):
        pass
    folders = [run_dir / str(n) for n in range(LASTING + 1)]
    for folder in folders:
        folder.mkdir()
    hypervisor.fail_clones = "all of them at once"
    for vm in await asyncio.gather(*(factory.boot(config, folder, Timings()) for folder in folders)):
        await vm.close()
        await vm.guest.kill()
    hypervisor.fail_clones = ""
    async with made(factory, config, folders[0]):
        assert hypervisor.booted[-1].origin is not None


async def test_a_full_disk_spoils_no_shape_for_good(
    hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path, tmp_path: Path
) -> None:
    async def roots(arch: str, folder: Path) -> Roots:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    factory = TemplateFactory(hypervisor, tmp_path / "templates", UID, roots)
    for _ in range(2):  # each is tried, and booted
        async with made(factory, config, run_dir) as vm:
            await vm.agent.ping()
    assert len(hypervisor.booted) == 4
    assert factory.templates() == []
    await factory.close()


async def test_a_success_forgives_failures(
    factory: TemplateFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    for words in ("once", "", "again", "", "and again", ""):
        hypervisor.fail_clones = words
        async with made(factory, config, run_dir):
            pass
    assert hypervisor.booted[-1].origin is not None


async def test_when_nothing_boots_it_is_said_why(
    factory: TemplateFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    hypervisor.fail = "guest kernel panic"
    with pytest.raises(GuestDied, match="guest kernel panic"):
        await factory.boot(config, run_dir, Timings())
    assert list(run_dir.iterdir()) == []


async def test_the_end_of_the_factory_ends_a_template_in_the_making(
    factory: TemplateFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path, tmp_path: Path
) -> None:
    start = asyncio.create_task(factory.boot(config, run_dir, Timings()))
    while not list((tmp_path / "templates").glob("template-*")):  # noqa: ASYNC110
        await asyncio.sleep(0)
    await factory.close()
    assert list((tmp_path / "templates").iterdir()) == []
    vm = await start  # whoever asked for it has a guest all the same
    await vm.close()
    await vm.guest.kill()


async def test_the_end_of_the_factory_waits_for_what_is_left_of_a_template(
    factory: TemplateFactory,
    hypervisor: FakeHypervisor,
    config: VmConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reaping, reaped = asyncio.Event(), asyncio.Event()
    reap = hypervisor.reap

    async def late(run_dir: Path) -> None:
        reaping.set()
        await reaped.wait()
        await reap(run_dir)

    monkeypatch.setattr(hypervisor, "reap", late)
    making = asyncio.create_task(factory.make(config))
    await reaping.wait()
    end = asyncio.create_task(factory.close())
    await asyncio.sleep(0)
    reaped.set()
    await end
    assert list((tmp_path / "templates").iterdir()) == []
    await asyncio.gather(making, return_exceptions=True)


# Sealed files


def test_a_sealed_file_cannot_be_changed_by_anyone() -> None:
    file = SealedFile("x", 8192)
    os.pwrite(file.fileno(), b"before", 0)
    file.seal()
    with open(f"/proc/self/fd/{file.fileno()}", "r+b", buffering=0) as again:
        changes: list[Callable[[], object]] = [
            lambda: again.write(b"after"),
            lambda: again.truncate(0),
            lambda: again.truncate(9000),
        ]
        for change in changes:
            with pytest.raises(PermissionError):
                change()
        with pytest.raises(PermissionError):
            fcntl.fcntl(again, fcntl.F_ADD_SEALS, 0)
    assert os.pread(file.fileno(), 6, 0) == b"before"


def test_a_file_is_closed_with_its_last_reference() -> None:
    file = SealedFile("x", 0)
    fd = file.fileno()
    os.fstat(fd)
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


# Larger guests


async def test_who_wants_more_does_not_wait_for_a_template_of_that_size(
    factory: TemplateFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    async with made(factory, config, run_dir):
        pass
    large, timings = replace(config, vcpus=2, memory_mib=512), Timings()
    async with made(factory, large, run_dir, timings) as vm:
        size = await vm.guest.size()
        assert (size.vcpus, size.memory_mib, size.added_mib) == (2, 512, 384)
        assert [step.name for step in timings.steps] == ["vmm", "agent", "resize"]
    await factory.make(large)  # it was being made meanwhile
    async with made(factory, large, run_dir) as vm:
        assert (await vm.guest.size()).added_mib == 0
    assert originals(hypervisor) == 2


@pytest.mark.parametrize("change", [{"memory_mib": 64}, {"nics": ()}, {"tenant": "other"}, {"kernel": Path("other")}])
async def test_a_template_that_lacks_something_else_is_no_beginning(
    factory: TemplateFactory, config: VmConfig, run_dir: Path, change: dict[str, object]
) -> None:
    async with made(factory, config, run_dir):
        pass
    timings = Timings()
    async with made(factory, replace(config, **change), run_dir, timings):  # type: ignore[arg-type]
        assert [step.name for step in timings.steps] == ["template", "vmm", "agent"]


async def test_a_guest_that_does_not_grow_is_booted(
    factory: TemplateFactory, hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path
) -> None:
    async with made(factory, config, run_dir):
        pass
    hypervisor.make_agent = stunted
    large = replace(config, memory_mib=512)
    async with made(factory, large, run_dir) as vm:
        assert hypervisor.booted[-1].origin is None
        assert (await vm.guest.size()).added_mib == 0


def stunted() -> FakeAgent:
    def refuse(args: dict[str, object]) -> object:
        raise Refused(12, "add memory: no room")

    agent = FakeAgent()
    agent.answers["pod.resize"] = refuse
    return agent
