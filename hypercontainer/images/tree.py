"""A folder that becomes the root of an image. Every path is resolved beneath it, by directory descriptors.

Symbolic links on the way mean what they will mean in the container: an absolute target starts at this root. A path
that climbs above the root is refused. Nothing that exists is ever opened for writing: what is in the way is removed.
"""

import os
import stat
from contextlib import suppress
from typing import NamedTuple

from hypercontainer.errors import InvalidInput
from hypercontainer.images.tar import MAX_PATH, show

MAX_DEPTH = 256  # folders inside each other: deeper than any real image, and safe for what recurses
MAX_LINKS = 40  # symbolic links on one path, as the kernel's
MAX_OPEN = 400  # descriptors kept
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Unacceptable(InvalidInput):
    """An entry that no honest archive holds."""


class Attributes(NamedTuple):
    """What a folder gets in the end. `mode` None: only its time is put back, for it was there before."""

    mode: int | None
    uid: int
    gid: int
    mtime_ns: int


def clean(name: bytes) -> bytes:
    """An entry's name as a path below the root: no empty parts, no "."; b"" is the root itself."""
    if b"\0" in name or len(name) >= MAX_PATH:
        raise Unacceptable(f"its name has {len(name)} bytes or a NUL")
    if name.startswith(b"/"):
        raise Unacceptable("its name is absolute")
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise Unacceptable("its name climbs with ..")
    if any(len(part) > 255 for part in parts):
        raise Unacceptable("a part of its name has more than 255 bytes")
    return b"/".join(parts)


class Tree:
    """The folder behind `root`, a descriptor that this object owns from now on. Close it in the end."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._fds: dict[bytes, int] = {}
        self._resolved: dict[bytes, bytes] = {}
        self.folders: dict[bytes, Attributes] = {}  # what `finish` gives the folders that were touched

    def close(self) -> None:
        self._forget()
        os.close(self._root)

    def _forget(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()
        self._resolved.clear()

    def fd(self, path: bytes) -> int:
        """A descriptor of folder `path`, which has no links in it; valid until the next call that resolves."""
        if not path:
            return self._root
        found = self._fds.get(path)
        if found is not None:
            return found
        fd = os.dup(self._root)
        for part in path.split(b"/"):
            try:
                below = os.open(part, FOLDER, dir_fd=fd)
            finally:
                os.close(fd)
            fd = below
        self._keep(path, fd)
        return fd

    def _keep(self, path: bytes, fd: int) -> None:
        if len(self._fds) >= MAX_OPEN:
            self._forget()
        self._fds[path] = fd

    def folder(self, path: bytes, *, make: bool = True) -> bytes | None:
        """The real path of folder `path`: links followed, missing folders made (or None when `make` is off)."""
        if not path:
            return path
        found = self._resolved.get(path)
        if found is None:
            found = self._resolve(path, make)
            if found is not None:
                self._resolved[path] = found
        return found

    def _resolve(self, path: bytes, make: bool) -> bytes | None:
        todo = path.split(b"/")[::-1]
        here, links = b"", 0
        while todo:
            part = todo.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                if not here:
                    raise Unacceptable("a symbolic link on its way leads above the root")
                here = here.rpartition(b"/")[0]
                continue
            step = join(here, part)
            if step not in self._fds:
                target = self._enter(here, part, step, make)
                if target is None:
                    return None
                if target:
                    links += 1
                    if links > MAX_LINKS:
                        raise Unacceptable("too many symbolic links are on its way")
                    todo += target.split(b"/")[::-1]
                    here = b"" if target.startswith(b"/") else here
                    continue
            here = step
        return here

    def _enter(self, here: bytes, part: bytes, step: bytes, make: bool) -> bytes | None:
        """Open folder `step`. b"" when that worked, the target when it is a link, None when it is not there."""
        at = self.fd(here)
        try:
            fd = os.open(part, FOLDER, dir_fd=at)
        except FileNotFoundError:
            if not make:
                return None
            self.make(here, part, step)
            self.folders[step] = Attributes(0o755, 0, 0, 0)
            fd = os.open(part, FOLDER, dir_fd=at)
        except OSError:
            if stat.S_ISLNK(os.stat(part, dir_fd=at, follow_symlinks=False).st_mode):
                return os.readlink(part, dir_fd=at) or b"."
            raise Unacceptable(f"{show(step)} on its way is not a folder") from None
        if step not in self.folders:
            self.folders[step] = Attributes(None, 0, 0, os.fstat(fd).st_mtime_ns)
        self._keep(step, fd)
        return b""

    def make(self, here: bytes, part: bytes, step: bytes) -> None:
        """Make folder `step`; FileExistsError when something has its name."""
        if step.count(b"/") >= MAX_DEPTH or len(step) >= MAX_PATH - 256:
            raise Unacceptable(f"it is more than {MAX_DEPTH} folders deep")
        at = self.fd(here)
        self.touch(here)
        os.mkdir(part, 0o700, dir_fd=at)

    def touch(self, path: bytes) -> None:
        """Folder `path` is about to change: remember its time, if nothing better is known."""
        if path not in self.folders:
            self.folders[path] = Attributes(None, 0, 0, os.fstat(self.fd(path)).st_mtime_ns)

    def remove(self, path: bytes, keep: "set[bytes] | None" = None) -> None:
        """Remove what is at `path` (no links on the way), with all below it but what is in `keep`."""
        here, _, part = path.rpartition(b"/")
        self.touch(here)
        at = self.fd(here)
        status = os.stat(part, dir_fd=at, follow_symlinks=False)
        kept = keep is not None and path in keep
        if stat.S_ISDIR(status.st_mode):
            self.empty(path, keep)
            if not kept:
                self._forget()
                os.rmdir(part, dir_fd=self.fd(here))
                self.folders.pop(path, None)
        elif not kept:
            os.unlink(part, dir_fd=at)
            if stat.S_ISLNK(status.st_mode):
                self._forget()

    def empty(self, path: bytes, keep: "set[bytes] | None" = None) -> None:
        """Remove everything below folder `path` but what is in `keep`."""
        fd = os.dup(self.fd(path))
        try:
            names = os.listdir(fd)
        finally:
            os.close(fd)
        for name in names:
            self.remove(join(path, os.fsencode(name)), keep)

    def finish(self) -> None:
        """Give every folder that was touched its attributes. Their order is of no matter."""
        for path, wanted in self.folders.items():
            with suppress(FileNotFoundError, NotADirectoryError):  # removed again, or replaced
                fd = self.fd(path)
                if wanted.mode is not None:
                    os.fchown(fd, wanted.uid, wanted.gid)
                    os.fchmod(fd, wanted.mode)
                os.utime(fd, ns=(wanted.mtime_ns, wanted.mtime_ns))
        self.folders.clear()


def join(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder else name
