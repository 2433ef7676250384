"""Mounts that are disks of the machine, as containerd's snapshotters name them."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.shim import disks
from hypercontainer.hyperd.shim.messages import Mount
from hypercontainer.model.bundle import Disk

UPPER = Mount(type="ext4", source="/s/9/rwlayer.img", options=["rw", "loop"])


def lower(n: int, *options: str) -> Mount:
    return Mount(type="erofs", source=f"/s/{n}/layer.erofs", options=["ro", "loop", *options])


def overlay(*options: str) -> Mount:
    return Mount(type="format/mkdir/overlay", source="overlay", options=list(options))


WRITTEN = (
    "X-containerd.mkdir.path={{ mount 0 }}/upper:0755",
    "X-containerd.mkdir.path={{ mount 0 }}/work:0755",
    "workdir={{ mount 0 }}/work",
    "upperdir={{ mount 0 }}/upper",
)


def erofs(n: int) -> Disk:
    return Disk(path=f"/s/{n}/layer.erofs", type="erofs", read_only=True)


WRITABLE = Disk(path="/s/9/rwlayer.img", type="ext4", read_only=False)


@pytest.mark.parametrize(
    ("mounts", "found"),
    [
        ([], []),
        ([Mount(type="bind", source="/x", options=["rbind"])], []),
        ([Mount(type="overlay", source="overlay", options=["lowerdir=/a:/b"])], []),
        ([Mount(type="xfs", source="/dev/mapper/x", options=["nouuid"])], []),
        ([lower(1), overlay("workdir=/s/9/work", "upperdir=/s/9/fs", "lowerdir={{ mount 0 }}")], []),
        ([UPPER], [WRITABLE]),
        ([lower(1)], [erofs(1)]),
        (
            [Mount(type="ext4", source="/dev/mapper/x", options=["ro", "noload"])],
            [Disk(path="/dev/mapper/x", type="ext4", read_only=True, options=["noload"])],
        ),
        ([UPPER, lower(1), overlay(*WRITTEN, "lowerdir={{ mount 1 }}")], [erofs(1), WRITABLE]),
        ([UPPER, lower(2), lower(1), overlay(*WRITTEN, "lowerdir={{ overlay 1 2 }}")], [erofs(2), erofs(1), WRITABLE]),
        ([lower(2), lower(1), overlay("lowerdir={{ overlay 0 1 }}")], [erofs(2), erofs(1)]),
        ([lower(1), lower(2), overlay("lowerdir={{overlay 1 0}}")], [erofs(2), erofs(1)]),
    ],
)
def test_what_is_a_disk_and_what_is_mounted_here(mounts: Sequence[Mount], found: Sequence[Disk]) -> None:
    assert disks.of(mounts) == found


LAID = [UPPER, lower(2), lower(1)]


@pytest.mark.parametrize(
    ("mounts", "why"),
    [
        ([lower(1), lower(2)], "one after the other"),
        ([overlay("lowerdir={{ mount 1 }}"), lower(1)], "one after the other"),
        ([UPPER, Mount(type="format/mkdir/bind", source="{{ mount 0 }}/upper", options=["rw"])], "one after the other"),
        ([Mount(type="ext4", source="/x", target="/y")], "at /y"),
        ([Mount(type="ext4", source="x")], "not absolute"),
        ([*LAID, overlay(*WRITTEN, "lowerdir={{ overlay 1 3 }}")], "names no disk"),
        ([*LAID, overlay(*WRITTEN, "lowerdir={{ overlay 1 }}")], "names no disk"),
        ([*LAID, overlay(*WRITTEN, "lowerdir={{ mount 1 2 }}")], "names no disk"),
        ([*LAID, overlay(*WRITTEN, "lowerdir={{ source 1 }}")], "names no disk"),
        ([*LAID, overlay(*WRITTEN, "lowerdir={{ mount 1 }}/../..")], "names no disk"),
        ([*LAID, overlay(*WRITTEN, "lowerdir={{ mount 1 }}:/etc")], "names no disk"),
        ([*LAID, overlay(*WRITTEN)], "names no disk"),
        ([*LAID, overlay(*WRITTEN, "lowerdir={{ overlay 0 2 }}")], "has to be erofs ro"),
        ([*LAID, overlay(*WRITTEN, "lowerdir={{ mount 1 }}", "lowerdir={{ mount 2 }}")], "with option 'lowerdir="),
        ([*LAID, overlay(*WRITTEN, "lowerdir={{ mount 1 }}", "uidmap=0:1000:1")], "with option 'uidmap=0:1000:1'"),
        ([*LAID, overlay(*WRITTEN[:3], "lowerdir={{ mount 1 }}")], "names no disk"),
        (
            [*LAID, overlay("workdir={{ mount 0 }}/work", "upperdir={{ mount 1 }}/upper", "lowerdir={{ mount 2 }}")],
            "are",
        ),
        ([UPPER, lower(1, "X-containerd.dmverity=/s/1/v"), overlay(*WRITTEN, "lowerdir={{ mount 1 }}")], "dmverity"),
        ([UPPER, lower(1, "device=/s/2"), overlay(*WRITTEN, "lowerdir={{ mount 1 }}")], "device=/s/2"),
        ([UPPER, lower(1), lower(1), overlay(*WRITTEN, "lowerdir={{ overlay 1 2 }}")], "twice"),
    ],
)
def test_what_neither_is_is_refused(mounts: Sequence[Mount], why: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(why)):
        disks.of(mounts)


def test_what_needs_a_manager_of_mounts_is_not_made_here() -> None:
    with pytest.raises(InvalidInput, match="mkfs/xfs"):
        disks.check_made([Mount(type="mkfs/xfs", source="/x", options=["loop"])])
    disks.check_made([Mount(type="bind", source="/x")])


def test_what_is_opened_is_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path, options, why in (
        (file, ["loop"], ""),
        (file, [], "it is a file, and the options have no loop"),
        (tmp_path, ["loop"], "it is no disk"),
        (Path("/dev/null"), [], "it is no disk"),
    ):
        mount = Mount(type="ext4", source=str(path), options=options)
        found, fd = disks.of([mount]), os.open(path, os.O_PATH)
        try:
            if why:
                with pytest.raises(InvalidInput, match=why):
                    disks.look(found, [mount], {str(path): fd})
            else:
                assert disks.look(found, [mount], {str(path): fd}) == found
        finally:
            os.close(fd)
