"""A tar from a container becomes files of the host. The container may be hostile: nothing is written outside of the
target folder, through no link, and no privilege comes with it."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager

from hypercontainer.errors import InvalidInput
from hypercontainer.images import tar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_DEPTH = 255
NO_PRIVILEGES = 0o777  # setuid, setgid and sticky stay in the container
MAX_REST = 1 << 20  # bytes behind the end mark: tar fills blocks of 10 KiB
MAX_NS = (1 << 63) - 1


def extract(chunks: Iterator[bytes], target: str, top: str, name: str, *, keep_owner: bool) -> None:
    """Unpack as `cp -r` would: into the folder `target` as `name` ("": what is in it), else as `target`.

    All of the archive is to be below `top` ("": its root). Raises InvalidInput that names the entry."""
    into = os.path.isdir(target)
    if not into and target.endswith("/"):
        raise InvalidInput(f"cannot copy to {target}: there is no such folder")
    reader = tar.Reader(tar.Stream(chunks))
    entries = iter(reader)
    first = next(entries, None)
    if first is None:
        return _to_the_end(reader.stream)
    root = target
    if not into:
        root, name = os.path.split(os.path.abspath(target))
    unpacker = Unpacker(reader, root, parts(os.fsencode(top)), os.fsencode(name), keep_owner=keep_owner)
    try:
        unpacker.one(first)
        for entry in entries:
            unpacker.one(entry)
        unpacker.finish()
    finally:
        unpacker.close()
    return _to_the_end(reader.stream)


def _to_the_end(stream: tar.Stream) -> None:
    """Behind the archive's end mark comes what tells whether it is whole: an end, or a connection that is cut."""
    if stream.skip(MAX_REST) == MAX_REST:
        raise InvalidInput("cannot copy: the archive goes on behind its end")


def parts(name: bytes) -> list[bytes]:
    """The components of an entry's name; InvalidInput for one that leads out of the folder."""
    found = [part for part in name.split(b"/") if part not in (b"", b".")]
    if name.startswith(b"/") or b".." in found or len(found) > MAX_DEPTH or b"\0" in name:
        raise InvalidInput(f"cannot copy {tar.show(name)}: the name leads out of the target folder")
    return found


class Unpacker:
    """Writes entries below the folder `root`; what the archive calls `top` becomes `name` there (b"": `root`)."""

    def __init__(self, reader: tar.Reader, root: str, top: list[bytes], name: bytes, *, keep_owner: bool) -> None:
        self._reader, self._top, self._keep_owner = reader, top, keep_owner
        self._name = [name] if name else []
        self._folders: list[tuple[list[bytes], tar.Entry]] = []  # that we are in: the archive goes from one to the next
        self._files: set[bytes] = set()  # paths of those that this archive has made
        try:
            self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as e:
            raise InvalidInput(f"cannot copy to {root}: {e.strerror}") from e

    def close(self) -> None:
        os.close(self._root)

    def one(self, entry: tar.Entry) -> None:
        path = self._place(entry.name)
        if not path:
            return  # the target folder itself, which exists
        self._leave(path)
        with _named(path):
            folder = self._open_folder(path[:-1])
            try:
                self._make(entry, folder, path)
            finally:
                os.close(folder)

    def finish(self) -> None:
        self._leave([])

    def _leave(self, next_one: list[bytes]) -> None:
        """Modes and times of folders come last: one may be read-only, and its time changes with every file."""
        while self._folders and self._folders[-1][0] != next_one[: len(self._folders[-1][0])]:
            path, entry = self._folders.pop()
            with _named(path):
                fd = self._open_folder(path)
                try:
                    self._dress(entry, fd)
                finally:
                    os.close(fd)

    def _place(self, name: bytes) -> list[bytes]:
        found, n = parts(name), len(self._top)
        if found[:n] != self._top:
            raise InvalidInput(f"cannot copy {tar.show(name)}: it is not below {tar.show(b'/'.join(self._top))}")
        return [*self._name, *found[n:]]

    def _open_folder(self, path: list[bytes]) -> int:
        """A descriptor of a folder below the root, step by step, through no link; what is missing is made."""
        fd = os.dup(self._root)
        for part in path:
            try:
                try:
                    inner = os.open(part, FOLDER, dir_fd=fd)
                except FileNotFoundError:
                    os.mkdir(part, 0o755, dir_fd=fd)
                    inner = os.open(part, FOLDER, dir_fd=fd)
            finally:
                os.close(fd)
            fd = inner
        return fd

    def _make(self, entry: tar.Entry, folder: int, path: list[bytes]) -> None:
        name = path[-1]
        if entry.kind == tar.FOLDER:
            _make_folder(folder, name)
            self._folders.append((path, entry))
            return
        if entry.kind not in (tar.FILE, tar.LINK, tar.SYMLINK) or entry.sparse is not None:
            raise ValueError("devices, pipes and sparse files stay in the container")
        _clear(folder, name)
        self._files.discard(b"/".join(path))
        if entry.kind == tar.SYMLINK:
            os.symlink(entry.link, name, dir_fd=folder)
            if self._keep_owner:
                os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
        elif entry.kind == tar.LINK:
            self._link(entry, folder, name)
        else:
            self._file(entry, folder, name)
            self._files.add(b"/".join(path))

    def _link(self, entry: tar.Entry, folder: int, name: bytes) -> None:
        """A hard link to a file of the same archive, and to none that was here before."""
        path = self._place(entry.link)
        if b"/".join(path) not in self._files:
            raise ValueError("it links to something that is no file of the archive")
        source = self._open_folder(path[:-1])
        try:
            os.link(path[-1], name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
        finally:
            os.close(source)

    def _file(self, entry: tar.Entry, folder: int, name: bytes) -> None:
        fd = os.open(name, NEW_FILE, 0o600, dir_fd=folder)
        try:
            for piece in self._reader.data():
                view = piece
                while view:
                    view = view[os.write(fd, view) :]
            self._dress(entry, fd)
        finally:
            os.close(fd)

    def _dress(self, entry: tar.Entry, fd: int) -> None:
        if self._keep_owner:
            os.fchown(fd, entry.uid, entry.gid)  # OverflowError, or EINVAL for -1: no such owner
        os.fchmod(fd, entry.mode & NO_PRIVILEGES)
        moment = min(max(entry.mtime_ns, 0), MAX_NS)
        os.utime(fd, ns=(moment, moment))


@contextmanager
def _named(path: list[bytes]) -> Iterator[None]:
    """Whatever cannot be done, absurd numbers too, names the file."""
    try:
        yield
    except (OSError, OverflowError, ValueError) as e:
        why = e.strerror if isinstance(e, OSError) else e
        raise InvalidInput(f"cannot copy {os.fsdecode(b'/'.join(path))[:200]!r}: {why}") from e


def _make_folder(folder: int, name: bytes) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=folder)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise


def _clear(folder: int, name: bytes) -> None:
    """Make room for a file: what is there goes, unless it is a folder, so that nothing is written through it."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass
    except (IsADirectoryError, PermissionError) as e:
        raise OSError(errno.EISDIR, "a folder is in its place") from e
