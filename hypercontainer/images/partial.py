"""Blobs on their way in: a file each, locked by whoever fetches it, kept when that one is cut short."""

import asyncio
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

PIECE = 1 << 20
POLL_S = 0.1  # how often to look whether the other process that fetches it has ended


class Partial:
    """A registry.Sink on disk. Hashing and writing happen in threads."""

    def __init__(self, path: Path, fd: int, tell: Callable[[int], None]) -> None:
        self._path, self._fd, self._tell = path, fd, tell
        self._hash, self._offset = hashlib.sha256(), 0
        self._finished = False

    @property
    def offset(self) -> int:
        return self._offset

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()

    def recall(self, size: int) -> None:
        """Hash what an earlier attempt left; more than `size` bytes of it cannot be right."""
        if os.fstat(self._fd).st_size > size:
            os.ftruncate(self._fd, 0)
        while data := os.pread(self._fd, PIECE, self._offset):
            self._hash.update(data)
            self._offset += len(data)

    async def write(self, data: bytes) -> None:
        await _through(self._append, data)
        self._tell(self._offset)

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            done = os.pwrite(self._fd, view, self._offset)
            self._hash.update(view[:done])
            self._offset += done
            view = view[done:]

    async def reset(self) -> None:
        os.ftruncate(self._fd, 0)
        self._hash, self._offset = hashlib.sha256(), 0

    def finish(self, ours: Path, place: Path) -> None:
        """It is whole and verified: let `ours` hold it, then let it be at `place` for everybody."""
        with suppress(FileExistsError):
            os.link(self._path, ours)
        os.replace(self._path, place)
        self._finished = True

    def close(self) -> None:
        if not self._finished and not self._offset:
            self._path.unlink(missing_ok=True)
        os.close(self._fd)


async def _through(work: Callable[[bytes], None], data: bytes) -> None:
    """In a thread, and not left before the thread is done with what it works on."""
    task = asyncio.ensure_future(asyncio.to_thread(work, data))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


@asynccontextmanager
async def held(path: Path, size: int, tell: Callable[[int], None]) -> AsyncIterator[Partial]:
    """The partial blob at `path`, ours alone for the block; waits while another process or task has it."""
    fd = await _lock(path)
    partial = Partial(path, fd, tell)
    try:
        await _through(lambda _: partial.recall(size), b"")
        yield partial
    finally:
        partial.close()


async def _lock(path: Path) -> int:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, fd):
                return fd
        except BlockingIOError:
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        await asyncio.sleep(POLL_S)


def _is_at(path: Path, fd: int) -> bool:
    """Whether `path` still is this file: its last holder may have finished it, or given up."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False
