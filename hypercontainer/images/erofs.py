"""Writing EROFS files, without compression, as they are specified in Linux' fs/erofs/erofs_fs.h.

The content of files is written as it comes, each from the beginning of a block; then the folders; then the inodes.
No time and no randomness goes in: the same layers make the same file, to the byte.
"""

import os
import stat
import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from hypercontainer.images.tree import Node, Tree, children
from hypercontainer.lib import sparse

BLOCK = 4096
PAGE = 65536  # the largest of a guest's kernel, which reads whole ones: the file ends with one
SLOT = 32  # inodes are numbered by their place in slots
MAGIC = 0xE0F5E1E2
SUPERBLOCK = struct.Struct("<IIIBBHQQIIII16s16sI44x")  # at SUPERBLOCK_AT
SUPERBLOCK_AT = 1024
INODE = struct.Struct("<HHHHQIIIIQII16x")  # "extended"
DIRENT = struct.Struct("<QHBB")
MARK = struct.Struct("<8sQ")  # in place of a volume's name: that we wrote it, and in which block its content ends
WORD = b"hyper\0\0\0"
XATTR = struct.Struct("<BBH")
XATTR_HEADER = struct.Struct("<IB7x")
PLAIN, INLINE = 0, 2  # data layouts
COMPAT_MTIME = 2  # times are times of modification
NO_BLOCK = 0xFFFFFFFF
FIRST_NID = 2  # 0 is no inode number that programs take for one
MAX_INLINE = 1024  # bytes of a file, or of a folder's list, that lie beside their inode
MAX_KEPT = 64 << 20  # bytes of short files that wait in memory for their inodes
XATTR_PREFIXES = {b"user.": 1, b"trusted.": 4, b"security.": 6}
TYPES = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFLNK: 7,
}


