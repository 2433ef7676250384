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
from hypercontainer.lib import sparse
from hypercontainer.lib.tasks import uninterrupted

AHEAD = 8  # chunks taken from the caller before they are worked on
MAX_MEMBERS = 20_000  # of an archive of images
MAX_IMAGES = 1000
MAX_ARCHIVE = 512 << 30
MAX_DOCUMENTS = 64 << 20  # bytes of all documents of an archive together: they are read into memory

T = TypeVar("T")


class _Abandoned(HyperError):
    """The other side went away: told to the thread, never to a caller."""


class _Feed:
    """Chunks on their way from the loop to a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: queue.SimpleQueue[bytes | _Abandoned | None] = queue.SimpleQueue()
        self.room = asyncio.Semaphore(AHEAD)
        self._abandoned = False

    async def put(self, chunk: bytes) -> None:
        await self.room.acquire()
        self._items.put(chunk)

    def end(self) -> None:
        self._items.put(None)

    def abandon(self) -> None:
        self._abandoned = True
        self._items.put(_Abandoned("abandoned"))

    def plain(self) -> Iterator[bytes]:
        """What came, without its compression. Raises _Abandoned between any two pieces: kilobytes may be gigabytes."""
        for piece in compression.plain(self._chunks()):
            if self._abandoned:
                raise _Abandoned("abandoned")
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        while (item := self._items.get()) is not None:
            if isinstance(item, _Abandoned):
                raise item
            self._loop.call_soon_threadsafe(self.room.release)
            yield item


async def in_thread(chunks: AsyncIterator[bytes], work: Callable[[Iterator[bytes]], T]) -> T:
    """Run `work` over `chunks`, their compression taken off, in a thread. Left by any road, the thread has ended."""
    feed = _Feed()
    task = asyncio.get_running_loop().run_in_executor(None, work, feed.plain())
    task.add_done_callback(lambda _: feed.room.release())  # `put` must not wait for a thread that has failed
    try:
        async for chunk in chunks:
            await feed.put(chunk)
            if task.done():
                break
        feed.end()
        return await asyncio.shield(task)
    finally:
        try:
            if not task.done():
                feed.abandon()
                await uninterrupted(asyncio.wait([task]))
        finally:
            task.exception()  # it is the abandonment, what is being raised already, or came with what is


class File(NamedTuple):
    """A file of an archive, on disk."""

    path: Path
    size: int
    digest: str


class Archive:
    """The files of a tar by their names; links among them lead where they say, within the archive only.

    What is read of it into memory is bounded in all, however often one document is named: kilobytes may name megabytes
    a thousand times."""

    def __init__(self) -> None:
        self._room = MAX_DOCUMENTS
        self._abandoned = False
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

    def abandon(self) -> None:
        """Nobody waits any more: whoever still reads it, in a thread, hears so at the next file."""
        self._abandoned = True

    def file(self, name: str) -> File:
        """InvalidInput names what the archive lacks."""
        if self._abandoned:
            raise _Abandoned("abandoned")
        found = self.find(name)
        if found is None:
            raise InvalidInput(f"damaged archive: it has no file {tar.show(name.encode(errors='replace'))}")
        return found

    def read(self, name: str, limit: int) -> bytes:
        return self.content(self.file(name), tar.show(os.fsencode(name)), limit)

    def content(self, file: File, what: str, limit: int) -> bytes:
        """What is in a document of the archive."""
        if file.size > limit:
            raise InvalidInput(f"absurd archive: {what} has {file.size} bytes, {limit} at most")
        self._room -= file.size + tar.BLOCK
        if self._room < 0:
            raise InvalidInput(f"absurd archive: its documents have more than {MAX_DOCUMENTS} bytes in all")
        return file.path.read_bytes()

    def pieces(self, file: File) -> Iterator[bytes]:
        """What is in a layer of the archive, without its compression."""
        left = MAX_ARCHIVE
        with open(file.path, "rb") as f:
            for piece in compression.plain(iter(lambda: f.read(compression.PIECE), b"")):
                if self._abandoned:
                    raise _Abandoned("abandoned")
                left -= len(piece)
                if left < 0:
                    raise InvalidInput(f"absurd archive: a layer has more than {MAX_ARCHIVE} bytes")
                yield piece


def unpack(folder: Path, chunks: Iterator[bytes], tell: Callable[[str, int], None]) -> Archive:
    """Write every file of a tar into `folder`, under names of our own; `tell` of each."""
    archive = Archive()
    left = MAX_ARCHIVE
    stream = tar.Stream(chunks)
    reader = tar.Reader(stream)
    for number, entry in enumerate(reader):
        left -= entry.size
        if number >= MAX_MEMBERS or left < 0:
            raise InvalidInput("absurd archive: it has too many files, or they are too large")
        try:
            name = os.fsdecode(clean(entry.name))
            if entry.kind == tar.FILE and entry.sparse is None:
                archive.add(name, write(folder / f"file{number}", reader.data()))
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


def write(path: Path, pieces: Iterator[bytes] | Iterator[memoryview]) -> File:
    """A new file of `pieces`, their zeros as holes, and its digest."""
    digest, size = hashlib.sha256(), 0
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        for piece in pieces:
            digest.update(piece)
            if not sparse.hole(piece):
                sparse.write(fd, piece, size)
            size += len(piece)
        os.ftruncate(fd, size)
    finally:
        os.close(fd)
    return File(path, size, "sha256:" + digest.hexdigest())
