"""The files that a build copies: a tar of a stranger's, written down as one file, and a tree of names in memory.

No path of the tar is ever one of this host's. Links in it lead where they would with the context as the root.
"""

import hashlib
import os
import posixpath
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from hypercontainer.errors import Exhausted, InvalidInput
from hypercontainer.images import compression, tar
from hypercontainer.images.tree import MAX_DEPTH, MAX_LINKS, Unacceptable, clean
from hypercontainer.lib import dockerignore

MAX_BYTES = 64 << 30
MAX_FILES = 500_000
PIECE = 1 << 18
WILD = re.compile(r"[*?\[\\]")


class Node:
    """A file, a folder or a link of the context. Hard links are files of one content."""

    __slots__ = ("at", "children", "content", "gid", "kind", "link", "mode", "mtime", "size", "uid", "xattrs")

    def __init__(self, kind: int, mode: int, uid: int = 0, gid: int = 0, mtime: int = 0) -> None:
        self.kind, self.mode, self.uid, self.gid, self.mtime = kind, mode & 0o7777, uid, gid, mtime
        self.at = self.size = 0  # of the content, in the file
        self.content = ""  # its digest
        self.link = ""  # where it leads
        self.xattrs: dict[bytes, bytes] = {}
        self.children: dict[str, Node] | None = {} if kind == tar.FOLDER else None


