"""A snapshot on disk: a folder with a machine's memory and devices, which appears whole or not at all."""

import os
import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hypercontainer.errors import HyperError
from hypercontainer.factory.sealed import SealedFile
from hypercontainer.hypervisor.base import Snapshot
from hypercontainer.lib import files, sparse
from hypercontainer.lib.tasks import in_thread

MEMORY, STATE = "memory", "state"
HALF = ".making-"


class SnapshotDir:
    """The folder `path`, under another name until `commit`. Two empty files are open in it: `memory`, `state`."""

    def __init__(self, path: Path, memory: int, state: int) -> None:
        self.memory, self.state = memory, state
        self._final, self._half = path, _half(path)

    @classmethod
    @contextmanager
    def make(cls, path: Path) -> Iterator["SnapshotDir"]:
        """A new one for the block; unless that commits it nothing is left. Exhausted when the disk is full."""
        half = _half(path)
        fds: list[int] = []
        try:
            with files.telling(f"save a virtual machine in {path}"):
                shutil.rmtree(half, ignore_errors=True)  # of a hyperd that was killed
                half.mkdir(mode=0o700, parents=True)
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                fds.extend(os.open(half / name, flags, 0o600) for name in (MEMORY, STATE))
            yield cls(path, *fds)
        finally:
            for fd in fds:
                os.close(fd)
            shutil.rmtree(half, ignore_errors=True)

    @property
    def folder(self) -> Path:
        """Where more files of it belong, before `commit`."""
        return self._half

    async def commit(self) -> None:
        """From the return on it outlives us and a power cut; what was there under its name has gone."""
        await in_thread(self._commit)

    def _commit(self) -> None:
        with files.telling(f"save a virtual machine in {self._final}"):
            for path in self._half.iterdir():
                files.fsync(path)
            files.fsync(self._half)
            shutil.rmtree(self._final, ignore_errors=True)
            os.rename(self._half, self._final)
            files.fsync(self._final.parent)


def sweep(folder: Path) -> None:
    """Remove from `folder` what a hyperd that was killed had begun."""
    for path in folder.glob(f"{HALF}*"):
        shutil.rmtree(path, ignore_errors=True)


class LoadedSnapshot:
    """A snapshot in memory, for as long as this object is kept: files that nobody can change, once sealed."""

    def __init__(self) -> None:
        self.memory, self.state = SealedFile("saved memory", 0), SealedFile("saved state", 0)

    def seal(self) -> Snapshot:
        """Nobody can change it from now on."""
        self.memory.seal()
        self.state.seal()
        return self.snapshot()

    def snapshot(self, complete: Callable[[], Awaitable[object]] | None = None) -> Snapshot:
        return Snapshot(memory=self.memory.fileno(), state=self.state.fileno(), complete=complete)

    def close(self) -> None:
        self.memory.close()
        self.state.close()


async def load(path: Path) -> LoadedSnapshot:
    """What was committed as `path`."""
    loaded = LoadedSnapshot()
    try:
        await in_thread(_load, path, loaded)
    except BaseException:
        loaded.close()
        raise
    return loaded


def _load(path: Path, loaded: LoadedSnapshot) -> None:
    for name, file in ((MEMORY, loaded.memory), (STATE, loaded.state)):
        try:
            source = os.open(path / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                sparse.copy(source, file.fileno())
            finally:
                os.close(source)
        except OSError as e:
            raise HyperError(f"cannot read {path / name}: {e.strerror}") from e


def _half(path: Path) -> Path:
    return path.with_name(f"{HALF}{path.name}")
