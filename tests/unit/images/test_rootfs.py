"""The process that unpacks: its cgroup, what it may take, and that nothing of it stays."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hypercontainer.images import rootfs
from hypercontainer.images.store import ImageStore
from hypercontainer.images.unpack import BadLayer, Layer
from hypercontainer.images.workspace import CGROUPS, Workspace, cgroup_name
from hypercontainer.lib import cgroup, mount
from hypercontainer.testing import layers as made

AT_WORK_S = 120.0
LAYER = made.layer([made.member("f", b"content")])
needs_cgroups = pytest.mark.skipif(not cgroup.plan("x"), reason="this host's cgroups are not ours to use")


@pytest.fixture
def work(store: ImageStore) -> Iterator[Workspace]:
    work = Workspace.make(store.root / "work")
    yield work
    if work.path.exists():
        work.close()


def a_layer(folder: Path, data: bytes) -> Layer:
    (folder / "layer").write_bytes(data)
    return Layer(str(folder / "layer"), made.digest(data))


def read(folders: list[Path], *names: str) -> str:
    """What the first file with one of these names says."""
    return next((f / name).read_text().strip() for f in folders for name in names if (f / name).exists())


async def at_work(folders: list[Path]) -> None:
    """Until a process is in there."""
    async with asyncio.timeout(AT_WORK_S):
        while True:
            with suppress(FileNotFoundError, StopIteration):
                if read(folders, "cgroup.procs"):
                    return
            await asyncio.sleep(0.01)  # nothing tells


@needs_cgroups
async def test_it_is_in_a_cgroup_of_its_own(tmp_path: Path, work: Workspace) -> None:
    os.mkfifo(tmp_path / "layer")  # it waits for bytes
    folders = cgroup.plan(cgroup_name(work.path))
    layer = Layer(str(tmp_path / "layer"), made.digest(LAYER))
    making = asyncio.create_task(rootfs.make(work, work.path / "image", [layer], rootfs.Room(100 << 20, 60)))
    await at_work(folders)
    assert (work.path / CGROUPS).read_text().split() == [str(folder) for folder in folders]
    assert read(folders, "memory.max", "memory.limit_in_bytes") == str(100 << 20)
    assert read(folders, "pids.max") == str(rootfs.TASKS)
    inside = await asyncio.to_thread(os.open, tmp_path / "layer", os.O_WRONLY)
    os.write(inside, LAYER)
    os.close(inside)
    [done] = await making
    assert done.entries == 1
    work.close()
    assert not any(folder.exists() for folder in folders)


@needs_cgroups
async def test_who_is_not_waited_for_any_more_leaves_none(tmp_path: Path, work: Workspace) -> None:
    os.mkfifo(tmp_path / "layer")
    folders = cgroup.plan(cgroup_name(work.path))
    making = asyncio.create_task(rootfs.make(work, work.path / "image", [Layer(str(tmp_path / "layer"), "sha256:0")]))
    await at_work(folders)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    work.close()
    assert not any(folder.exists() for folder in folders)


@needs_cgroups
def test_what_a_killed_one_left_is_swept(store: ImageStore, work: Workspace) -> None:
    folders = work.bound(1 << 30, 9)
    assert all(folder.exists() for folder in folders)
    os.close(work.lock)
    ImageStore(store.root)
    assert not any(folder.exists() for folder in folders)
    assert not work.path.exists()


@needs_cgroups
def test_one_that_is_still_in_use_stays_with_its_record(
    store: ImageStore, work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hypercontainer.images.workspace.LEAVING_S", 0.01)
    folders = work.bound(1 << 30, 9)
    with subprocess.Popen(["sleep", "1000"]) as process:
        for folder in folders:
            (folder / "cgroup.procs").write_text(str(process.pid))
        os.close(work.lock)
        store.sweep()
        assert (work.path / CGROUPS).exists()
        process.kill()
    store.sweep()
    assert not any(folder.exists() for folder in folders)
    assert not work.path.exists()


async def test_without_cgroups_it_goes_on(
    tmp_path: Path, work: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for nobodys in (tmp_path / "none", Path("/proc")):  # there are none; they cannot be made
        monkeypatch.setattr(cgroup, "CGROUPS", nobodys)
        monkeypatch.setattr(cgroup, "plan", lambda name, at=nobodys: [at / name] if at.exists() else [])
        [done] = await rootfs.make(work, work.path / f"image{nobodys.name}", [a_layer(tmp_path, LAYER)])
        assert done.entries == 1
    assert [r.message.partition(", and")[0] for r in caplog.records] == ["the process that unpacks has no cgroup"] * 2


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a tmpfs")
@pytest.mark.parametrize("small", [65536], indirect=True)
async def test_a_store_in_memory_does_not_count(small: Path) -> None:
    work = Workspace.make(ImageStore(small / "images").root / "work")
    assert mount.kind(work.path) == "tmpfs"
    layer = a_layer(small, made.layer([made.member("f", os.urandom(30 << 20))]))
    [done] = await rootfs.make(work, work.path / "image", [layer], rootfs.Room(40 << 20, 60))
    assert done.size == 30 << 20
    work.close()


@needs_cgroups
async def test_more_memory_than_it_may_have(tmp_path: Path, work: Workspace) -> None:
    names = (made.member(f"{n:05}", xattrs={"user.a": b"%05d" % n * 10_000}) for n in range(2000))
    layer = a_layer(tmp_path, made.gzipped(made.layer(names)))
    layer = layer._replace(diff_id=made.digest(b""))  # it does not come that far
    with pytest.raises(BadLayer, match=r"takes more than 40 MiB of memory$"):
        await rootfs.make(work, work.path / "image", [layer], rootfs.Room(40 << 20, 600))


async def test_more_time_than_it_may_have(tmp_path: Path, work: Workspace) -> None:
    layer = a_layer(tmp_path, made.gzipped(bytes(1 << 20)) * 10_000)
    with pytest.raises(BadLayer, match=r"takes more than 1 s of a processor$"):
        await rootfs.make(work, work.path / "image", [layer], rootfs.Room(256 << 20, 1))


def test_what_it_may_have_follows_what_came(tmp_path: Path) -> None:
    layer = a_layer(tmp_path, bytes(2 << 20))
    one = rootfs.of([layer])
    assert one == (512 << 20, 120)
    assert rootfs.of([layer, layer]) == one  # however often it is named
    os.truncate(layer.path, 1 << 40)
    assert rootfs.of([layer]) == (rootfs.MAX_MEMORY, rootfs.UNPACK_S)
