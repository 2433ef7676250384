"""COPY and ADD: which files are meant, what the cache knows them by, and how they come into the container.

What is at the destination only the guest knows, where links are resolved inside the container's root: it is asked, and
it writes.
"""

import asyncio
import hashlib
import json
import posixpath
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple

from hypercontainer.engine.build.context import PIECE, Context, Node, member, walk
from hypercontainer.errors import GuestError, InvalidInput
from hypercontainer.images import compression, fetch, tar
from hypercontainer.sandbox import archive
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.pod import Pod

Owner = tuple[int, int]
ROOT: Owner = (0, 0)
END = bytes(1024)  # of a tar
HEAD = 1 << 16  # bytes of a tar that hold its first header
UNNAMED = "__unnamed__"  # of a URL, where the destination has a name for it
MAX_LINKS = 40
MAX_USERS = 4 << 20  # bytes of a passwd or group file
MAX_ID = (1 << 32) - 2


class Source(NamedTuple):
    """What one word of the instruction means."""

    context: Context
    path: str
    node: Node
    fetched: bool = False  # from a URL: never unpacked

    @property
    def name(self) -> str:
        return posixpath.basename(self.path)

    @property
    def is_folder(self) -> bool:
        return self.node.children is not None


class Copy(NamedTuple):
    """An instruction whose files are known."""

    word: str
    sources: Sequence[Source]
    to: str  # as it is written, but expanded
    chown: str
    keeps_owners: bool
    unpacks: bool

    def message(self) -> str:
        """As the history has it: the cache goes by this. Costs as much as there are files."""
        owner = f"--chown={self.chown}" if self.chown else ""  # docker has no blank there either
        digests = [_digest(source, self.keeps_owners) for source in self.sources]
        whole = digests[0] if len(digests) == 1 else f"multi:{hashlib.sha256(','.join(digests).encode()).hexdigest()}"
        return f"{self.word} {owner}{whole} in {self.to} "


def gather(context: Context, patterns: Sequence[str]) -> list[Source]:
    """What `patterns` mean, in their order. InvalidInput for one without wildcards that is not there."""
    found = []
    for pattern in patterns:
        for path in context.matching(pattern):
            node = context.find(path)
            if node is None:
                raise InvalidInput(
                    f"file not found in build context or excluded by .dockerignore: stat {path}: file does not exist"
                )
            found.append(Source(context, path, node))
    return found


async def fetched(url: str, to: str, path: Path) -> Source:
    """The file at a URL, its content at `path`; `to` is the destination as it is written. See images.fetch."""
    found = await fetch.fetch(url, path)
    if not found.name and to.endswith("/"):
        raise InvalidInput(f"cannot determine filename for source {url[:200]}")
    node = Node(tar.FILE, 0o600, mtime=found.modified_s)
    node.size, node.content = found.size, found.digest
    context = Context(path)
    context.root.children = {found.name or UNNAMED: node}
    return Source(context, found.name or UNNAMED, node, fetched=True)


def check(sources: Sequence[Source], word: str, to: str) -> None:
    if not sources:
        raise InvalidInput(f"{word} failed: no source files were specified")
    if len(sources) > 1 and not to.endswith("/"):
        raise InvalidInput(
            f"When using {word} with more than one source file, the destination must be a directory and end with a /"
        )
    for source in sources:
        for path, node in [(source.name, source.node), *walk(source.node)]:
            if node.kind not in (tar.FILE, tar.FOLDER, tar.SYMLINK):
                raise InvalidInput(f"cannot copy {path[:200]!r}: it is a device, pipe or socket")


def _digest(source: Source, owners: bool) -> str:
    digest = hashlib.sha256()
    inside = walk(source.node) if source.is_folder else [(source.name, source.node)]
    for path, node in inside:
        xattrs = {key.hex(): value.hex() for key, value in sorted(node.xattrs.items())}
        known = [path, node.kind, node.mode, node.size, node.content, node.link, xattrs]
        digest.update(json.dumps([*known, node.uid, node.gid] if owners else known).encode() + b"\n")
    kind = "" if source.fetched else "dir:" if source.is_folder else "file:"
    return kind + digest.hexdigest()


