"""Volumes: there or not there, whoever else is at work, and never one that is in use."""

import asyncio
import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest

from hypercontainer.errors import HyperError, InUse, InvalidInput, NotFound
from hypercontainer.storage.volume import VolumeStore


def nobody(name: str) -> str | None:
    return None


@pytest.fixture
def store(tmp_path: Path) -> VolumeStore:
    return VolumeStore(tmp_path / "volumes")


def test_a_volume_is_made_once(store: VolumeStore) -> None:
    first = store.create("data", {"a": "b"})
    assert store.create("data", {"other": "labels"}) == first == store.get("data")
    assert store.path("data").is_dir()
    assert store.list() == [first]


def test_inspect_words_it_as_docker_does(store: VolumeStore) -> None:
    document = store.inspect(store.create("data", {"a": "b"}))
    assert document.pop("CreatedAt", "").endswith("Z")  # type: ignore[attr-defined]
    assert document == {
        "Name": "data",
        "Driver": "local",
        "Mountpoint": str(store.path("data")),
        "Labels": {"a": "b"},
        "Options": {},
        "Scope": "local",
    }


def test_a_name_is_as_long_as_a_files_may_be(store: VolumeStore) -> None:
    volume = store.create("a" * 255)
    assert store.path(volume.name).is_dir()
    assert store.list() == [volume]


def test_an_anonymous_volume_has_64_digits(store: VolumeStore) -> None:
    volume = store.create()
    assert len(volume.name) == 64
    assert volume.anonymous
    assert store.get(volume.name) == volume


@pytest.mark.parametrize("name", ["../x", "a/b", ".", "..", ".lock", "-x", "a" * 256, "a\n", "\0"])
def test_a_name_that_is_a_path_is_refused(store: VolumeStore, name: str) -> None:
    for call in (store.create, store.get, store.path):
        with pytest.raises(InvalidInput):
            call(name)


