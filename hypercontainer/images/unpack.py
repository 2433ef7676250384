"""Layers -> tree. Runs as a process of its own: `python -I -m hypercontainer.images.unpack`, a Job on stdin.

Of its own, so that the daemon's event loop shares no interpreter lock with it, and so that cancelling is killing.
Answers one line of JSON on stdout: a Done, or {"error": …, "kind": …} with status 1.
"""

import errno
import hashlib
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from hypercontainer.errors import Exhausted, HyperError, InvalidInput
from hypercontainer.images import compression, tar
from hypercontainer.images.tar import Entry, Reader, Stream, show
from hypercontainer.images.tree import Attributes, Tree, Unacceptable, clean, join

MAX_ENTRIES = 1_000_000  # of an image
MAX_BYTES = 128 << 30  # of an image's files
MAX_XATTRS = 64 << 10  # bytes of one entry's
WHITEOUT, OPAQUE = b".wh.", b".wh..wh..opq"
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
LATEST_S = 1 << 34  # the year 2514: file times are moved into 1970 … then, which every file system can keep
MAX_ID = (1 << 32) - 2  # the one above means "do not change" to chown


class Layer(NamedTuple):
    """A blob on disk, and the digest that its content without compression must have."""

    path: str
    diff_id: str


class LayerDone(NamedTuple):
    """`tar_size`: bytes of the layer without compression; `size`: of the files in it."""

    tar_size: int
    size: int
    entries: int


class BadLayer(InvalidInput):
    """A layer that cannot be unpacked; the message names it, and the entry."""


