"""A container's root file system, of one of these kinds. All that is true of it is in its record."""

import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from hypercontainer.agent import messages as m
from hypercontainer.errors import InvalidInput, NotFound
from hypercontainer.lib import files
from hypercontainer.model.bundle import Disk as EngineDisk
from hypercontainer.model.record import (
    ContainerRecord,
    DiskRecord,
    DiskRootfsRecord,
    FileSystem,
    FolderRootfsRecord,
    RootfsRecord,
    StackedRootfsRecord,
)
from hypercontainer.storage import scratch

# Of the mount of a disk. "ro" is said by the disk itself.
ATTRIBUTES = ("nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "strictatime")
OPTIONS: Mapping[FileSystem, Sequence[str]] = {"erofs": ATTRIBUTES, "ext4": (*ATTRIBUTES, "discard", "noload")}


class Rootfs(Protocol):
    """A root file system, as a pod's machine takes it."""

    @property
    def disks(self) -> Sequence[DiskRecord]:
        """What is plugged into the machine for it."""

    @property
    def folders(self) -> Sequence[FolderRootfsRecord]:
        """What the machine is shown of this host's folders for it."""

    @property
    def scratch(self) -> Path | None:
        """The disk of all that the container changes; None where that is not on a disk of its own."""

    @property
    def read_only(self) -> bool:
        """Whether nobody in the guest can change it."""

    def place(self, target: int, folder: Path, further: Iterator[int]) -> None:
        """It is to be in a pod, its container's `folder` on this host named after that one's id. Disks have two
        numbers, from `target` on: the first of one that is read-only, the second of one that is written, as guests
        know them that waited. Where there are more, they have those of `further`."""

    async def prepare(self, size_mib: int, templates: Path) -> None:
        """Make on this host what the guest is to find, but for `folders`: a scratch disk of so many MiB, see
        `scratch.create`. What is there already stays as it is."""

    def request(self) -> m.Rootfs:
        """What the guest is asked to mount."""

    def __str__(self) -> str:
        """What it is of this host's, in words."""


class DiskRootfs:
    """An image's, or another file system on a disk."""

    def __init__(self, record: DiskRootfsRecord) -> None:
        self.record = record

    @property
    def disks(self) -> Sequence[DiskRecord]:
        return [disk for disk in (self.record.disk, self.record.scratch) if disk]

    @property
    def folders(self) -> Sequence[FolderRootfsRecord]:
        return []

    @property
    def scratch(self) -> Path | None:
        return Path(self.record.scratch.path) if self.record.scratch else None

    @property
    def read_only(self) -> bool:
        return all(disk.read_only for disk in self.disks)

    def place(self, target: int, folder: Path, further: Iterator[int]) -> None:
        for disk in self.disks:
            disk.target = target if disk.read_only else target + 1
        if self.record.scratch:
            self.record.scratch.path = str(folder / "scratch.img")

    async def prepare(self, size_mib: int, templates: Path) -> None:
        if (path := self.scratch) is None:
            return
        with files.telling(f"make {path.parent}"):
            path.parent.mkdir(mode=0o700, exist_ok=True)
        if not path.exists():
            await scratch.create(path, size_mib, templates)

    def request(self) -> m.Rootfs:
        disk, type, options = self.record.disk, self.record.type, self.record.options
        if self.record.scratch:
            usual = "" if type == "erofs" else type
            lower = m.Disk(target=disk.target, type=usual, options=options)
            return m.Rootfs(lower=lower, upper=m.Disk(target=self.record.scratch.target))
        read_only = ["ro"] if disk.read_only else []
        return m.Rootfs(lower=m.Disk(target=disk.target, type=type, options=[*read_only, *options]))

    def __str__(self) -> str:
        return f"disk {self.record.disk.path}"


class FolderRootfs:
    """A folder of this host, which both see each other's changes of."""

    def __init__(self, record: FolderRootfsRecord) -> None:
        self.record = record

    @property
    def disks(self) -> Sequence[DiskRecord]:
        return []

    @property
    def folders(self) -> Sequence[FolderRootfsRecord]:
        return [self.record]

    @property
    def scratch(self) -> Path | None:
        return None

    @property
    def read_only(self) -> bool:
        return self.record.read_only

    def place(self, target: int, folder: Path, further: Iterator[int]) -> None:
        self.record.share_path = f"{folder.name[:12]}-rootfs"

    async def prepare(self, size_mib: int, templates: Path) -> None:
        pass

    def request(self) -> m.Rootfs:
        return m.Rootfs(folder=self.record.share_path)

    def __str__(self) -> str:
        return f"folder {self.record.path}"


class StackedRootfs:
    """Disks that lie over each other."""

    def __init__(self, record: StackedRootfsRecord) -> None:
        self.record = record

    @property
    def disks(self) -> Sequence[DiskRecord]:
        return [*self.record.lowers, *([self.record.upper] if self.record.upper else [])]

    @property
    def folders(self) -> Sequence[FolderRootfsRecord]:
        return []

    @property
    def scratch(self) -> Path | None:
        return None

    @property
    def read_only(self) -> bool:
        return self.record.upper is None

    def place(self, target: int, folder: Path, further: Iterator[int]) -> None:
        first, *others = self.record.lowers
        first.target = target
        for disk in others:
            disk.target = next(further)
        if self.record.upper:
            self.record.upper.target = target + 1

    async def prepare(self, size_mib: int, templates: Path) -> None:
        pass

    def request(self) -> m.Rootfs:
        upper = m.Disk(target=self.record.upper.target, type="ext4") if self.record.upper else None
        return m.Rootfs(lowers=[m.Disk(target=disk.target, type="erofs") for disk in self.record.lowers], upper=upper)

    def __str__(self) -> str:
        return f"disk {self.disks[-1].path}"


def of(record: RootfsRecord) -> Rootfs:
    if isinstance(record, StackedRootfsRecord):
        return StackedRootfs(record)
    return DiskRootfs(record) if isinstance(record, DiskRootfsRecord) else FolderRootfs(record)


def disks(containers: Iterable[ContainerRecord]) -> list[DiskRecord]:
    """What is plugged into the machine that they are in."""
    return [disk for container in containers for disk in [*of(container.rootfs).disks, *container.further_disks]]


# New ones, each for one container that is not in a pod yet.


def image(path: Path) -> DiskRootfsRecord:
    """An image's, which is this EROFS file."""
    return DiskRootfsRecord(disk=DiskRecord(target=0, path=str(path), read_only=True), scratch=_scratch())


def disk(
    path: Path, type: FileSystem, *, read_only: bool, scratch: bool = False, options: Sequence[str] = ()
) -> DiskRootfsRecord:
    """A file system of that `type`, in a file or on a block device. `scratch`: what the container changes is on a disk
    of its own, and goes with it. NotFound, InvalidInput."""
    _check(path, type, read_only or scratch, options)
    mode = _mode(path)
    if not (stat.S_ISBLK(mode) or stat.S_ISREG(mode)):
        raise InvalidInput(f"cannot use {path} as a disk: it is no file and no block device")
    found = DiskRecord(target=0, path=str(path), read_only=read_only or scratch, device=stat.S_ISBLK(mode))
    return DiskRootfsRecord(disk=found, type=type, options=list(options), scratch=_scratch() if scratch else None)


def engine(disks: Sequence[EngineDisk]) -> RootfsRecord:
    """Of another engine's disks, as a bundle has them; whoever handed them over has looked at them. InvalidInput."""
    for disk in disks:
        _check(Path(disk.path), disk.type, disk.read_only, disk.options)
    records = [DiskRecord(target=0, path=d.path, read_only=d.read_only, device=d.device) for d in disks]
    if len(disks) == 1:
        return DiskRootfsRecord(disk=records[0], type=disks[0].type, options=disks[0].options)
    lowers, uppers = [[r for r in records if r.read_only == read_only] for read_only in (True, False)]
    return StackedRootfsRecord(lowers=lowers, upper=uppers[0] if uppers else None)


def _check(path: Path, type: FileSystem, read_only: bool, options: Sequence[str]) -> None:
    if unknown := [option for option in options if option not in OPTIONS[type]]:
        has = ", ".join(OPTIONS[type])
        raise InvalidInput(f"cannot mount {path} with option {unknown[0][:200]!r}: {type} has {has}")
    if type == "erofs" and not read_only:
        raise InvalidInput(f"cannot write to {path}: {type} is read-only; have it so, or with a scratch disk")


def folder(path: Path, *, read_only: bool) -> FolderRootfsRecord:
    """A folder of this host. One that is read-only must have all that is mounted on. NotFound, InvalidInput."""
    if not stat.S_ISDIR(_mode(path)):
        raise InvalidInput(f"cannot use {path} as a root file system: it is no folder")
    return FolderRootfsRecord(path=str(path), read_only=read_only)


def _scratch() -> DiskRecord:
    return DiskRecord(target=1, path="", read_only=False)


def _mode(path: Path) -> int:
    if not path.is_absolute():
        raise InvalidInput(f"cannot use {path} as a root file system: the path is not absolute")
    try:
        return path.stat().st_mode
    except OSError as e:
        raise NotFound("root file system", str(path), "name what is there") from e
