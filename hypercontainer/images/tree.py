"""An image's root file system in memory: names, attributes, and where in the EROFS file the content is.

Nothing of it exists on the host, so no path of a stranger's is ever resolved there. Symbolic links on the way mean
what they will mean in the container: an absolute target starts at this root, and ".." ends there. Names are read as
docker reads them: an absolute one begins at this root, ".." is resolved by the letters, and what climbs above the root
is refused.
"""

import stat
from collections.abc import Iterator

from hypercontainer.errors import InvalidInput
from hypercontainer.images.tar import MAX_PATH, show

MAX_DEPTH = 256  # folders inside each other: deeper than any real image, and safe for what recurses
MAX_KNOWN = 10_000  # paths whose folder is remembered
MAX_LINKS = 40  # symbolic links on one path, as the kernel's


class Unacceptable(InvalidInput):
    """An entry that no honest archive holds."""


class Node:
    """A file of any kind. One with several names is one node.

    `block` is where the content begins in the EROFS file; `inline` is content small enough to lie beside the inode:
    a link's target, a short file."""

    __slots__ = (
        "block",
        "children",
        "depth",
        "gid",
        "inline",
        "links",
        "mode",
        "mtime_ns",
        "name",
        "nid",
        "parent",
        "rdev",
        "size",
        "uid",
        "xattrs",
    )

    def __init__(self, mode: int, uid: int = 0, gid: int = 0, mtime_ns: int = 0) -> None:
        self.mode, self.uid, self.gid, self.mtime_ns = mode, uid, gid, mtime_ns
        self.rdev = self.size = self.block = self.links = self.nid = self.depth = 0
        self.inline: bytes | None = None
        self.xattrs: dict[bytes, bytes] = {}
        self.children: dict[bytes, Node] | None = {} if stat.S_ISDIR(mode) else None
        self.parent: Node = self  # of a folder
        self.name = b""

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)


def clean(name: bytes) -> bytes:
    """An entry's name as a path below the root: no empty parts, no "." and ".."; b"" is the root itself."""
    if b"\0" in name or len(name) >= MAX_PATH:
        raise Unacceptable(f"its name has {len(name)} bytes or a NUL")
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b".." and parts:
            parts.pop()
        elif part == b".." and not name.startswith(b"/"):
            raise Unacceptable("its name climbs above the root with ..")
        elif part not in (b"", b".", b".."):
            parts.append(part)
    if any(len(part) > 255 for part in parts):
        raise Unacceptable("a part of its name has more than 255 bytes")
    return b"/".join(parts)


class Tree:
    """Layers leave their marks here, one after another."""

    def __init__(self) -> None:
        self.root = Node(stat.S_IFDIR | 0o755)
        self._written: set[tuple[Node, bytes]] = set()  # names that the layer under way gave
        self._resolved: dict[bytes, Node] = {}

    def begin_layer(self) -> None:
        self._written.clear()

    def folder(self, path: bytes, *, make: bool = True) -> Node | None:
        """The folder at `path`: links followed, missing folders made (or None when `make` is off)."""
        found = self._resolved.get(path)
        if found is None:
            found = self._resolve(path, make)
            if found is not None:
                if len(self._resolved) >= MAX_KNOWN:
                    self._resolved.clear()
                self._resolved[path] = found
        return found

    def _resolve(self, path: bytes, make: bool) -> Node | None:
        todo = path.split(b"/")[::-1]
        here, links = self.root, 0
        while todo:
            part = todo.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                here = here.parent  # the root's is the root
                continue
            below = children(here).get(part)
            if below is None:
                if not make:
                    return None
                below = self.add(here, part, Node(stat.S_IFDIR | 0o755))
            if below.is_link:
                links += 1
                if links > MAX_LINKS:
                    raise Unacceptable("too many symbolic links are on its way")
                target = below.inline or b""
                todo += target.split(b"/")[::-1]
                here = self.root if target.startswith(b"/") else here
            elif below.children is not None:
                here = below
            elif not make:
                return None
            elif (here, part) in self._written:
                raise Unacceptable(f"{show(part)} on its way is not a folder")
            else:  # what a lower layer has: this one says, without an entry for it, that it is a folder now
                here = self.add(here, part, Node(stat.S_IFDIR | 0o755))
        return here

    def add(self, here: Node, name: bytes, node: Node) -> Node:
        """Let `node` have this name; what had it before goes, all of it."""
        if len(name) > 255:
            raise Unacceptable("a part of its name has more than 255 bytes")
        before = children(here).get(name)
        if before is not None and (before.children is not None or before.is_link):
            self._resolved.clear()
        if node.children is not None:
            if here.depth >= MAX_DEPTH:
                raise Unacceptable(f"it is more than {MAX_DEPTH} folders deep")
            node.parent, node.name, node.depth = here, name, here.depth + 1
        children(here)[name] = node
        self.mark(here, name)
        return node

    def mark(self, here: Node, name: bytes) -> None:
        """The layer under way speaks of this name, and so of all folders above it."""
        while (here, name) not in self._written:
            self._written.add((here, name))
            here, name = here.parent, here.name

    def hide(self, here: Node, name: bytes) -> None:
        """A whiteout: what lower layers have at this name goes, what this layer has stays."""
        node = children(here).get(name)
        if node is None:
            return
        if (here, name) not in self._written:
            self._resolved.clear()
            del children(here)[name]
        elif node.children is not None:
            self.hide_all(node)

    def hide_all(self, here: Node) -> None:
        for name in list(children(here)):
            self.hide(here, name)

    def walk(self) -> Iterator[Node]:
        """Every node once, a folder before what is in it, whichever way the tree came about; sets how many names each
        has."""
        seen: set[Node] = {self.root}
        todo = [self.root]
        self.root.links = 2
        while todo:
            node = todo.pop()
            yield node
            for _, child in sorted((node.children or {}).items()):
                if child in seen:
                    child.links += 1
                    continue
                seen.add(child)
                child.links = 1
                if child.children is not None:
                    child.links = 2
                    node.links += 1
                todo.append(child)


def children(node: Node) -> dict[bytes, Node]:
    assert node.children is not None  # noqa: S101  callers come with folders
    return node.children
