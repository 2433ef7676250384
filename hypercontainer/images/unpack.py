"""Layers -> one EROFS file. Runs as a process of its own: `python -I -m hypercontainer.images.unpack`, a Job on stdin.

Of its own, so that the daemon's event loop shares no interpreter lock with it, and so that cancelling is killing.
Answers one line of JSON on stdout: a Done, or {"error": …, "kind": …} with status 1.
"""

import errno
import hashlib
import json
import os
import resource
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hypercontainer.errors import Exhausted, HyperError, InvalidInput, reason
from hypercontainer.images import base as bases
from hypercontainer.images import compression, erofs, tar
from hypercontainer.images.erofs import Writer
from hypercontainer.images.tar import Entry, Reader, Stream, show
from hypercontainer.images.tree import Node, Tree, Unacceptable, children, clean
from hypercontainer.lib import cgroup, files, sparse

MAX_ENTRIES = 1_000_000  # of an image
MAX_BYTES = 128 << 30  # of an image's files
MAX_WORDS = 256 << 20  # bytes of all names, links and attributes of an image: they wait in memory
RESERVED = 512 << 20  # addresses beyond its memory: what a library reserves for each thread and does not use
MAX_XATTRS = 64 << 10  # bytes of one entry's
CAPABILITY_SIZES = (12, 20, 24)  # of the three versions, capabilities(7)
WHITEOUT, OPAQUE = b".wh.", b".wh..wh..opq"
PUNCH_HOLE = 0x02 | 0x01  # fallocate(2): and keep the file's size
LATEST_S = 1 << 34  # the year 2514: file times are moved into 1970 … then, which every file system can keep
MAX_ID = (1 << 32) - 2  # the one above means "do not change" to chown


class Layer(NamedTuple):
    """A blob on disk, and the digest that its content without compression must have."""

    path: str
    diff_id: str


class LayerDone(NamedTuple):
    """`tar_size`: bytes without compression of what the digest is of; `size`: of the files in it."""

    tar_size: int
    size: int
    entries: int


class BadLayer(InvalidInput):
    """A layer that cannot be unpacked; the message names it, and the entry."""


class _Layer:
    """One layer on its way into the tree."""

    def __init__(self, tree: Tree, out: Writer, reader: Reader, budget: "Budget") -> None:
        self._tree, self._out, self._reader, self._budget = tree, out, reader, budget
        self.entries = self.size = 0
        self._make: dict[int, Callable[[Entry], Node]] = {
            tar.FILE: self._file,
            tar.SYMLINK: _symlink,
            tar.CHAR: _device,
            tar.BLOCK_DEVICE: _device,
            tar.FIFO: _device,
        }

    def apply(self) -> None:
        self._tree.begin_layer()
        for entry in self._reader:
            try:
                self._budget.spend(entry)
                self._one(entry._replace(mtime_ns=min(max(entry.mtime_ns, 0), LATEST_S * 10**9)))
            except Unacceptable as e:
                raise BadLayer(f"entry {show(entry.name)}: {e}") from e
            self.entries += 1

    def _one(self, entry: Entry) -> None:
        path = clean(entry.name)
        folder, _, name = path.rpartition(b"/")
        if name.startswith(WHITEOUT):
            return self._whiteout(folder, name)
        if not 0 <= entry.uid <= MAX_ID or not 0 <= entry.gid <= MAX_ID or not 0 <= entry.mode <= 0o7777777:
            raise Unacceptable(f"owner {entry.uid}:{entry.gid}, mode {entry.mode:o}")
        if not path:
            return self._root(entry)
        here = self._tree.folder(folder)
        assert here is not None  # noqa: S101  it was made
        if entry.kind == tar.FOLDER:
            return self._folder(entry, here, name)
        if entry.kind == tar.LINK:
            self._tree.add(here, name, self._target(entry, here, name))
            return None
        make = self._make.get(entry.kind)
        if make is None:
            raise Unacceptable(f"its type {chr(entry.kind)!r} is not known")
        node = make(entry)
        _dress(node, entry)
        self._tree.add(here, name, node)
        return None

    def _root(self, entry: Entry) -> None:
        if entry.kind == tar.FOLDER:
            return _dress(self._tree.root, entry)
        if entry.kind == tar.LINK and not clean(entry.link):
            return None  # one more name of itself: kaniko wrote that
        raise Unacceptable("it would replace the root")

    def _whiteout(self, folder: bytes, name: bytes) -> None:
        hidden = name[len(WHITEOUT) :]
        if name != OPAQUE and hidden.startswith(WHITEOUT):
            return  # aufs' own files
        if hidden in (b"", b".", b".."):
            raise Unacceptable("it is a whiteout of nothing that can have a name")
        here = self._tree.folder(folder, make=False)
        if here is None:
            return  # a whiteout of what is not there hides nothing
        if name == OPAQUE:
            self._tree.hide_all(here)
        else:
            self._tree.hide(here, hidden)

    def _folder(self, entry: Entry, here: Node, name: bytes) -> None:
        node = children(here).get(name)
        if node is None or node.children is None:
            node = self._tree.add(here, name, Node(stat.S_IFDIR))
        self._tree.mark(here, name)
        _dress(node, entry)

    def _target(self, entry: Entry, here: Node, name: bytes) -> Node:
        """The node that a hard link is one more name of."""
        try:
            target = clean(entry.link)
            folder, _, base = target.rpartition(b"/")
            there = self._tree.folder(folder, make=False)
        except Unacceptable as e:
            raise Unacceptable(f"it is a hard link to {show(entry.link)}: {e}") from e
        node = children(there).get(base) if there else None
        if node is None:
            raise Unacceptable(f"it is a hard link to {show(entry.link)}, which is not there")
        if (there, base) == (here, name):
            raise Unacceptable("it is a hard link to itself")
        if node.children is not None:
            raise Unacceptable(f"it is a hard link to {show(entry.link)}, which is a folder")
        return node

    def _file(self, entry: Entry) -> Node:
        node = Node(stat.S_IFREG)
        if entry.sparse is None:
            self._out.content(node, entry.size, self._reader.data())
        else:
            content = Stream(bytes(piece) for piece in self._reader.data())
            self._out.sparse(node, entry.size, ((at, content.pieces(length)) for at, length in entry.sparse))
        self.size += entry.size
        return node


