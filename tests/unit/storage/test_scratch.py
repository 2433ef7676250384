"""Scratch disks: whole or not there, sparse, and a file system that a checker finds nothing wrong with."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.errors import AlreadyExists, Exhausted, HyperError, InvalidInput
from hypercontainer.storage import scratch


def check(disk: Path) -> str:
    """What a checker says of the file system, "" if nothing."""
    result = subprocess.run(["e2fsck", "-fn", disk], capture_output=True, text=True)
    return result.stdout if result.returncode else ""


def groups_zeroed(disk: Path) -> int:
    return subprocess.run(["dumpe2fs", disk], capture_output=True, text=True).stdout.count("ITABLE_ZEROED")


@pytest.mark.parametrize("size_mib", [scratch.MIN_MIB, 64, 10240, 1 << 20])
async def test_a_disk_is_sound_sparse_and_of_its_size(tmp_path: Path, size_mib: int) -> None:
    disk = tmp_path / "scratch.img"
    await scratch.create(disk, size_mib, tmp_path / "templates")
    status = disk.stat()
    assert (status.st_size, status.st_mode & 0o777) == (size_mib << 20, 0o600)
    assert status.st_blocks * 512 < 4 << 20
    assert check(disk) == ""


async def test_the_guest_has_no_tables_to_clear(tmp_path: Path) -> None:
    await scratch.create(tmp_path / "d", 1024, tmp_path / "t")
    assert groups_zeroed(tmp_path / "d") == 8


async def test_a_second_disk_is_a_copy_of_the_template(tmp_path: Path) -> None:
    for name in "ab":
        await scratch.create(tmp_path / name, 64, tmp_path / "t")
    [template] = (tmp_path / "t").iterdir()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == template.read_bytes()


async def test_many_at_once_without_a_template(tmp_path: Path) -> None:
    disks = [tmp_path / str(n) for n in range(8)]
    await asyncio.gather(*(scratch.create(disk, 64, tmp_path / "t") for disk in disks))
    assert len(os.listdir(tmp_path / "t")) == 1
    assert [check(disk) for disk in disks] == [""] * 8


@pytest.mark.parametrize("size_mib", [-1, 0, scratch.MIN_MIB - 1, scratch.MAX_MIB + 1])
async def test_absurd_sizes_are_refused(tmp_path: Path, size_mib: int) -> None:
    with pytest.raises(InvalidInput):
        await scratch.create(tmp_path / "d", size_mib, tmp_path / "t")
    assert os.listdir(tmp_path) == []


async def test_a_disk_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("precious")
    with pytest.raises(AlreadyExists):
        await scratch.create(tmp_path / "d", 64, tmp_path / "t")
    assert (tmp_path / "d").read_text() == "precious"


async def test_templates_are_bounded(tmp_path: Path) -> None:
    for n in range(scratch.TEMPLATES + 3):
        await scratch.create(tmp_path / "d", 64 + n, tmp_path / "t")
        (tmp_path / "d").unlink()
    assert len(os.listdir(tmp_path / "t")) == scratch.TEMPLATES


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for next to nothing."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small tmpfs")
@pytest.mark.parametrize("full", ["template", "disk"])
async def test_a_full_disk_is_said_and_leaves_nothing(
    small: Path, tmp_path_factory: pytest.TempPathFactory, full: str
) -> None:
    templates = small / "t" if full == "template" else tmp_path_factory.mktemp("t")
    (small / "filler").write_bytes(bytes(100 << 10))
    with pytest.raises(Exhausted, match="No space left"):
        await scratch.create(small / "d", 1 << 16, templates)
    left = [path.name for path in small.rglob("*") if path.name not in ("filler", "t")]
    assert left == []


def test_a_copy_is_a_disk_of_its_own_with_the_same_in_it(tmp_path: Path) -> None:
    source, copied, filled = (tmp_path / name for name in ("source", "copied", "filled"))
    with open(source, "wb") as f:
        f.truncate(8 << 20)
        f.seek(3 << 20)
        f.write(b"here")
    scratch.copy(source, copied)
    scratch.blank(source, filled)
    assert filled.stat().st_size == 8 << 20
    with open(filled, "rb") as before:  # a VMM has it open by then
        scratch.fill(filled, source)
        assert before.read() == source.read_bytes()
    assert copied.read_bytes() == source.read_bytes()
    for path in (copied, filled):
        assert path.stat().st_blocks * 512 < 1 << 20
        assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(AlreadyExists):
        scratch.copy(source, copied)
    with pytest.raises(HyperError):
        scratch.copy(tmp_path / "nothing", tmp_path / "other")
    assert not (tmp_path / "other").exists()
