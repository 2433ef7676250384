"""Kinds of root file systems in fake guests: the contract, and what is asked of whom."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hypercontainer.agent import messages as m
from hypercontainer.errors import GuestTooOld, InvalidInput, NotFound, Unsupported, WrongState
from hypercontainer.hypervisor.base import Feature
from hypercontainer.model.bundle import Disk
from hypercontainer.model.record import FolderRootfsRecord, PodRecord, RootfsRecord
from hypercontainer.sandbox import archive, rootfs
from hypercontainer.sandbox.snapshot import capture
from hypercontainer.storage import scratch
from hypercontainer.testing import rootfs_contract as contract
from hypercontainer.testing.fake_agent import FakeAgent
from hypercontainer.testing.fake_rootfs import FakeRoots
from hypercontainer.testing.fakes import FakeHypervisor
from hypercontainer.testing.rootfs_contract import CONTENT, Root, RootfsContract, run, running, start
from tests.unit.sandbox.lonely import Household, Lot

MOUNTS = pytest.mark.skipif(os.geteuid() != 0, reason="mounts")


@pytest.fixture
async def lot(tmp_path: Path) -> AsyncIterator[Lot]:
    lot = Lot(tmp_path)
    FakeRoots(lot.hypervisor)
    yield lot
    for guest in lot.hypervisor.alive:
        await guest.kill()


@pytest.fixture
def house(lot: Lot, tmp_path: Path) -> Household:
    return Household(lot.site, lot.supervisor, tmp_path / "pods")


def source(path: Path) -> Path:
    path.write_text(CONTENT)
    return path


class TestImage(RootfsContract):
    @pytest.fixture
    def root(self, tmp_path: Path) -> Root:
        image = source(tmp_path / "image.erofs")
        return lambda: rootfs.image(image)


class TestDisk(RootfsContract):
    @pytest.fixture
    def root(self, tmp_path: Path) -> Root:
        made: list[Path] = []

        def new() -> RootfsRecord:
            made.append(source(tmp_path / f"disk{len(made)}"))
            return rootfs.disk(made[-1], "ext4", read_only=False)

        return new


class TestReadOnlyDisk(RootfsContract):
    read_only = True

    @pytest.fixture
    def root(self, tmp_path: Path) -> Root:
        disk = source(tmp_path / "disk")
        return lambda: rootfs.disk(disk, "ext4", read_only=True)


class TestDiskBelowAScratchDisk(RootfsContract):
    @pytest.fixture
    def root(self, tmp_path: Path) -> Root:
        disk = source(tmp_path / "disk")
        return lambda: rootfs.disk(disk, "ext4", read_only=False, scratch=True)


class TestStackedDisks(RootfsContract):
    @pytest.fixture
    def root(self, tmp_path: Path) -> Root:
        lowers = [source(tmp_path / f"lower{n}") for n in range(3)]
        made: list[Path] = []

        def new() -> RootfsRecord:
            made.append(source(tmp_path / f"upper{len(made)}"))
            return rootfs.engine([*map(read_only, lowers), Disk(path=str(made[-1]), type="ext4", read_only=False)])

        return new


def read_only(path: Path) -> Disk:
    return Disk(path=str(path), type="erofs", read_only=True)


@MOUNTS
class TestFolder(RootfsContract):
    own = False

    @pytest.fixture
    def root(self, tmp_path: Path) -> Root:
        return lambda: rootfs.folder(folder(tmp_path), read_only=False)


@MOUNTS
class TestReadOnlyFolder(RootfsContract):
    read_only = True

    @pytest.fixture
    def root(self, tmp_path: Path) -> Root:
        return lambda: rootfs.folder(folder(tmp_path), read_only=True)


def folder(path: Path) -> Path:
    (path / "root").mkdir(exist_ok=True)
    source(path / "root/file")
    return path / "root"


@pytest.mark.parametrize("kind", ["image", "disk", pytest.param("folder", marks=MOUNTS)])
async def test_a_hyperd_that_comes_later_takes_it_up(kind: str, house: Household, tmp_path: Path) -> None:
    pod = house.pod(of_kind(kind, tmp_path))
    async with running(pod) as [container]:
        await run(pod, container, "cp", "/file", "/copy")
        kept = msgspec.json.encode(pod.record)
        await pod.let_go()
        again = house.again(msgspec.json.decode(kept, type=PodRecord))
        async with again.locked() as locked:
            assert await locked.attach()
        [container] = again.containers.values()
        assert await run(again, container, "cat", "/copy") == (0, CONTENT)
        await contract.power_off(again)
        await start(again)
        assert await run(again, container, "cat", "/copy") == (0, CONTENT)
        await contract.power_off(again)
        await again.let_go()


@pytest.mark.parametrize(
    ("kind", "asked"), [("image", True), ("disk", True), pytest.param("folder", False, marks=MOUNTS)]
)
async def test_a_guest_with_disks_writes_them_before_its_end(
    kind: str, asked: bool, house: Household, tmp_path: Path
) -> None:
    pod = house.pod(of_kind(kind, tmp_path))
    async with running(pod):
        assert isinstance(house.site.hypervisor, FakeHypervisor)
        agent = house.site.hypervisor.alive[0].agent
        await contract.power_off(pod)
        assert ("poweroff" in [op for op, _ in agent.requests]) == asked


def of_kind(kind: str, path: Path) -> RootfsRecord:
    if kind == "folder":
        return rootfs.folder(folder(path), read_only=False)
    disk = source(path / "disk")
    return rootfs.image(disk) if kind == "image" else rootfs.disk(disk, "ext4", read_only=False)


# What is asked, and refused


def test_an_image_is_asked_as_the_first_guests_know_it(tmp_path: Path) -> None:
    image = rootfs.of(rootfs.image(tmp_path / "image"))
    image.place(4, tmp_path / "c", iter(()))
    asked = image.request()
    assert asked == m.Rootfs(lower=m.Disk(target=4), upper=m.Disk(target=5)) and not list(m.needed(asked))
    assert image.scratch == tmp_path / "c/scratch.img"


def test_other_kinds_are_asked_of_guests_that_have_learnt_them(tmp_path: Path) -> None:
    disk = source(tmp_path / "disk")
    for record, target in (
        (rootfs.disk(disk, "erofs", read_only=True), 2),
        (rootfs.disk(disk, "ext4", read_only=True, options=["noload"]), 2),
        (rootfs.disk(disk, "ext4", read_only=False), 3),
    ):
        rootfs.of(record).place(2, tmp_path / "c", iter(()))
        asked = rootfs.of(record).request()
        read_only = ["ro"] if record.disk.read_only else []
        options = [*read_only, *record.options]
        assert asked == m.Rootfs(lower=m.Disk(target=target, type=record.type, options=options))
        assert m.ROOTFS in m.needed(asked)
    over = rootfs.of(rootfs.disk(disk, "ext4", read_only=False, scratch=True, options=["noatime"]))
    over.place(2, tmp_path / "c", iter(()))
    lower = m.Disk(target=2, type="ext4", options=["noatime"])
    assert over.request() == m.Rootfs(lower=lower, upper=m.Disk(target=3)) and not over.read_only
    shared = rootfs.of(FolderRootfsRecord(path="/srv/root", read_only=True))
    shared.place(2, tmp_path / ("c" * 64), iter(()))
    assert shared.request() == m.Rootfs(folder="cccccccccccc-rootfs") and m.ROOTFS in m.needed(shared.request())


async def test_a_guest_that_has_not_learnt_it_is_not_asked(lot: Lot, house: Household, tmp_path: Path) -> None:
    pod = house.pod(rootfs.disk(source(tmp_path / "disk"), "ext4", read_only=False))
    make = lot.hypervisor.make_agent

    def older() -> FakeAgent:
        agent = make()
        agent.features.remove("rootfs")
        return agent

    lot.hypervisor.make_agent = older
    with pytest.raises(GuestTooOld, match="cannot use a disk or a folder of this host as a root file system"):
        await start(pod)
    await contract.discard(pod)


async def test_what_has_no_scratch_disk_is_not_copied(house: Household, tmp_path: Path) -> None:
    disk = source(tmp_path / "disk")
    pod = house.pod(rootfs.disk(disk, "ext4", read_only=False))
    pod.record.implicit = True
    async with running(pod) as [container]:
        with pytest.raises(WrongState, match=rf"its root file system is disk {disk} itself"):
            capture.check(pod, container, "fork")
        with pytest.raises(WrongState, match=rf"cannot commit sleep: it is on disk {disk} itself"):
            archive.check(pod, container, "commit")


async def test_a_folder_takes_a_hypervisor_that_shares(lot: Lot, house: Household, tmp_path: Path) -> None:
    pod = house.pod(rootfs.folder(folder(tmp_path), read_only=False))
    [container] = pod.containers.values()
    pod.check_supported(container.record)
    lot.hypervisor.features -= {Feature.SHARE}
    with pytest.raises(Unsupported, match=f"use folder {tmp_path / 'root'} as the root file system of sleep"):
        pod.check_supported(container.record)


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    disk = source(tmp_path / "disk")
    with pytest.raises(InvalidInput, match="option 'data=journal': ext4 has nosuid"):
        rootfs.disk(disk, "ext4", read_only=True, options=["noatime", "data=journal"])
    with pytest.raises(InvalidInput, match="erofs is read-only"):
        rootfs.disk(disk, "erofs", read_only=False)
    with pytest.raises(InvalidInput, match="no file and no block device"):
        rootfs.disk(tmp_path, "ext4", read_only=True)
    with pytest.raises(InvalidInput, match="it is no folder"):
        rootfs.folder(disk, read_only=True)
    with pytest.raises(InvalidInput, match="the path is not absolute"):
        rootfs.folder(Path("root"), read_only=True)
    with pytest.raises(NotFound):
        rootfs.folder(tmp_path / "none", read_only=True)


async def test_a_scratch_disk_is_made_once(house: Household, tmp_path: Path) -> None:
    pod = house.pod(rootfs.image(source(tmp_path / "image")))
    async with running(pod) as [container]:
        made = container.scratch.stat()
        assert made.st_size == 16 << 20 and scratch.MIN_MIB == 16
        await contract.power_off(pod)
        await start(pod)
        assert container.scratch.stat().st_ino == made.st_ino


async def test_one_folder_of_many_containers_is_shown_once(house: Household, tmp_path: Path) -> None:
    """Shown twice it is two file systems to the guest, and no lock holds between them."""
    if os.geteuid():
        pytest.skip("mounts")
    root = folder(tmp_path)
    pod = house.pod(*(rootfs.folder(root, read_only=read_only) for read_only in (False, False, True)))
    async with running(pod) as containers:
        names = [folder.share_path for c in containers for folder in rootfs.of(c.record.rootfs).folders]
        assert names[0] == names[1] != names[2] and set(pod.machine.folders.share.names()) == set(names)


@MOUNTS
async def test_a_start_that_is_given_up_while_a_folder_is_bound_leaves_no_mount(
    house: Household, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = house.pod(rootfs.folder(folder(tmp_path), read_only=False))
    share, begun, goes_on, over = pod.machine.folders.share, threading.Event(), threading.Event(), threading.Event()
    add = share.add

    def slow(*args: Any) -> None:
        begun.set()
        goes_on.wait()
        add(*args)
        over.set()

    monkeypatch.setattr(share, "add", slow)
    starting = asyncio.create_task(start(pod))
    await asyncio.to_thread(begun.wait)

    async def give_up() -> None:
        starting.cancel()
        await asyncio.wait([starting])
        await contract.power_off(pod)

    giving_up = asyncio.create_task(give_up())
    await asyncio.wait([giving_up], timeout=0.5)  # it must wait
    goes_on.set()
    await giving_up
    await asyncio.to_thread(over.wait)
    assert house.left() == []