class _Layer:
    """One layer on its way into the tree."""

    def __init__(self, tree: Tree, reader: Reader, budget: "Budget") -> None:
        self._tree, self._reader, self._budget = tree, reader, budget
        self._written: set[bytes] = set()  # by this layer: whiteouts do not hide these
        self.entries = self.size = 0
        self._make: dict[int, Callable[[Entry, int, bytes], None]] = {
            tar.FILE: self._file,
            tar.SYMLINK: self._symlink,
            tar.CHAR: self._node,
            tar.BLOCK_DEVICE: self._node,
            tar.FIFO: self._node,
        }

    def apply(self) -> None:
        for entry in self._reader:
            try:
                self._budget.spend(entry)
                self._one(entry._replace(mtime_ns=min(max(entry.mtime_ns, 0), LATEST_S * 10**9)))
            except (OSError, Unacceptable, ValueError) as e:
                if isinstance(e, OSError) and e.errno in DISK_FULL:
                    raise
                why = e.strerror if isinstance(e, OSError) else e
                raise BadLayer(f"entry {show(entry.name)}: {why}") from e
            self.entries += 1
        self._tree.finish()

    def _one(self, entry: Entry) -> None:
        path = clean(entry.name)
        folder, _, name = path.rpartition(b"/")
        if name.startswith(WHITEOUT):
            return self._whiteout(folder, name)
        if not 0 <= entry.uid <= MAX_ID or not 0 <= entry.gid <= MAX_ID or not 0 <= entry.mode <= 0o7777777:
            raise Unacceptable(f"owner {entry.uid}:{entry.gid}, mode {entry.mode:o}")
        if not path:
            if entry.kind != tar.FOLDER:
                raise Unacceptable("it would replace the root")
            return self._attributes(b"", entry)
        here = self._tree.folder(folder)
        assert here is not None  # noqa: S101  it was made
        full = join(here, name)
        if entry.kind == tar.FOLDER:
            self._folder(entry, here, name, full)
        elif entry.kind == tar.LINK:
            self._link(entry, here, name, full)
        else:
            self._node_of_its_own(entry, here, name, full)
        self._remember(full)
        return None

    def _remember(self, full: bytes) -> None:
        while full and full not in self._written:
            self._written.add(full)
            full = full.rpartition(b"/")[0]

    def _whiteout(self, folder: bytes, name: bytes) -> None:
        if name == OPAQUE:
            hidden = None
        elif name.startswith(WHITEOUT + WHITEOUT):
            return  # aufs' own files
        else:
            hidden = name[len(WHITEOUT) :]
            if hidden in (b"", b".", b".."):
                raise Unacceptable("it is a whiteout of nothing that can have a name")
        here = self._tree.folder(folder, make=False)
        if here is None:
            return
        if hidden is None:
            self._tree.empty(here, self._written)
            return
        try:
            self._tree.remove(join(here, hidden), self._written)
        except FileNotFoundError:
            pass  # a whiteout of what is not there hides nothing

    def _folder(self, entry: Entry, here: bytes, name: bytes, full: bytes) -> None:
        try:
            self._tree.make(here, name, full)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=self._tree.fd(here), follow_symlinks=False).st_mode):
                self._tree.remove(full)
                self._tree.make(here, name, full)
        self._attributes(full, entry)

    def _attributes(self, full: bytes, entry: Entry) -> None:
        self._tree.folders[full] = Attributes(entry.mode & 0o7777, entry.uid, entry.gid, entry.mtime_ns)
        if entry.xattrs:
            _set_xattrs(self._tree.fd(full), entry)

    def _link(self, entry: Entry, here: bytes, name: bytes, full: bytes) -> None:
        try:
            target = clean(entry.link)
        except Unacceptable as e:
            raise Unacceptable(f"it is a hard link to {show(entry.link)}: {e}") from e
        folder, _, base = target.rpartition(b"/")
        there = self._tree.folder(folder, make=False)
        if there is None or not base:
            raise Unacceptable(f"it is a hard link to {show(entry.link)}, which is not there")
        if join(there, base) == full:
            raise Unacceptable("it is a hard link to itself")
        self._fill(here, name, full, lambda at: self._make_link(at, name, there, base))

    def _make_link(self, at: int, name: bytes, there: bytes, base: bytes) -> None:
        at = os.dup(at)  # the other folder's may push this one out
        try:
            os.link(base, name, src_dir_fd=self._tree.fd(there), dst_dir_fd=at, follow_symlinks=False)
        except FileNotFoundError as e:
            raise Unacceptable(f"it is a hard link to {show(join(there, base))}, which is not there") from e
        finally:
            os.close(at)

    def _node_of_its_own(self, entry: Entry, here: bytes, name: bytes, full: bytes) -> None:
        make = self._make.get(entry.kind)
        if make is None:
            raise Unacceptable(f"its type {chr(entry.kind)!r} is not known")
        self._fill(here, name, full, lambda at: make(entry, at, name))

    def _fill(self, here: bytes, name: bytes, full: bytes, make: Callable[[int], None]) -> None:
        """Put something new at `full`; what was there goes first."""
        self._tree.touch(here)
        try:
            make(self._tree.fd(here))
        except FileExistsError:
            self._tree.remove(full)
            make(self._tree.fd(here))

    def _file(self, entry: Entry, at: int, name: bytes) -> None:
        mode = entry.mode & 0o7777
        fd = os.open(name, CREATE, 0o600, dir_fd=at)
        try:
            if entry.sparse is None:
                for piece in self._reader.data():
                    _write(fd, piece)
            else:
                self._sparse(fd, entry)
            os.fchown(fd, entry.uid, entry.gid)
            os.fchmod(fd, mode)
            if entry.xattrs:  # after chown, which drops capabilities
                _set_xattrs(fd, entry)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)
        self.size += entry.size

    def _sparse(self, fd: int, entry: Entry) -> None:
        pieces = Stream(bytes(piece) for piece in self._reader.data())
        for offset, length in entry.sparse or ():
            os.lseek(fd, offset, os.SEEK_SET)
            for piece in pieces.pieces(length):
                _write(fd, piece)
        os.ftruncate(fd, entry.size)

    def _symlink(self, entry: Entry, at: int, name: bytes) -> None:
        if b"\0" in entry.link or not 0 < len(entry.link) < tar.MAX_PATH:
            raise Unacceptable(f"it is a symbolic link to {len(entry.link)} bytes, or to a NUL")
        os.symlink(entry.link, name, dir_fd=at)
        self._dress(entry, at, name)

    def _node(self, entry: Entry, at: int, name: bytes) -> None:
        kinds = {tar.CHAR: stat.S_IFCHR, tar.BLOCK_DEVICE: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}
        if not 0 <= entry.major < 1 << 12 or not 0 <= entry.minor < 1 << 20:
            raise Unacceptable(f"device number {entry.major}:{entry.minor}")
        os.mknod(name, kinds[entry.kind] | 0o600, os.makedev(entry.major, entry.minor), dir_fd=at)
        self._dress(entry, at, name)

    def _dress(self, entry: Entry, at: int, name: bytes) -> None:
        """Attributes of what must not be opened."""
        os.chown(name, entry.uid, entry.gid, dir_fd=at, follow_symlinks=False)
        if entry.kind != tar.SYMLINK:
            os.chmod(name, entry.mode & 0o7777, dir_fd=at)  # made a moment ago, and not a link
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=at, follow_symlinks=False)