async def test_removal_takes_the_files_however_a_guest_made_them(store: VolumeStore, tmp_path: Path) -> None:
    store.create("deep")
    (tmp_path / "outside").write_text("precious")
    folder = store.path("deep")
    (folder / "link").symlink_to(tmp_path)
    (folder / "-rf").touch()
    (folder / os.fsdecode(b"\xff\n")).touch()
    fd = os.open(folder, os.O_DIRECTORY)
    for _ in range(3000):  # longer than a path may be, deeper than Python recurses
        os.mkdir("dd", dir_fd=fd)
        below = os.open("dd", os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    await store.remove("deep", nobody)
    assert os.listdir(store.root) == [".lock"]
    assert (tmp_path / "outside").exists()


async def test_one_in_use_stays(store: VolumeStore) -> None:
    store.create("data")
    with pytest.raises(InUse, match="container web uses it") as used:
        await store.remove("data", lambda name: "container web")
    assert (used.value.what, used.value.name, used.value.by) == ("volume", "data", ["container web"])
    assert store.path("data").is_dir()


async def test_removing_what_is_not_there(store: VolumeStore) -> None:
    with pytest.raises(NotFound):
        await store.remove("data", nobody)
    await store.remove("data", nobody, force=True)


async def test_a_folder_of_the_host_under_a_name(store: VolumeStore, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "file").write_text("x")
    store.create("named", options={"type": "none", "o": "bind", "device": str(folder)})
    assert store.path("named") == folder
    await store.remove("named", nobody)
    assert (folder / "file").read_text() == "x"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"type": "nfs", "o": "addr=1.2.3.4"}, 'missing required option: "device"'),
        ({"type": "tmpfs", "device": "tmpfs", "x": "y"}, "invalid option: 'x'"),
        ({"type": "tmpfs", "device": "tmpfs", "o": "size=1m,remount"}, "with o=remount: it acts on mounts"),
        ({"type": "../x", "device": "tmpfs"}, "no kind of file systems"),
        ({"type": "ext4", "device": "/dev/\0"}, "has a NUL byte"),
        ({"type": "ext4", "device": "/dev/x", "o": "x" * 5000}, "too long"),
        ({"type": "none", "o": "bind"}, "not the path of a folder"),
        ({"o": "bind", "device": "/nowhere/at/all"}, "not the path of a folder"),
        ({"o": "bind", "device": "../x"}, "not the path of a folder"),
        ({"o": "bind", "device": "/\0"}, "has a NUL byte"),
        ({"o": "bind", "device": "/" + "x" * 5000}, "too long"),
        ({"o": "bind,ro", "device": "/"}, "use o=bind"),
        ({"type": "none", "device": "/"}, "use o=bind"),
        ({"size": "1g"}, "no quota support"),
    ],
)
def test_options_that_are_not_had(store: VolumeStore, options: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        store.create("odd", options=options)
    assert store.list() == []


async def test_what_the_files_of_each_take(store: VolumeStore) -> None:
    for name, size in (("small", 0), ("large", 100_000)):
        store.create(name)
        (store.path(name) / "file").write_bytes(b"x" * size)
    found = await store.sizes(["small", "large", "gone"])
    assert found.keys() == {"small", "large"} and 0 <= found["small"] < 100_000 <= found["large"]
    assert await store.sizes([]) == {}


async def test_prune_takes_unused_anonymous_ones_and_leftovers(store: VolumeStore) -> None:
    used, unused = store.create(), store.create()
    store.create("named")
    (store.path(unused.name) / "f").write_bytes(bytes(1 << 20))
    (store.root / ".gone-1" / "x").mkdir(parents=True)
    names, freed = await store.prune(lambda name: "it" if name == used.name else None)
    assert names == [unused.name]
    assert freed >= 1 << 20
    assert sorted(os.listdir(store.root)) == sorted([".lock", "named", used.name])
    assert (await store.prune(nobody, everything=True)).names == sorted([used.name, "named"])


def test_too_many_labels_are_refused(store: VolumeStore) -> None:
    with pytest.raises(InvalidInput, match="labels"):
        store.create("x", {str(n): "" for n in range(300)})
    assert store.list() == []


def churn(root: Path, rounds: int) -> None:
    store = VolumeStore(root)
    for _ in range(rounds):
        assert store.create("shared").name == "shared"
        try:
            asyncio.run(store.remove("shared", nobody))
        except NotFound:
            pass


def test_several_processes_at_once(store: VolumeStore) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=churn, args=(store.root, 10)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert store.list() in ([], [store.create("shared")])


@pytest.mark.parametrize("rounds", range(5))
async def test_killed_at_any_moment_it_is_sound(store: VolumeStore, rounds: int) -> None:
    context = multiprocessing.get_context("spawn")
    worker = context.Process(target=churn, args=(store.root, 10_000))
    worker.start()
    while not store.root.exists() or len(os.listdir(store.root)) < 2:
        pass  # until it is at work
    worker.kill()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    for volume in store.list():
        assert store.path(volume.name).is_dir()
    await store.prune(nobody, everything=True)
    assert os.listdir(store.root) == [".lock"]


async def test_removal_follows_no_link_that_a_folder_turns_into(store: VolumeStore, tmp_path: Path) -> None:
    """A guest that still writes, or whoever has taken its virtiofsd over, swaps what is walked."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for n in range(200):
        (outside / f"f{n}").write_text("precious")
    for turn in range(5):
        store.create("raced")
        fd = os.open(store.path("raced"), os.O_PATH | os.O_DIRECTORY)  # it keeps its hold wherever the folder goes
        for name in ("a", "b", "c"):
            os.mkdir(name, dir_fd=fd)
            for n in range(100):
                os.mkdir(f"{name}/{n}", dir_fd=fd)
        done = threading.Event()
        swapping = threading.Thread(target=_swap, args=(fd, outside, done))
        swapping.start()
        try:
            await store.remove("raced", nobody)
        except HyperError:
            pass  # it made what was just removed again: said, and swept away by the next prune
        finally:
            done.set()
            swapping.join()
            os.close(fd)
        assert len(os.listdir(outside)) == 200, turn
    await store.prune(nobody)
    assert os.listdir(store.root) == [".lock"]


def _swap(fd: int, outside: Path, done: threading.Event) -> None:
    while not done.is_set():
        for name in ("a", "b", "c"):
            try:
                os.rename(name, f"{name}.was", src_dir_fd=fd, dst_dir_fd=fd)
                os.symlink(outside, name, dir_fd=fd)
                os.unlink(name, dir_fd=fd)
                os.rename(f"{name}.was", name, src_dir_fd=fd, dst_dir_fd=fd)
            except OSError:
                pass  # removed meanwhile