class Writer:
    """An EROFS file on its way to `out`, which is empty, seekable, and flushed by its owner."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._block = 1  # the next free one; the first is the superblock's
        self._kept = 0
        self._taken: list[tuple[Node, int, int]] = []  # whose content lies in which blocks: first, count
        out.seek(BLOCK)

    def go_on(self, end: int, nodes: Iterable[Node]) -> None:
        """The file has the content of `nodes` already, and of others, up to block `end`."""
        for node in nodes:
            if node.inline is None and stat.S_ISREG(node.mode):
                self._taken.append((node, node.block, -(-node.size // BLOCK)))
            elif stat.S_ISREG(node.mode):
                self._kept += node.size
        self._block = end
        self._out.seek(end * BLOCK)

    def content(self, node: Node, size: int, pieces: Iterable[memoryview]) -> None:
        """Take a file's content, `size` bytes in `pieces`."""
        node.size = size
        if size <= MAX_INLINE and self._kept < MAX_KEPT:
            node.inline = b"".join(bytes(piece) for piece in pieces)
            self._kept += size
            return
        self._take(node, size)
        self._write(pieces)
        self._out.write(bytes(-size % BLOCK))

    def sparse(self, node: Node, size: int, parts: Iterable[tuple[int, Iterable[memoryview]]]) -> None:
        """Take a file that is mostly holes: (offset, content) of each part, in their order."""
        node.size = size
        self._take(node, size)
        for offset, pieces in parts:
            self._out.seek(node.block * BLOCK + offset)
            self._write(pieces)
        self._out.seek(self._block * BLOCK)

    def _write(self, pieces: Iterable[memoryview]) -> None:
        """Kilobytes of a layer can be gigabytes of zeros: they take no room on the disk either."""
        for piece in pieces:
            if sparse.hole(piece):
                self._out.seek(len(piece), os.SEEK_CUR)
            else:
                self._out.write(piece)

    def _take(self, node: Node, size: int) -> None:
        count = -(-size // BLOCK)
        node.block = self._block
        self._taken.append((node, self._block, count))
        self._block += count

    def finish(self, tree: Tree) -> list[tuple[int, int]]:
        """Write what remains: folders, inodes, the superblock.

        Returns the (offset, length) in bytes of content that no name leads to any more: later layers replaced it."""
        nodes, content_end = list(tree.walk()), self._block
        for node in nodes:
            if node.children is not None:
                node.size = folder_size(node)
                node.inline = b"" if node.size <= MAX_INLINE else None  # made when its children have numbers
                node.inline = node.inline if _inode_size(node) <= BLOCK else None
            elif node.inline is not None and _inode_size(node) > BLOCK:
                self.content_block(node)
        end = self._number(nodes)
        meta = self._block
        for node in nodes:
            if node.children is not None and node.inline is None:
                node.block = meta
                meta += -(-node.size // BLOCK)
        for node in nodes:
            if node.children is not None and node.inline is None:
                self._out.write(b"".join(folder_blocks(node)).ljust(-(-node.size // BLOCK) * BLOCK, b"\0"))
        self._write_inodes(nodes, end)
        self._write_superblock(tree, len(nodes), meta, meta + -(-end // BLOCK), content_end)
        alive = set(nodes)
        return [(first * BLOCK, count * BLOCK) for node, first, count in self._taken if node not in alive]

    def content_block(self, node: Node) -> None:
        """What would not fit beside its inode gets a block of its own."""
        data, node.inline = node.inline or b"", None
        node.block = self._block
        self._out.write(data.ljust(BLOCK, b"\0"))
        self._block += 1

    @staticmethod
    def _number(nodes: list[Node]) -> int:
        """Give every inode its place; what lies beside one is in the same block. Returns the size of them all.

        fsck.erofs looks for attributes behind each inode, those without any too: there are bytes behind the last."""
        at = FIRST_NID * SLOT
        for node in nodes:
            size = _inode_size(node)
            if at % BLOCK + min(size, BLOCK) > BLOCK:
                at += -at % BLOCK
            node.nid = at // SLOT
            at += size + -size % SLOT
        return at + XATTR_HEADER.size

    def _write_inodes(self, nodes: list[Node], end: int) -> None:
        at = 0
        for number, node in enumerate(nodes, 1):
            place = node.nid * SLOT
            data = b"".join((_inode(node, number), *xattrs(node), _beside(node)))
            self._out.write(bytes(place - at))
            self._out.write(data)
            at = place + len(data)
        self._out.write(bytes(end + -end % BLOCK - at))

    def _write_superblock(self, tree: Tree, count: int, meta: int, blocks: int, content_end: int) -> None:
        root, mark = tree.root.nid, MARK.pack(WORD, content_end)
        self._out.seek(0)
        self._out.write(
            bytes(SUPERBLOCK_AT)
            + SUPERBLOCK.pack(MAGIC, 0, COMPAT_MTIME, 12, 0, root, count, 0, 0, blocks, meta, 0, bytes(16), mark, 0)
        )
        self._out.truncate(-(-blocks * BLOCK // PAGE) * PAGE)


def _beside(node: Node) -> bytes:
    if node.inline is None:
        return b""
    return b"".join(folder_blocks(node)) if node.children is not None else node.inline


def _inode_size(node: Node) -> int:
    beside = 0 if node.inline is None else node.size
    return INODE.size + sum(map(len, xattrs(node))) + beside


def _inode(node: Node, number: int) -> bytes:
    layout = PLAIN if node.inline is None or not node.size else INLINE
    place = node.block if node.inline is None and node.size else NO_BLOCK
    if node.rdev or stat.S_IFMT(node.mode) in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO):
        place = node.rdev
    body = sum(map(len, xattrs(node)))
    seconds, nanoseconds = divmod(node.mtime_ns, 1_000_000_000)
    return INODE.pack(
        1 | layout << 1,
        1 + (body - XATTR_HEADER.size) // 4 if body else 0,
        node.mode,
        0,
        node.size,
        place,
        number,
        node.uid,
        node.gid,
        seconds,
        nanoseconds,
        node.links,
    )


def device(major: int, minor: int) -> int:
    """A device number as Linux keeps it on disk."""
    return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12


def xattrs(node: Node) -> list[bytes]:
    """The body of extended attributes that follows an inode; empty when there are none."""
    if not node.xattrs:
        return []
    out = [XATTR_HEADER.pack(0, 0)]
    for key, value in sorted(node.xattrs.items()):
        prefix = next(p for p in XATTR_PREFIXES if key.startswith(p))
        name = key[len(prefix) :]
        entry = XATTR.pack(len(name), XATTR_PREFIXES[prefix], len(value)) + name + value
        out.append(entry + bytes(-len(entry) % 4))
    return out


def _entries(node: Node) -> list[tuple[bytes, Node]]:
    return sorted([(b".", node), (b"..", node.parent), *children(node).items()])


def _blocks(node: Node) -> Iterator[list[tuple[bytes, Node]]]:
    """The entries of a folder, sorted, as they go into blocks."""
    block: list[tuple[bytes, Node]] = []
    size = 0
    for name, child in _entries(node):
        if size + DIRENT.size + len(name) > BLOCK:
            yield block
            block, size = [], 0
        block.append((name, child))
        size += DIRENT.size + len(name)
    yield block


def folder_size(node: Node) -> int:
    *full, last = _blocks(node)
    return len(full) * BLOCK + sum(DIRENT.size + len(name) for name, _ in last)


def folder_blocks(node: Node) -> Iterator[bytes]:
    """A folder's content: each block holds its entries, then their names; all but the last are filled up."""
    blocks = list(_blocks(node))
    for number, block in enumerate(blocks):
        at = DIRENT.size * len(block)
        entries = []
        for name, child in block:
            entries.append(DIRENT.pack(child.nid, at, TYPES[stat.S_IFMT(child.mode)], 0))
            at += len(name)
        data = b"".join((*entries, *(name for name, _ in block)))
        yield data if number == len(blocks) - 1 else data.ljust(BLOCK, b"\0")