def _symlink(entry: Entry) -> Node:
    if b"\0" in entry.link or not 0 < len(entry.link) < tar.MAX_PATH:
        raise Unacceptable(f"it is a symbolic link to {len(entry.link)} bytes, or to a NUL")
    node = Node(stat.S_IFLNK)
    node.inline, node.size = entry.link, len(entry.link)
    return node


def _device(entry: Entry) -> Node:
    kinds = {tar.CHAR: stat.S_IFCHR, tar.BLOCK_DEVICE: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}
    if not 0 <= entry.major < 1 << 12 or not 0 <= entry.minor < 1 << 20:
        raise Unacceptable(f"device number {entry.major}:{entry.minor}")
    node = Node(kinds[entry.kind])
    node.rdev = erofs.device(entry.major, entry.minor) if entry.kind != tar.FIFO else 0
    return node


def _dress(node: Node, entry: Entry) -> None:
    """Give a node what the entry says of it. A link's mode is nobody's choice."""
    kind = stat.S_IFMT(node.mode)
    node.mode = kind | (0o777 if node.is_link else entry.mode & 0o7777)
    node.uid, node.gid, node.mtime_ns = entry.uid, entry.gid, entry.mtime_ns
    node.xattrs = _xattrs(entry.xattrs) if entry.xattrs else {}