class Context:
    """What was sent for a build, or was read out of another stage."""

    def __init__(self, path: Path) -> None:
        """Nothing yet; `path` is where the content of files will be."""
        self._path = path
        self.root = Node(tar.FOLDER, 0o755)
        self._size = self._files = 0

    def fill(self, pieces: Iterator[bytes]) -> None:
        """Take a tar in, without its compression. InvalidInput says what is wrong with it, Exhausted that it is too
        large. Blocking."""
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb", buffering=PIECE) as out:
            stream = tar.Stream(pieces)
            reader = tar.Reader(stream)
            for entry in reader:
                try:
                    self._take(entry, reader, out)
                except Unacceptable as e:
                    raise InvalidInput(f"cannot read the context: entry {tar.show(entry.name)}: {e}") from e
            for _ in stream.pieces(MAX_BYTES):
                pass  # what follows the end mark

    def _take(self, entry: tar.Entry, reader: tar.Reader, out: BinaryIO) -> None:
        name = os.fsdecode(clean(entry.name))
        if not name:
            return
        if entry.kind == tar.LINK:
            found = self._at(os.fsdecode(clean(entry.link)).split("/"))
            if found is None or found.children is not None:
                raise Unacceptable("it is a hard link to what is not there")
            self._put(name, found)
            return
        if entry.sparse is not None:
            raise Unacceptable("it is a sparse file")
        node = Node(entry.kind, entry.mode, entry.uid, entry.gid, entry.mtime_ns // 1_000_000_000)
        node.xattrs = entry.xattrs
        if entry.kind == tar.FOLDER:
            self._put_folder(name, node)
            return
        if entry.kind == tar.FILE:
            self._write(node, entry, reader, out)
        elif entry.kind == tar.SYMLINK:
            node.link = os.fsdecode(entry.link)
        self._put(name, node)

    def _write(self, node: Node, entry: tar.Entry, reader: tar.Reader, out: BinaryIO) -> None:
        digest = hashlib.sha256()
        if self._size + entry.size > MAX_BYTES:
            raise Exhausted(f"cannot take the context: it has more than {MAX_BYTES} bytes")
        node.at, node.size = self._size, entry.size
        for piece in reader.data():
            digest.update(piece)
            out.write(piece)
        self._size += entry.size
        node.content = digest.hexdigest()

    def _folder(self, parts: list[str]) -> dict[str, Node]:
        """The children of a folder, which is made, and what stands in its way goes."""
        if len(parts) > MAX_DEPTH:
            raise Unacceptable(f"its folders are more than {MAX_DEPTH} deep")
        here = self.root
        for part in parts:
            assert here.children is not None  # noqa: S101  only folders are gone into
            child = here.children.get(part)
            if child is None or child.children is None:
                self._count()
                child = here.children[part] = Node(tar.FOLDER, 0o755)
            here = child
        assert here.children is not None  # noqa: S101
        return here.children

    def _count(self) -> None:
        """One more file: folders that names imply are some, too."""
        self._files += 1
        if self._files > MAX_FILES:
            raise Exhausted(f"cannot take the context: it has more than {MAX_FILES} files")

    def _put(self, name: str, node: Node) -> None:
        self._count()
        *above, base = name.split("/")
        self._folder(above)[base] = node

    def _put_folder(self, name: str, node: Node) -> None:
        self._count()
        *above, base = name.split("/")
        siblings = self._folder(above)
        old = siblings.get(base)
        if old is not None and old.children is not None:
            node.children = old.children
        siblings[base] = node

    # reading

    def find(self, path: str, *, follow: bool = True) -> Node | None:
        """What is at `path`, links on the way followed within the context; `follow`: and at its end."""
        resolved = self.resolve(path, follow=follow)
        return None if resolved is None else self._at(resolved)

    def _at(self, parts: list[str]) -> Node | None:
        here: Node | None = self.root
        for part in parts:
            here = here.children.get(part) if here is not None and here.children is not None else None
        return here

    def resolve(self, path: str, *, follow: bool = True) -> list[str] | None:
        """The parts of where `path` leads; None where a link leads nowhere, or around."""
        done: list[str] = []
        left = path.split("/")[::-1]
        links = 0
        while left:
            part = left.pop()
            if part in ("", "."):
                continue
            if part == "..":
                done = done[:-1]
                continue
            node = self._at([*done, part])
            if node is None:
                return None
            if node.kind == tar.SYMLINK and (left or follow):
                links += 1
                if links > MAX_LINKS:
                    return None
                done = [] if node.link.startswith("/") else done
                left += node.link.split("/")[::-1]
                continue
            done.append(part)
        return done

    def read(self, node: Node, limit: int) -> bytes:
        if node.size > limit:
            raise InvalidInput(f"cannot read a file of the context: it has {node.size} bytes, {limit} at most")
        return b"".join(self.pieces(node))

    def pieces(self, node: Node) -> Iterator[bytes]:
        """The content of a file."""
        with open(self._path, "rb") as f:
            f.seek(node.at)
            left = node.size
            while left:
                piece = f.read(min(PIECE, left))
                if not piece:
                    raise InvalidInput("the context was cut short")
                left -= len(piece)
                yield piece

    def is_archive(self, node: Node) -> bool:
        """A file that ADD unpacks: a tar, compressed or not."""
        try:
            stream = tar.Stream(compression.plain(self.pieces(node)))
            return next(iter(tar.Reader(stream)), None) is not None
        except InvalidInput:
            return False

    def matching(self, pattern: str) -> list[str]:
        """The paths that a source means: itself, or all that its wildcards match, sorted."""
        path = posixpath.normpath(pattern.lstrip("/") or ".")
        if not WILD.search(path):
            return [path]
        try:
            rule = dockerignore.Pattern(re.sub(r"\*+", "*", path))
        except ValueError as e:
            raise InvalidInput(str(e)) from e
        return [name for name, _ in walk(self.root) if rule(name)]

    def remove(self, path: str) -> None:
        """Leave a file out."""
        *above, base = path.split("/")
        folder = self._at(above)
        if folder is not None and folder.children is not None:
            folder.children.pop(base, None)


def walk(node: Node, above: str = "") -> Iterator[tuple[str, Node]]:
    """All that is in a folder, by names relative to it: what is above comes first."""
    for name, child in sorted((node.children or {}).items()):
        path = f"{above}{name}"
        yield path, child
        if child.children is not None:
            yield from walk(child, f"{path}/")


def member(node: Node, name: str, owner: tuple[int, int]) -> bytes:
    """The header of a tar's member."""
    info = tarfile.TarInfo(name)
    info.type = bytes([node.kind])
    info.mode, (info.uid, info.gid), info.mtime = node.mode, owner, node.mtime
    info.size, info.linkname = node.size, node.link
    info.pax_headers = {
        f"SCHILY.xattr.{key.decode(errors='surrogateescape')}": value.decode(errors="surrogateescape")
        for key, value in node.xattrs.items()
    }
    return info.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")