class Budget:
    """What an image may take at most."""

    def __init__(self, entries: int = MAX_ENTRIES, size: int = MAX_BYTES) -> None:
        self._entries, self._size = entries, size

    def spend(self, entry: Entry) -> None:
        self._entries -= 1
        self._size -= entry.size if entry.kind == tar.FILE else 0
        if self._entries < 0:
            raise Unacceptable("the image has too many entries")
        if self._size < 0:
            raise Unacceptable(f"with its {entry.size} bytes the image is too large")


def _write(fd: int, piece: memoryview) -> None:
    while piece:
        piece = piece[os.write(fd, piece) :]


def _set_xattrs(fd: int, entry: Entry) -> None:
    """Keep what containers use: file capabilities and user attributes. Others are the host's business, or overlay's."""
    if sum(len(k) + len(v) for k, v in entry.xattrs.items()) > MAX_XATTRS:
        raise Unacceptable(f"it has more than {MAX_XATTRS} bytes of extended attributes")
    for key, value in entry.xattrs.items():
        if key != b"security.capability" and not key.startswith(b"user."):
            continue
        try:
            os.setxattr(fd, key, value)
        except OSError as e:
            raise Unacceptable(f"extended attribute {show(key)}: {e.strerror}") from e


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


def apply(tree: Tree, layer: Layer, budget: Budget) -> LayerDone:
    """Put one layer over `tree`. BadLayer names what is wrong; OSError is the disk's."""
    hashed = _Hashed(compression.plain(_blob(layer.path)))
    try:
        with compression.Ahead(iter(hashed)) as pieces:
            stream = Stream(iter(pieces))
            work = _Layer(tree, Reader(stream), budget)
            work.apply()
            stream.skip(4 * MAX_BYTES)  # what follows the end mark counts for the digest
    except InvalidInput as e:
        raise BadLayer(f"cannot unpack layer {layer.diff_id}: {e}") from e
    if hashed.digest != layer.diff_id:
        raise BadLayer(f"cannot unpack layer {layer.diff_id}: its content has digest {hashed.digest}")
    return LayerDone(hashed.size, work.size, work.entries)


def unpack(folder: str, layers: list[Layer]) -> list[LayerDone]:
    """Put `layers`, the lowest first, into the empty folder `folder`."""
    tree = Tree(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
    tree.folders[b""] = Attributes(0o755, 0, 0, 0)
    budget = Budget()
    try:
        done = [apply(tree, layer, budget) for layer in layers]
        tree.finish()
        return done
    finally:
        tree.close()


def main() -> int:
    job = json.load(sys.stdin)
    os.umask(0)
    try:
        done = unpack(job["folder"], [Layer(*layer) for layer in job["layers"]])
    except OSError as e:
        full = e.errno in DISK_FULL
        error: HyperError = (Exhausted if full else HyperError)(f"cannot unpack the image: {e.strerror or e}")
    except HyperError as e:
        error = e
    else:
        json.dump({"layers": done}, sys.stdout)
        return 0
    json.dump({"error": str(error), "kind": error.kind}, sys.stdout)
    return 1


if __name__ == "__main__":
    sys.exit(main())