def _xattrs(said: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """What containers use: file capabilities and user attributes. Others are the host's business, or overlay's."""
    kept = {k: v for k, v in said.items() if k == b"security.capability" or k.startswith(b"user.")}
    if sum(len(k) + len(v) for k, v in kept.items()) > MAX_XATTRS:
        raise Unacceptable(f"it has more than {MAX_XATTRS} bytes of extended attributes")
    for key, value in kept.items():
        if not 0 < len(key.partition(b".")[2]) <= 250 or b"\0" in key or len(value) > 0xFFFF:
            raise Unacceptable(f"extended attribute {show(key)} has no proper name, or is too long")
        if key == b"security.capability" and len(value) not in CAPABILITY_SIZES:
            raise Unacceptable("extended attribute 'security.capability' is not one")
    return kept


class Budget:
    """What an image may take at most: entries, bytes of content, bytes of words."""

    def __init__(self, entries: int = MAX_ENTRIES, size: int = MAX_BYTES, words: int = MAX_WORDS) -> None:
        self._entries, self._size, self._words = entries, size, words

    def spend(self, entry: Entry) -> None:
        words = len(entry.name) + len(entry.link) + sum(len(k) + len(v) for k, v in entry.xattrs.items())
        self.take(1, entry.size if entry.kind == tar.FILE else 0, words)

    def take(self, entries: int, size: int, words: int) -> None:
        self._entries -= entries
        self._size -= size
        self._words -= words
        if self._entries < 0:
            raise Unacceptable("the image has too many entries")
        if self._size < 0:
            raise Unacceptable(f"with its {size} bytes the image is too large")
        if self._words < 0:
            raise Unacceptable("the names and attributes of the image are too large")


def _blob(path: str) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as f:
        while chunk := f.read(compression.PIECE):
            yield chunk


class _Hashed:
    """Pieces on their way through, with their digest and a bound."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._hash, self.size = pieces, hashlib.sha256(), 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self._hash.update(piece)
            self.size += len(piece)
            if self.size > 2 * MAX_BYTES:
                raise BadLayer("it is absurdly large without its compression")
            yield piece

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()

    def pad(self) -> None:
        """Count the zeros too that tar(1) fills its last record with.

        containers/image leaves them out of zstd:chunked layers, and their digest as it was."""
        padding = bytes(-self.size % tar.RECORD)
        self._hash.update(padding)
        self.size += len(padding)


def apply(tree: Tree, out: Writer, layer: Layer, budget: Budget) -> LayerDone:
    """Put one layer over `tree`, its files' content into `out`. BadLayer names what is wrong; OSError is the disk's."""
    hashed = _Hashed(compression.plain(_blob(layer.path)))
    try:
        with compression.Ahead(iter(hashed)) as pieces:
            stream = Stream(iter(pieces))
            work = _Layer(tree, out, Reader(stream), budget)
            work.apply()
            stream.skip(4 * MAX_BYTES)  # what follows the end mark counts for the digest
    except InvalidInput as e:
        raise BadLayer(f"cannot unpack layer {layer.diff_id}: {reason(e)}") from e
    if (found := hashed.digest) != layer.diff_id:
        hashed.pad()
        if hashed.digest != layer.diff_id:
            raise BadLayer(f"cannot unpack layer {layer.diff_id}: its content has digest {found}")
    return LayerDone(hashed.size, work.size, work.entries)


def unpack(image: str, layers: Sequence[Layer], base: str = "", below: int = 0) -> list[LayerDone]:
    """Make the EROFS file `image`, which does not exist yet, of `layers`, the lowest first. `base` is the one that the
    first `below` of them have made: what is returned is of those that had to be unpacked, the last ones or all."""
    fd = os.open(image, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb", buffering=compression.PIECE) as f:
        tree, out, budget = Tree(), Writer(f), Budget()
        if base and _begin(fd, base, tree, out, budget):
            layers = layers[below:]
        done = [apply(tree, out, layer, budget) for layer in layers]
        dead = out.finish(tree)
        f.flush()
        for offset, length in dead:
            _punch(fd, offset, length)
    return done


def _begin(fd: int, base: str, tree: Tree, out: Writer, budget: Budget) -> bool:
    """Begin with what is in the file `base`. False when that cannot be gone on with."""
    with open(base, "rb", buffering=0) as f:
        found = bases.read(f.fileno(), tree)
        if found is None:
            return False
        sparse.copy(f.fileno(), fd)
    os.ftruncate(fd, found.end * erofs.BLOCK)
    out.go_on(found.end, found.nodes)
    words = sum(len(key) + len(value) for node in found.nodes for key, value in node.xattrs.items())
    budget.take(len(found.nodes), sum(node.size for node in found.nodes), words)
    return True


def _punch(fd: int, offset: int, length: int) -> None:
    """Give a part of the file back to the disk, if its file system can: the part then reads as zeros."""
    import ctypes  # most images need none of it

    fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    if fallocate(fd, PUNCH_HOLE, ctypes.c_longlong(offset), ctypes.c_longlong(length)):
        code = ctypes.get_errno()
        if code != errno.EOPNOTSUPP:
            raise OSError(code, os.strerror(code))


def main() -> int:
    job = json.load(sys.stdin)
    memory, cpu_s = job["room"]
    cgroup.join([Path(folder) for folder in job["cgroups"]])
    for limit, value, beyond in (
        (resource.RLIMIT_AS, memory + RESERVED, 0),
        (resource.RLIMIT_CPU, cpu_s, 10),  # SIGXCPU, which says why; later SIGKILL
        (resource.RLIMIT_CORE, 0, 0),  # the image may be somebody's secret
    ):
        resource.setrlimit(limit, (value, value + beyond))
    try:
        done = unpack(job["image"], [Layer(*layer) for layer in job["layers"]], job["base"], job["below"])
    except OSError as e:
        full = e.errno in files.FULL
        error: HyperError = (Exhausted if full else HyperError)(f"cannot unpack the image: {e.strerror or e}")
    except MemoryError:
        error = BadLayer(f"cannot unpack the image: that takes more than {memory >> 20} MiB of memory")
    except HyperError as e:
        error = e
    else:
        json.dump({"layers": done}, sys.stdout)
        return 0
    json.dump({"error": str(error), "kind": error.kind}, sys.stdout)
    return 1


if __name__ == "__main__":
    sys.exit(main())
