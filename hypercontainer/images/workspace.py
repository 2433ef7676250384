"""A folder of its own for each pull, load or import under way: what it makes appears in the store whole or not at all.

The holder keeps a lock on it, and so do the processes it starts; a folder whose lock is free belongs to somebody who
was killed, and is swept by whoever opens the store next.
"""

import fcntl
import hashlib
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hypercontainer.errors import Exhausted
from hypercontainer.lib import cgroup, files, mount

log = logging.getLogger(__name__)

LOCK, CGROUPS = "lock", "cgroups"
IN_MEMORY = ("tmpfs", "ramfs")
LEAVING_S = 1.0  # for the kernel to take an ended process out of its cgroup


@contextmanager
def disk_full_is_told(verb: str, what: object) -> Iterator[None]:
    """Within the block an OSError of a disk that takes no more is raised as Exhausted."""
    try:
        yield
    except OSError as e:
        if e.errno not in files.FULL:
            raise
        raise Exhausted(f"cannot {verb} {what}: {os.strerror(e.errno)}; `hyperctl image prune` may free some") from e


class Workspace:
    """Files on their way into the store. `blob` names are digests that have been verified."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path, self.lock = path, lock

    @classmethod
    def make(cls, folder: Path) -> "Workspace":
        """A new one in `folder`, held by us."""
        path = folder / secrets.token_hex(8)
        path.mkdir(0o700)
        try:
            fd = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
            (path / "blobs").mkdir(0o700)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        return cls(path, fd)

    def blob(self, digest: str) -> Path:
        return self.path / "blobs" / digest.removeprefix("sha256:")

    def blobs(self) -> list[Path]:
        return sorted((self.path / "blobs").iterdir())

    def put(self, data: bytes) -> str:
        """Keep a small blob; returns its digest. One that is here stays as it is: it may be the store's file, too."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        with suppress(FileExistsError):
            fd = os.open(self.blob(digest), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as f:
                f.write(data)
        return digest

    def adopt(self, path: Path, digest: str) -> None:
        """Take a file that we wrote and hashed as the blob `digest`."""
        os.replace(path, self.blob(digest))

    def bound(self, memory: int, tasks: int) -> list[Path]:
        """A cgroup for a process that works here, with `memory` bytes and `tasks` threads at most: its folders. It
        goes with the workspace. [] where this host's cgroups are not ours to use."""
        folders = cgroup.plan(cgroup_name(self.path))
        files.replace(self.path / CGROUPS, "".join(f"{folder}\n" for folder in folders).encode(), durable=False)
        try:  # a file system in memory: what is written there would count as the process's own
            cgroup.create(folders, memory=None if mount.kind(self.path) in IN_MEMORY else memory, tasks=tasks)
        except OSError as e:
            log.warning("the process that unpacks has no cgroup, and its limits alone bound it: %s", e)
            return []
        if not folders:
            log.warning("the process that unpacks has no cgroup, and its limits alone bound it: there are none for us")
        return folders

    def close(self) -> None:
        """Remove it and all that is still in it. Its lock goes last."""
        _remove(self.path)  # what resists is left to the next sweep
        os.close(self.lock)


def cgroup_name(path: Path) -> str:
    """Of the workspace at `path` alone, and one can tell whose: other daemons' are in other folders."""
    home = hashlib.sha256(os.fsencode(path.parent.resolve())).hexdigest()[:8]
    return f"unpack-{path.name}-{home}"


def _remove(path: Path) -> None:
    """Remove a workspace in which nobody works any more, its cgroup first: it is written down in there."""
    try:
        folders = [Path(line) for line in (path / CGROUPS).read_text().splitlines()]
    except FileNotFoundError:
        folders = []
    until = time.monotonic() + LEAVING_S
    try:
        while not cgroup.remove(folders):  # a process leaves its cgroup last, after it has closed its files
            if time.monotonic() > until:
                return
            time.sleep(0.005)
    except OSError as e:
        log.warning("cannot remove the cgroup of %s: %s", path, e)
        return
    shutil.rmtree(path, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what killed holders left in `folder`. Like `make`, under the lock of the store."""
    for path in folder.iterdir():
        try:
            fd = os.open(path / LOCK, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:  # killed before it made the lock, or on its last steps out
            shutil.rmtree(path, ignore_errors=True)
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            _remove(path)
        finally:
            os.close(fd)
