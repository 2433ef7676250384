"""Volumes that are file systems: there from the first user to the last, and nothing is left, whatever fails."""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hypercontainer.errors import InvalidInput, NotFound
from hypercontainer.lib import mount, proc
from hypercontainer.storage import mounted, mountopts
from hypercontainer.storage.mounted import MountedVolumes, NotMounted
from hypercontainer.storage.mounting import Job
from hypercontainer.storage.volume import VolumeStore

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting is for root")
TMPFS = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=750,uid=7"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VolumeStore]:
    store = VolumeStore(tmp_path / "with space" / "volumes")
    yield store
    assert mounts(store) == []


@pytest.fixture
def volumes(store: VolumeStore) -> MountedVolumes:
    return MountedVolumes(store)


def mounts(store: VolumeStore) -> list[str]:
    return [volume.name for volume in store.list() if mount.mounted(store.path(volume.name))]


async def test_a_tmpfs_from_its_first_user_to_its_last(store: VolumeStore, volumes: MountedVolumes) -> None:
    folder = store.path(store.create("fast", options=TMPFS).name)
    assert mounts(store) == []
    await volumes.use("fast", "one")
    await volumes.use("fast", "one")
    status = os.stat(folder)
    assert (status.st_mode & 0o7777, status.st_uid) == (0o750, 7)
    assert os.statvfs(folder).f_flag & (os.ST_NOSUID | os.ST_NODEV) == os.ST_NOSUID | os.ST_NODEV
    (folder / "x").write_text("said by one")
    await volumes.use("fast", "two")
    await volumes.keep("one", ["other"])
    assert (folder / "x").read_text() == "said by one"
    with pytest.raises(OSError, match="No space"):
        (folder / "y").write_bytes(bytes(2 << 20))
    await volumes.keep("two", ["fast"])
    assert mounts(store) == ["fast"]
    await volumes.keep("two", [])
    assert os.listdir(folder) == [] and mounts(store) == []
    await volumes.use("fast", "one")
    assert os.listdir(folder) == []
    await volumes.keep("one", [])


async def test_two_at_once_have_the_same(store: VolumeStore, volumes: MountedVolumes) -> None:
    folder = store.path(store.create("fast", options=TMPFS).name)
    await asyncio.gather(*(volumes.use("fast", str(n)) for n in range(8)))
    assert mount.unmount(folder) and mounts(store) == []  # it was there once
    await asyncio.gather(*(volumes.keep(str(n), []) for n in range(8)))


async def test_a_folder_needs_no_mount(store: VolumeStore, volumes: MountedVolumes, tmp_path: Path) -> None:
    store.create("plain")
    store.create("bound", options={"type": "none", "o": "bind", "device": str(tmp_path)})
    for name in ("plain", "bound"):
        await volumes.use(name, "one")
    await volumes.sweep()
    assert mounts(store) == []
    with pytest.raises(NotFound):
        await volumes.use("gone", "one")


async def test_what_cannot_be_mounted_is_said_as_docker_says_it(store: VolumeStore, volumes: MountedVolumes) -> None:
    store.create("odd", options={"type": "nosuchfs", "device": "/dev/null", "o": "suid,dev,ro,password=hush,x=1"})
    with pytest.raises(NotMounted) as refused:
        await volumes.use("odd", "one")
    folder = store.path("odd")
    assert str(refused.value) == (
        f"error while mounting volume '{folder}': failed to mount local volume: mount /dev/null:{folder}, "
        "flags: 0x1, data: password=********,x=1: no such device"
    )
    store.create("bad", options={**TMPFS, "o": "size=much"})
    with pytest.raises(NotMounted, match=r"flags: 0x6, data: size=much: invalid argument$"):
        await volumes.use("bad", "one")
    assert mounts(store) == []
    await volumes.keep("one", [])


async def test_a_server_whose_name_is_nobodys(store: VolumeStore, volumes: MountedVolumes) -> None:
    store.create("far", options={"type": "nfs", "device": ":/x", "o": "addr=no.such.host.invalid,ro"})
    with pytest.raises(NotMounted, match=r"error resolving passed in network volume address: lookup no\.such"):
        await volumes.use("far", "one")


async def test_the_address_of_a_server_takes_the_place_of_its_name() -> None:
    assert await mounted._resolved("v", "vers=4,addr=localhost,soft") in (
        "vers=4,addr=127.0.0.1,soft",
        "vers=4,addr=::1,soft",
    )
    assert await mounted._resolved("v", "addr=192.0.2.7") == "addr=192.0.2.7"


async def test_who_gives_up_leaves_nothing(
    store: VolumeStore, volumes: MountedVolumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create("fast", options=TMPFS)
    began = asyncio.Event()
    run = proc.run

    async def run_slowly(*args: object, **kwargs: object) -> proc.Result:
        result = await run(*args, **kwargs)  # type: ignore[arg-type]
        began.set()
        await asyncio.Event().wait()
        return result

    monkeypatch.setattr(proc, "run", run_slowly)
    using = asyncio.create_task(volumes.use("fast", "one"))
    await began.wait()
    assert mounts(store) == ["fast"]
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using
    assert mounts(store) == []


async def test_after_a_kill_what_is_used_stays_and_the_rest_goes(store: VolumeStore, volumes: MountedVolumes) -> None:
    for name in ("used", "unused"):
        store.create(name, options=TMPFS)
        await volumes.use(name, "one")
    (store.path("used") / "x").touch()
    again = MountedVolumes(store)
    again.adopt("one", ["used", "gone"])
    await again.sweep()
    assert mounts(store) == ["used"] and os.listdir(store.path("used")) == ["x"]
    await again.keep("one", [])


async def test_a_removal_takes_it_away(store: VolumeStore, volumes: MountedVolumes) -> None:
    store.create("fast", options=TMPFS)
    await volumes.use("fast", "one")
    (store.path("fast") / "x").touch()
    await store.remove("fast", lambda _: None)
    assert os.listdir(store.root) == [".lock"]


async def test_nothing_is_mounted_for_who_has_ended(store: VolumeStore) -> None:
    folder = store.path(store.create("fast", options=TMPFS).name)
    fd = os.open(folder, os.O_PATH)
    job = Job(source="tmpfs", target=fd, type="tmpfs", flags=0, data="", parent=2**22 + 1)
    result = await proc.run(
        [sys.executable, "-I", "-m", "hypercontainer.storage.mounting"],
        stdin=msgspec.json.encode(job), pass_fds=[fd], timeout_s=60, check=False,
    )  # fmt: skip
    os.close(fd)
    assert result.status == 1 and mounts(store) == []


def test_flags_by_their_names() -> None:
    assert mountopts.parse("") == (mount.NOSUID | mount.NODEV, "")
    assert mountopts.parse("suid,dev,noexec,size=1m,,noatime,exec,defaults,vers=4") == (0x400, "size=1m,vers=4")
    for option in ("remount", "bind", "rshared", "private"):
        with pytest.raises(InvalidInput, match="acts on mounts"):
            mountopts.parse(f"size=1,{option}")
