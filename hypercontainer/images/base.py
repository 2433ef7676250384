"""A root file system that we have written, read again: as a tree, on top of which more layers go without those below;
and whether something is in it."""

import os
import stat
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from typing import NamedTuple

from hypercontainer.errors import HyperError
from hypercontainer.images import erofs
from hypercontainer.images.erofs import (
    BLOCK,
    DIRENT,
    INODE,
    MARK,
    SLOT,
    SUPERBLOCK,
    SUPERBLOCK_AT,
    WORD,
    XATTR,
    XATTR_HEADER,
)
from hypercontainer.images.tree import MAX_LINKS, Node, Tree

PREFIXES = {number: prefix for prefix, number in erofs.XATTR_PREFIXES.items()}
SPECIAL = (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO)
END = 1 << 62  # of content, for who reads none


class Base(NamedTuple):
    """What a file system holds: its files that are no folders, and where their content ends, in blocks."""

    nodes: list[Node]
    end: int


def read(fd: int, tree: Tree) -> Base | None:
    """Fill `tree`, which is empty, with what is in the EROFS file; None for one that was written before files told
    where their content ends. The file is ours: nobody else has written to it."""
    with mmap(fd, 0, access=ACCESS_READ) as data:
        root, meta, volume = _superblock(data)
        word, end = MARK.unpack(volume)
        return _Reader(data, meta, end).read(tree, root) if word == WORD else None


def holds(fd: int, path: str) -> bool:
    """Whether something is at `path` of the EROFS file, as guests find it: a link's absolute target begins at its root,
    and ".." ends there. The file is ours."""
    with mmap(fd, 0, access=ACCESS_READ) as data:
        root, meta, _ = _superblock(data)
        return _Reader(data, meta, END).leads(root, os.fsencode(path))


def _superblock(data: mmap) -> tuple[int, int, bytes]:
    """The number of the root's inode, where inodes begin, and the name of the volume."""
    magic, *_, root, _, _, _, _, meta, _, _, volume, _ = SUPERBLOCK.unpack_from(data, SUPERBLOCK_AT)
    if magic != erofs.MAGIC:
        raise HyperError("cannot read a root file system: it is damaged")
    return root, meta * BLOCK, volume


class _Reader:
    def __init__(self, data: mmap, meta: int, end: int) -> None:
        self._data, self._meta, self._end = data, meta, end
        self._known: dict[int, Node] = {}  # by number: one with several names is one node

    def read(self, tree: Tree, root: int) -> Base:
        top, content = self._node(root)
        for word in ("mode", "uid", "gid", "mtime_ns", "xattrs"):
            setattr(tree.root, word, getattr(top, word))
        todo = [(tree.root, content)]
        while todo:
            here, content = todo.pop()
            for name, nid in _names(content):
                node, below = (self._known[nid], b"") if nid in self._known else self._node(nid)
                tree.add(here, name, node)
                if node.children is not None:
                    todo.append((node, below))
                else:
                    self._known[nid] = node
        return Base(list(self._known.values()), self._end)

    def leads(self, root: int, path: bytes) -> bool:
        way, todo, links = [self._node(root)], path.split(b"/")[::-1], 0
        while todo:
            part = todo.pop()
            here, content = way[-1]
            if here.children is None:
                return False
            if part in (b"", b"."):
                continue
            if part == b"..":
                way = way[:-1] or way
                continue
            nid = next((nid for name, nid in _names(content) if name == part), None)
            if nid is None:
                return False
            found = self._node(nid)
            if not found[0].is_link:
                way.append(found)
                continue
            links += 1
            if links > MAX_LINKS:
                return False
            target = self._target(found[0])
            todo += target.split(b"/")[::-1]
            way = way[:1] if target.startswith(b"/") else way
        return True

    def _target(self, link: Node) -> bytes:
        beside = link.block * BLOCK
        return self._data[beside : beside + link.size] if link.inline is None else link.inline

    def _node(self, nid: int) -> tuple[Node, bytes]:
        """A node as it was before it had its place, and what is in it if it is a folder."""
        at = self._meta + nid * SLOT
        form, attributes, mode, _, size, place, _, uid, gid, s, ns, _ = INODE.unpack_from(self._data, at)
        node = Node(mode, uid, gid, s * 1_000_000_000 + ns)
        body = XATTR_HEADER.size + 4 * (attributes - 1) if attributes else 0
        at += INODE.size
        if body:
            node.xattrs = dict(_attributes(self._data[at + XATTR_HEADER.size : at + body]))
        if stat.S_IFMT(mode) in SPECIAL:
            node.rdev = place
            return node, b""
        inline = form >> 1 == erofs.INLINE
        beside = at + body if inline else place * BLOCK
        if node.children is not None:
            return node, self._data[beside : beside + size]
        node.size = size
        if inline or not size or place >= self._end:  # it was beside its inode, or had no room there
            node.inline = self._data[beside : beside + size] if size else b""
        else:
            node.block = place
        return node, b""


def _attributes(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(body):
        length, prefix, size = XATTR.unpack_from(body, at)
        name = at + XATTR.size
        yield PREFIXES[prefix] + body[name : name + length], body[name + length : name + length + size]
        at += XATTR.size + length + size
        at += -at % 4


def _names(content: bytes) -> Iterator[tuple[bytes, int]]:
    """The names in a folder, each with the number of its inode."""
    for start in range(0, len(content), BLOCK):
        block = content[start : start + BLOCK]
        count = DIRENT.unpack_from(block)[1] // DIRENT.size
        entries = [DIRENT.unpack_from(block, n * DIRENT.size) for n in range(count)]
        ends = [entry[1] for entry in entries[1:]] + [len(block.rstrip(b"\0"))]
        for (nid, at, _, _), end in zip(entries, ends, strict=True):
            if (name := block[at:end]) not in (b".", b".."):
                yield name, nid
