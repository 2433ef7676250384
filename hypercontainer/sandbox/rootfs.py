"""A container's root file system, of one of these kinds. All that is true of it is in its record."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from hypercontainer.agent import messages as m
from hypercontainer.lib import files
from hypercontainer.model.record import ContainerRecord, DiskRecord, DiskRootfsRecord, RootfsRecord
from hypercontainer.storage import scratch


class Rootfs(Protocol):
    """A root file system, as a pod's machine takes it."""

    @property
    def disks(self) -> Sequence[DiskRecord]:
        """What is plugged into the machine for it."""

    @property
    def scratch(self) -> Path:
        """The disk of what the container has changed."""

    def place(self, target: int, folder: Path) -> None:
        """It is to be in a pod: two numbers of disks from `target` on are its own, and `folder` on this host."""

    async def prepare(self, size_mib: int, templates: Path) -> None:
        """Make on this host what the guest is to find: a scratch disk of so many MiB, see `scratch.create`. What is
        there already stays as it is."""

    def request(self) -> m.Rootfs:
        """What the guest is asked to mount."""


class DiskRootfs:
    def __init__(self, record: DiskRootfsRecord) -> None:
        self.record = record

    @property
    def disks(self) -> Sequence[DiskRecord]:
        return [self.record.disk, self.record.scratch]

    @property
    def scratch(self) -> Path:
        return Path(self.record.scratch.path)

    def place(self, target: int, folder: Path) -> None:
        self.record.disk.target, self.record.scratch.target = target, target + 1
        self.record.scratch.path = str(folder / "scratch.img")

    async def prepare(self, size_mib: int, templates: Path) -> None:
        folder = self.scratch.parent
        with files.telling(f"make {folder}"):
            folder.mkdir(mode=0o700, exist_ok=True)
        if not self.scratch.exists():
            await scratch.create(self.scratch, size_mib, templates)

    def request(self) -> m.Rootfs:
        lower, upper = (m.Disk(target=disk.target) for disk in self.disks)
        return m.Rootfs(lower=lower, upper=upper)


def of(record: RootfsRecord) -> Rootfs:
    return DiskRootfs(record)


def image(path: Path) -> DiskRootfsRecord:
    """An image's, for one container that is not in a pod yet: no write changes a byte of the image."""
    disk = DiskRecord(target=0, path=str(path), read_only=True)
    return DiskRootfsRecord(disk=disk, scratch=DiskRecord(target=1, path="", read_only=False))


def disks(containers: Iterable[ContainerRecord]) -> list[DiskRecord]:
    """What is plugged into the machine that they are in."""
    return [disk for container in containers for disk in of(container.rootfs).disks]
