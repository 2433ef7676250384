"""Chunks that arrive on the event loop -> blocking work in a thread, with back-pressure; and a tar's files on disk."""

import asyncio
import hashlib
import os
import queue
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from hypercontainer.errors import HyperError, InvalidInput
from hypercontainer.images import compression, tar
from hypercontainer.images.tree import Unacceptable, clean

AHEAD = 8  # chunks taken from the caller before they are worked on
MAX_MEMBERS = 20_000  # of an archive of images
MAX_ARCHIVE = 512 << 30

T = TypeVar("T")


class _Abandoned(HyperError):
    """The other side went away: told to the thread, never to a caller."""


class _Feed:
    """Chunks on their way from the loop to a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: queue.SimpleQueue[bytes | _Abandoned | None] = queue.SimpleQueue()
        self.room = asyncio.Semaphore(AHEAD)

    async def put(self, chunk: bytes) -> None:
        await self.room.acquire()
        self._items.put(chunk)

    def end(self) -> None:
        self._items.put(None)

    def abandon(self) -> None:
        self._items.put(_Abandoned("abandoned"))

    def chunks(self) -> Iterator[bytes]:
        while (item := self._items.get()) is not None:
            if isinstance(item, _Abandoned):
                raise item
            self._loop.call_soon_threadsafe(self.room.release)
            yield item


async def in_thread(chunks: AsyncIterator[bytes], work: Callable[[Iterator[bytes]], T]) -> T:
    """Run `work` over `chunks` in a thread. Left by any road, the thread has ended."""
    feed = _Feed()
    task = asyncio.get_running_loop().run_in_executor(None, work, feed.chunks())
    task.add_done_callback(lambda _: feed.room.release())  # `put` must not wait for a thread that has failed
    try:
        async for chunk in chunks:
            await feed.put(chunk)
            if task.done():
                break
        feed.end()
        return await asyncio.shield(task)
    finally:
        if not task.done():
            feed.abandon()
            await asyncio.wait([task])
            task.exception()  # it is the abandonment, or what is being raised already


class File(NamedTuple):
    """A file of an archive, on disk."""

    path: Path
    size: int
    digest: str


class Archive:
    """The files of a tar by their names; links among them lead where they say, within the archive only."""

    def __init__(self) -> None:
        self._files: dict[str, File] = {}
        self._links: dict[str, str] = {}

    def add(self, name: str, file: File) -> None:
        self._files[name] = file

    def add_link(self, name: str, target: str) -> None:
        self._links[name] = target

    def find(self, name: str) -> File | None:
        for _ in range(10):
            if name in self._files:
                return self._files[name]
            if name not in self._links:
                return None
            name = self._links[name]
        return None

    def file(self, name: str) -> File:
        """InvalidInput names what the archive lacks."""
        found = self.find(name)
        if found is None:
            raise InvalidInput(f"damaged archive: it has no file {tar.show(name.encode(errors='replace'))}")
        return found

    def read(self, name: str, limit: int) -> bytes:
        found = self.file(name)
        if found.size > limit:
            raise InvalidInput(f"absurd archive: {name} has {found.size} bytes, {limit} at most")
        return found.path.read_bytes()


def unpack(folder: Path, chunks: Iterator[bytes], tell: Callable[[str, int], None]) -> Archive:
    """Write every file of a tar (compressed or not) into `folder`, under names of our own; `tell` of each."""
    archive = Archive()
    left = MAX_ARCHIVE
    stream = tar.Stream(compression.plain(chunks))
    reader = tar.Reader(stream)
    for number, entry in enumerate(reader):
        left -= entry.size
        if number >= MAX_MEMBERS or left < 0:
            raise InvalidInput("absurd archive: it has too many files, or they are too large")
        try:
            name = os.fsdecode(clean(entry.name))
            if entry.kind == tar.FILE and entry.sparse is None:
                archive.add(name, _write(folder / f"file{number}", reader.data()))
                tell(name, entry.size)
            elif entry.kind == tar.LINK:
                archive.add_link(name, os.fsdecode(clean(entry.link)))
            elif entry.kind == tar.SYMLINK:
                archive.add_link(name, _target(name, os.fsdecode(entry.link)))
        except Unacceptable as e:
            raise InvalidInput(f"cannot read archive: entry {tar.show(entry.name)}: {e}") from e
    for _ in stream.pieces(left):
        pass  # what follows the end mark
    return archive


def _target(name: str, link: str) -> str:
    """Where a symbolic link leads, as a name in the archive; it is only ever looked up."""
    return os.path.normpath(os.path.join(os.path.dirname(name), link))


def _write(path: Path, pieces: Iterator[memoryview]) -> File:
    digest, size = hashlib.sha256(), 0
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb", buffering=0) as f:
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
            while piece:
                piece = piece[f.write(piece) :]
    return File(path, size, "sha256:" + digest.hexdigest())
