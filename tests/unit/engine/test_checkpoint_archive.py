"""Archives of checkpoints: where they appear, and what is believed of a guest's files."""

import os
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hypercontainer.engine import checkpoint_archive as archive
from hypercontainer.engine.checkpoint_archive import Location
from hypercontainer.errors import AlreadyExists, Exhausted, HyperError, InvalidInput, NotFound


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "images"
    made.mkdir()
    return made


def opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def write(place: Location, folder: Path, cancelled: threading.Event | None = None) -> None:
    fd = opened(folder)
    try:
        with archive.opened(fd, archive.images(fd)) as parts:
            archive.write(place, {"config.dump": b"{}"}, parts, ["checkpoint"], cancelled or threading.Event())
    finally:
        os.close(fd)


def test_it_appears_whole_and_for_its_owner_alone(folder: Path, tmp_path: Path) -> None:
    (folder / "pages-1.img").write_bytes(b"p" * 100_000)
    (folder / "core-1.img").write_bytes(b"")
    path = tmp_path / "saved.tar"
    with Location.made(str(path)) as place:
        write(place, folder)
        assert os.listdir(tmp_path) == ["images"]
        place.appear()
    assert path.stat().st_mode == 0o100600
    with tarfile.open(path) as tar:
        assert tar.getnames() == ["checkpoint", "config.dump", "checkpoint/core-1.img", "checkpoint/pages-1.img"]
        pages = tar.extractfile("checkpoint/pages-1.img")
        assert pages and pages.read() == b"p" * 100_000


def test_what_fails_or_is_cancelled_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / "pages-1.img").write_bytes(b"p" * 100_000)
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(archive.Cancelled), Location.made(str(tmp_path / "saved.tar")) as place:
        write(place, folder, cancelled)
    assert os.listdir(tmp_path) == ["images"]


@pytest.mark.parametrize("path", ["", "a.tar", "/", "/a/../b.tar", "/a//b.tar", "/a/"])
def test_a_location_is_an_absolute_path(path: str) -> None:
    with pytest.raises(InvalidInput, match="give the absolute path"), Location.made(path):
        pass


def test_what_is_there_is_neither_followed_nor_replaced(folder: Path, tmp_path: Path) -> None:
    link, elsewhere = tmp_path / "link.tar", tmp_path / "elsewhere"
    link.symlink_to(elsewhere)
    with pytest.raises(AlreadyExists, match="something is there"), Location.made(str(link)):
        pass
    late = tmp_path / "late.tar"
    with pytest.raises(AlreadyExists), Location.made(str(late)) as place:
        late.symlink_to(elsewhere)
        place.appear()
    assert not elsewhere.exists()
    with pytest.raises(NotFound, match="no such folder"), Location.made(str(tmp_path / "missing/saved.tar")):
        pass


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/passwd", path)])
def test_what_is_no_file_of_the_guests_is_not_read(folder: Path, make: Callable[[Path], None]) -> None:
    make(folder / "pages-1.img")
    fd = opened(folder)
    with pytest.raises(HyperError, match=r"cannot read pages-1\.img"), archive.opened(fd, archive.images(fd)):
        pass
    os.close(fd)


@pytest.mark.parametrize("name", ["-", ".x", "a b", "\x1b[31m", "x" * 201])
def test_a_name_that_criu_does_not_give(folder: Path, name: str) -> None:
    (folder / name).touch()
    fd = opened(folder)
    with pytest.raises(HyperError, match="the guest has named a file"):
        archive.images(fd)
    os.close(fd)


def test_more_files_than_anybody_has(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_FILES", 2)
    for number in range(3):
        (folder / f"core-{number}.img").touch()
    fd = opened(folder)
    with pytest.raises(Exhausted):
        archive.images(fd)
    os.close(fd)


def test_a_file_that_shrinks_meanwhile_is_as_long_as_it_was(folder: Path, tmp_path: Path) -> None:
    (folder / "pages-1.img").write_bytes(b"p" * 10_000)
    fd = opened(folder)
    with Location.made(str(tmp_path / "saved.tar")) as place, archive.opened(fd, archive.images(fd)) as parts:
        os.truncate(folder / "pages-1.img", 10)
        archive.write(place, {}, parts, [], threading.Event())
        place.appear()
    os.close(fd)
    with tarfile.open(tmp_path / "saved.tar") as tar:
        pages = tar.extractfile("checkpoint/pages-1.img")
        assert pages and pages.read() == b"p" * 10 + bytes(9_990)


def test_a_list_is_read_up_to_a_bound(folder: Path) -> None:
    (folder / "changes").write_bytes(b"D/etc/passwd\0")
    fd = opened(folder)
    assert archive.read(fd, "changes", 100) == b"D/etc/passwd\0"
    with pytest.raises(Exhausted):
        archive.read(fd, "changes", 5)
    with pytest.raises(HyperError, match="has made no missing"):
        archive.read(fd, "missing", 5)
    os.close(fd)
