"""Checkpoints: a container's machine, disk and record at one moment, kept apart from the container, which may go."""

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from hypercontainer.errors import AlreadyExists, HyperError, InvalidInput, NotFound, reason
from hypercontainer.lib import document, files
from hypercontainer.model import ids, upgrade
from hypercontainer.model.record import ContainerRecord, PodRecord, Record, SnapshotInfo
from hypercontainer.sandbox.snapshot import files as snapshots
from hypercontainer.sandbox.snapshot.files import SnapshotDir

VERSION = document.version(upgrade.CHECKPOINT)
RECORD, DISK = "checkpoint.json", "scratch.img"
GRAVE = ".removing-"


class Checkpoint(Record, kw_only=True):
    version: int
    name: str
    snapshot: SnapshotInfo
    pod: PodRecord  # as it was, with the one container

    @property
    def container(self) -> ContainerRecord:
        return self.pod.containers[0]


class CheckpointStore:
    """`root`/<container id>/<name>/. See docs/state.md."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def sweep(self) -> list[str]:
        """Remove what a hyperd that was killed had begun to make or to remove; a line for each that is unreadable."""
        complaints = []
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for container in sorted(path for path in self.root.iterdir() if path.is_dir()):
            snapshots.sweep(container)
            for grave in container.glob(f"{GRAVE}*"):
                shutil.rmtree(grave, ignore_errors=True)
            for folder in container.iterdir():
                try:
                    self._read(folder)
                except HyperError as e:
                    complaints.append(str(e))
            _remove_empty(container)
        return complaints

    def all(self) -> list[Checkpoint]:
        """Of all containers, the oldest first, but those that cannot be read."""
        return sorted(self._readable(), key=lambda checkpoint: checkpoint.snapshot.time_ns)

    def _readable(self) -> Iterator[Checkpoint]:
        for folder in self.root.glob("*/*") if self.root.exists() else ():
            if not folder.name.startswith("."):
                try:
                    yield self._read(folder)
                except HyperError:
                    continue

    def _read(self, folder: Path) -> Checkpoint:
        try:
            found = document.read_versioned(folder / RECORD, Checkpoint, upgrade.CHECKPOINT)
        except OSError as e:
            raise HyperError(f"cannot read {folder / RECORD}: {reason(e)}") from e
        if len(found.pod.containers) != 1:
            raise HyperError(f"cannot use {folder}: it is of {len(found.pod.containers)} containers")
        return found

    def of(self, key: str) -> list[Checkpoint]:
        """Of the container with this id, name it had, or unique beginning of an id. NotFound when there is none."""
        known = self.all()
        found = [c for c in known if key in (c.container.id, c.container.name)]
        found = found or [c for c in known if key and c.container.id.startswith(key)]
        if not found:
            raise NotFound("checkpoint of container", key)
        if len({c.container.id for c in found}) > 1:
            raise InvalidInput(f"{key} is the beginning of several containers' ids, or was the name of several")
        return found

    def find(self, key: str, name: str) -> Checkpoint:
        for checkpoint in self.of(key):
            if checkpoint.name == name:
                return checkpoint
        raise NotFound("checkpoint", name, f"of container {key}")

    def folder(self, checkpoint: Checkpoint) -> Path:
        return self.root / checkpoint.container.id / checkpoint.name

    def size(self, checkpoint: Checkpoint) -> int:
        """Bytes of disk that it takes."""
        return sum(path.stat().st_blocks * 512 for path in self.folder(checkpoint).iterdir())

    def make(self, container: str, name: str) -> AbstractContextManager[SnapshotDir]:
        """A new one for the block; AlreadyExists. `write` its record into it, and commit it."""
        path = self.root / container / ids.check_name("checkpoint", name, ids.MAX_LABEL)
        if path.exists():
            words = f"there is a checkpoint {name!r} of this container: remove it, or take another name"
            raise AlreadyExists(words, "checkpoint", name)
        return SnapshotDir.make(path)

    def write(self, made: SnapshotDir, checkpoint: Checkpoint) -> None:
        with files.telling(f"save a virtual machine in {made.folder}"):
            files.replace(made.folder / RECORD, msgspec.json.format(msgspec.json.encode(checkpoint), indent=1))

    def remove(self, checkpoint: Checkpoint) -> None:
        folder = self.folder(checkpoint)
        grave = folder.with_name(f"{GRAVE}{folder.name}")
        shutil.rmtree(grave, ignore_errors=True)
        os.rename(folder, grave)
        shutil.rmtree(grave)
        _remove_empty(folder.parent)


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        pass  # it holds others