class Files:
    """The files of a container whose machine is there."""

    def __init__(self, pod: Pod, container: Container) -> None:
        self._pod, self._container = pod, container

    async def _head(self, path: str) -> tar.Entry | None:
        """What is at `path`; None when nothing is."""
        head = b""
        try:
            async with aclosing(archive.read(self._pod, self._container, path)) as pieces:
                async for piece in pieces:
                    head += piece
                    if len(head) >= HEAD:
                        break
        except GuestError as e:
            if e.errno in archive.ABSENT:
                return None
            raise
        entry = next(iter(tar.Reader(tar.Stream(iter([head])))), None)
        if entry is None:
            raise GuestError(f"cannot read {path}: the guest says nothing of it")
        return entry

    async def exists(self, path: str) -> bool:
        return await self._head(path) is not None

    async def is_folder(self, path: str) -> bool:
        return await self._head(f"{path.rstrip('/')}/.") is not None

    async def resolved(self, path: str) -> str:
        """Where `path` leads, when it is a link, and so on. Links to nowhere end there."""
        for _ in range(MAX_LINKS):
            entry = await self._head(path)
            if entry is None or entry.kind != tar.SYMLINK:
                return path
            link = entry.link.decode(errors="surrogateescape")
            path = link if link.startswith("/") else f"{posixpath.dirname(path)}/{link}"
        raise InvalidInput(f"cannot copy to {path[:200]!r}: too many links")

    async def content(self, path: str) -> bytes:
        """Of a file; b"" where there is none."""
        path = await self.resolved(path)
        data = b""
        try:
            async with aclosing(archive.read(self._pod, self._container, path)) as pieces:
                async for piece in pieces:
                    data += piece
                    if len(data) > MAX_USERS:
                        raise InvalidInput(f"cannot read {path} of the image: it has more than {MAX_USERS} bytes")
        except GuestError as e:
            if e.errno in archive.ABSENT:
                return b""
            raise
        reader = tar.Reader(tar.Stream(iter([data])))
        for entry in reader:
            return b"".join(bytes(piece) for piece in reader.data()) if entry.kind == tar.FILE else b""
        return b""

    async def make_folder(self, path: str, owner: Owner = ROOT) -> None:
        """With those above it, where they are missing; those that are there stay as they are."""
        missing: list[str] = []
        while path != "/" and not await self.is_folder(path):
            missing.insert(0, posixpath.basename(path))
            path = posixpath.dirname(path)
        if missing:
            names = ["/".join(missing[: n + 1]) for n in range(len(missing))]
            await self.write(path, _in_pieces(member(Node(tar.FOLDER, 0o755), name, owner) for name in names))

    async def write(self, folder: str, pieces: AsyncIterator[bytes]) -> None:
        await archive.write(self._pod, self._container, folder, pieces)


async def put(files: Files, copy: Copy, to: str) -> None:
    """Have the copy's files at the absolute path `to`, which keeps the slash that it was written with."""
    owner = await _owner(files, copy.chown) if copy.chown else ROOT
    slash = copy.to.endswith(("/", "/.")) or copy.to == "."
    for source in copy.sources:
        place = await files.resolved(to)
        if source.is_folder:
            if not await files.is_folder(place):
                await files.make_folder(place, owner)
            await files.write(place, _tree(source, None if copy.keeps_owners else owner))
        elif copy.unpacks and not source.fetched and await asyncio.to_thread(source.context.is_archive, source.node):
            await files.make_folder(place)
            await files.write(place, _threaded(compression.plain(source.context.pieces(source.node))))
        else:
            folder, name = posixpath.split(place)
            if slash or await files.is_folder(place):
                folder, name = place, source.name
            await files.make_folder(folder, owner)
            own = (source.node.uid, source.node.gid) if copy.keeps_owners else owner
            await files.write(folder, _threaded(_file(source.context, source.node, name, own)))


def _tree(source: Source, owner: Owner | None) -> AsyncGenerator[bytes, None]:
    """All that is in a folder; `owner` None: of those whose it is."""

    def pieces() -> Iterator[bytes]:
        for path, node in walk(source.node):
            yield from _member(source.context, node, path, owner or (node.uid, node.gid))
        yield END

    return _threaded(pieces())


def _file(context: Context, node: Node, name: str, owner: Owner) -> Iterator[bytes]:
    yield from _member(context, node, name, owner)
    yield END


def _member(context: Context, node: Node, name: str, owner: Owner) -> Iterator[bytes]:
    yield member(node, name, owner)
    if node.kind == tar.FILE:
        yield from context.pieces(node)
        yield bytes(-node.size % tar.BLOCK)


async def _threaded(pieces: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Pieces that are read from a disk, or decompressed, outside the event loop."""

    def some() -> bytes:
        data = bytearray()
        for piece in pieces:
            data += piece
            if len(data) >= PIECE:
                break
        return bytes(data)

    while data := await asyncio.to_thread(some):
        yield data


async def _in_pieces(pieces: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    for piece in pieces:
        yield piece
    yield END


async def _owner(files: Files, chown: str) -> Owner:
    """USER[:GROUP], by the image's own files; a group that is not said has the user's word."""
    user, colon, group = chown.partition(":")
    return (
        await _id(files, user, "/etc/passwd", "uid for user"),
        await _id(files, group if colon else user, "/etc/group", "gid for group"),
    )


async def _id(files: Files, word: str, path: str, what: str) -> int:
    if word.isascii() and word.isdigit():
        number = int(word[:11])
    else:
        lines = (await files.content(path)).decode(errors="replace").splitlines()
        fields = next((line.split(":") for line in lines if line.split(":")[0] == word), None)
        if not word or fields is None or len(fields) < 3 or not (fields[2].isascii() and fields[2].isdigit()):
            raise InvalidInput(f"unable to convert uid/gid chown string to host mapping: can't find {what} {word[:60]}")
        number = int(fields[2][:11])
    if number > MAX_ID:
        raise InvalidInput(f"cannot chown to {word[:60]}: {MAX_ID} is the highest")
    return number
