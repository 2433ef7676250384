"""Root file systems that are no image with a scratch disk: a disk alone, a folder of the share."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.unit.guest.conftest import Guest
from tests.unit.guest.wire_client import Refused

WRITE = "echo of the container > /data/mine && cat /data/mine /data/file"


def tree(guest: Guest, path: Path) -> Path:
    """A root file system of its own at `path`."""
    shutil.copytree(guest.lower, path, symlinks=True)
    return path


def shared(guest: Guest, name: str = "root") -> Path:
    """The same, as a folder of the share."""
    path = tree(guest, guest.folder / "hyper" / name)
    guest.host.call("pod.setup", share="hyper")
    return path


def test_a_disk_alone_is_the_root_itself(guest: Guest) -> None:
    disk = tree(guest, guest.folder / "disk")
    guest.container(rootfs={"lower": {"path": str(disk), "type": "ext4", "options": ["noatime", "noload"]}})
    guest.first()
    assert guest.sh(WRITE) == (0, "of the container\nof the image\n", "")
    assert (disk / "data/mine").read_text() == "of the container\n"
    guest.host.call("container.remove", id="c1")
    assert (disk / "data/mine").exists() and not list((disk / "proc").iterdir())


def test_a_disk_that_is_read_only_is_not_written(guest: Guest) -> None:
    disk = tree(guest, guest.folder / "disk")
    for name in ("dev", "proc", "sys"):
        (disk / name).mkdir()
    for name in ("hosts", "hostname", "resolv.conf"):
        (disk / "etc" / name).touch()
    guest.container(rootfs={"lower": {"path": str(disk), "type": "erofs", "options": ["ro"]}}, read_only=True)
    guest.first()
    status, out, err = guest.sh(WRITE)
    assert (status, out) == (1, "") and "Read-only file system" in err
    assert guest.sh("cat /data/file; ls /proc/1/comm; hostname")[0] == 0


def test_what_a_read_only_root_has_no_place_for_is_named(guest: Guest) -> None:
    with pytest.raises(Refused) as refused:
        guest.container(rootfs={"lower": {"path": str(guest.lower), "type": "erofs", "options": ["ro"]}})
    assert refused.value.errno == errno.EROFS and "mount on /sys" in str(refused.value)
    assert guest.host.call("list")["containers"] == []


def test_a_folder_of_the_share_is_the_root_itself(guest: Guest) -> None:
    folder = shared(guest)
    guest.container(rootfs={"folder": "root"})
    guest.container("c2", rootfs={"folder": "root"})
    guest.first()
    assert guest.sh(WRITE) == (0, "of the container\nof the image\n", "")
    guest.start("second", "sleep", "1000", container="c2", first=True)
    assert guest.sh("cat /data/mine; ls -A /dev/shm", container="c2") == (0, "of the container\n", "")
    guest.host.call("container.remove", id="c1")
    assert guest.sh("cat /data/mine; ls /proc/1/comm", container="c2")[0] == 0
    guest.host.call("container.remove", id="c2")
    assert (folder / "data/mine").read_text() == "of the container\n"


def test_an_upper_disk_lies_over_a_lower_one_of_any_type(guest: Guest) -> None:
    upper = guest.folder / "over"
    upper.mkdir()
    lower = {"path": str(guest.lower), "type": "ext4", "options": ["noatime"]}
    guest.container(rootfs={"lower": lower, "upper": {"path": str(upper)}})
    guest.first()
    assert guest.sh(WRITE) == (0, "of the container\nof the image\n", "")
    assert not (guest.lower / "data/mine").exists() and (upper / "data/data/mine").exists()


def staged(guest: Guest) -> list[str]:
    """What is mounted for a container that is not there yet."""
    [inner] = Path(f"/proc/{guest.process.pid}/task/{guest.process.pid}/children").read_text().split()
    points = [line.split()[4] for line in Path(f"/proc/{inner}/mountinfo").read_text().splitlines()]
    return [point for point in points if point.endswith("/scratch")]


def new_scratch(guest: Guest, name: str) -> dict[str, Any]:
    (guest.folder / name).mkdir()
    return {"path": str(guest.folder / name)}


def test_a_scratch_disk_that_is_staged_is_that_of_the_container_that_has_it(guest: Guest) -> None:
    lower, upper, another = {"path": str(guest.lower)}, new_scratch(guest, "upper"), new_scratch(guest, "another")
    guest.host.call("disk.stage", **upper)
    assert sorted(path.name for path in Path(upper["path"]).iterdir()) == ["data", "work"]
    guest.container("c2", rootfs={"lower": lower, "upper": another})
    assert len(staged(guest)) == 1  # it is not c2's
    guest.container(rootfs={"lower": lower, "upper": upper})
    assert staged(guest) == []
    guest.first()
    assert guest.sh(WRITE) == (0, "of the container\nof the image\n", "")
    assert Path(upper["path"], "data/data/mine").exists() and not Path(another["path"], "data/data/mine").exists()
    guest.host.call("container.remove", id="c1")
    guest.container(rootfs={"lower": lower, "upper": upper})  # as any disk
    guest.start("again", "sleep", "1000", first=True)
    assert guest.sh("cat /data/mine", process="look")[1] == "of the container\n"


def test_a_scratch_disk_that_is_staged_makes_way_for_another_one_or_for_none(guest: Guest) -> None:
    for name in ("one", "other"):
        guest.host.call("disk.stage", **new_scratch(guest, name))
        assert len(staged(guest)) == 1
    for _ in "again is harmless":
        guest.host.call("disk.stage")
        assert staged(guest) == []
    guest.host.call("disk.stage", path=str(guest.folder / "one"))  # its folders are there
    assert len(staged(guest)) == 1


def test_nothing_is_staged_of_what_is_no_disk(guest: Guest) -> None:
    for wrong in ({"path": str(guest.folder / "nothing")}, {"target": 256}, {"target": -1}, {"disk": 1}):
        with pytest.raises(Refused):
            guest.host.call("disk.stage", **wrong)
        assert staged(guest) == []


def lowers(guest: Guest, count: int) -> list[dict[str, Any]]:
    """The image, and over it folders that each have a file of the same name."""
    made = []
    for n in range(count):
        path = guest.folder / f"lower{n}"
        (path / "data").mkdir(parents=True)
        (path / "data/file").write_text(f"of {n}\n")
        (path / f"data/of{n}").touch()
        made.append({"path": str(path), "type": "erofs", "options": ["ro"]})
    return [*made, {"path": str(guest.lower), "type": "erofs"}]


@pytest.mark.parametrize("count", [0, 1, 119])
def test_an_upper_disk_lies_over_lower_ones(guest: Guest, count: int) -> None:
    upper = guest.folder / "over"
    upper.mkdir()
    guest.container(rootfs={"lowers": lowers(guest, count), "upper": {"path": str(upper), "type": "ext4"}})
    guest.first()
    file = "of 0\n" if count else "of the image\n"
    assert guest.sh(WRITE) == (0, f"of the container\n{file}", "")
    assert guest.sh("ls /data | grep -c ^of; mv /data/sub /data/moved; mkdir /data/sub")[1] == f"{count}\n"
    guest.host.call("container.remove", id="c1")
    assert (upper / "upper/data/mine").read_text() == "of the container\n"
    assert not (guest.lower / "data/mine").exists() and not list(guest.folder.glob("c/*"))
    guest.container(rootfs={"lowers": lowers_of(guest), "upper": {"path": str(upper), "type": "ext4"}})
    guest.first()
    assert guest.sh("cat /data/mine /data/moved/deep; ls -A /data/sub")[1] == "of the container\ndeeper\n"


def lowers_of(guest: Guest) -> list[dict[str, Any]]:
    return [{"path": str(guest.lower), "type": "erofs"}]


def test_lower_disks_alone_are_read(guest: Guest) -> None:
    found = lowers(guest, 2)
    for name in ("dev", "proc", "sys", "etc"):
        (guest.folder / "lower1" / name).mkdir()
    for name in ("hosts", "hostname", "resolv.conf"):
        (guest.folder / "lower1/etc" / name).touch()
    guest.container(rootfs={"lowers": found}, read_only=True)
    guest.first()
    assert guest.sh("cat /data/file; touch /data/x") == (1, "of 0\n", "touch: /data/x: Read-only file system\n")


DISK = {"path": "/", "type": "ext4"}
LOWER = {"path": "/", "type": "erofs"}


@pytest.mark.parametrize(
    ("rootfs", "why"),
    [
        ({}, "it is of disks, or of a folder"),
        ({"folder": ""}, "it is of disks, or of a folder"),
        ({"upper": DISK}, "it is of disks, or of a folder"),
        ({"folder": "root", "lower": DISK}, "it is of disks, or of a folder"),
        ({"folder": "root", "upper": DISK}, "it is of disks, or of a folder"),
        ({"lower": {"path": "/"}}, "there is erofs and ext4"),
        ({"lowers": []}, "lay 0 disks"),
        ({"lowers": [LOWER]}, "lay 1 disks"),
        ({"lowers": [], "upper": DISK}, "lay 0 disks"),
        ({"lowers": [LOWER] * 121, "upper": DISK}, "lay 121 disks"),
        ({"lowers": [LOWER, {"path": "/"}]}, "there is erofs and ext4"),
        ({"lowers": [LOWER, {"path": "/nothing", "type": "erofs"}]}, "open /nothing"),
        ({"lowers": [LOWER, 1]}, "lowers"),
        ({"lowers": [LOWER], "lower": DISK}, "it is of disks, or of a folder"),
        ({"lowers": [LOWER], "folder": "root"}, "it is of disks, or of a folder"),
        ({"lower": {"path": "/", "type": "xfs"}}, "there is erofs and ext4"),
        ({"lower": {**DISK, "options": ["noload,ro"]}}, "it is no word"),
        ({"lower": {**DISK, "options": [""]}}, "it is no word"),
        ({"lower": {**DISK, "options": [1]}}, "options"),
        ({"lower": {**DISK, "colour": "red"}}, "colour"),
        ({"folder": "../c"}, "open ../c"),
        ({"folder": "link/data"}, "open link/data"),
        ({"folder": "nothing"}, "open nothing"),
        ({"folder": "root/data/file"}, ""),
    ],
)
def test_what_is_no_root_file_system_is_refused(guest: Guest, rootfs: dict[str, Any], why: str) -> None:
    shared(guest)
    os.symlink("root", guest.folder / "hyper/link")
    with pytest.raises(Refused) as refused:
        guest.container(rootfs=rootfs)
    assert why in str(refused.value)
    assert guest.host.call("list")["containers"] == []
    guest.container()
    guest.first()
    assert guest.sh("echo unharmed")[1] == "unharmed\n"
