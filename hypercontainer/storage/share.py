"""What a pod sees of the host's files: one folder of bind mounts, served to its guest by one virtiofsd."""

import errno
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from hypercontainer.errors import AlreadyExists, HyperError, InUse, InvalidInput, NotFound
from hypercontainer.lib import files, mount, userns
from hypercontainer.model import ids
from hypercontainer.model.container import IdMap
from hypercontainer.model.record import ProcessRef

# The guest's programs run and its devices open in the guest, by the guest's rules; on the host nobody
# has any business to run, open or follow what a guest made.
HARDENED = mount.NOSUID | mount.NODEV | mount.NOEXEC | mount.NOSYMFOLLOW


class Share:
    """The folder `dir`: in it `points`, an empty folder or file for each bind mount, and `tree`, where they appear.

    `tree` (the `root` to serve) shows `points` read-only: a guest, even one that broke into virtiofsd, can make or
    replace no entry beside its own mounts. A mount point is made before its mount and removed after it, so it is the
    record of it: `clear` needs no other, whatever SIGKILL or reboot came between.

    Whoever removes `dir` must call `clear` first. It is one mount point: it never removes what was mounted.
    """

    def __init__(self, dir: Path) -> None:
        self.dir = dir
        self.root = dir / "tree"
        self._points = dir / "points"
        self._lock = threading.RLock()  # several containers of a pod are made at once, their mounts in threads

    @property
    def served(self) -> bool:
        """Whether there is a root to serve, empty or not: since `prepare`, and until `clear`."""
        return self.root.exists()

    def prepare(self) -> Path:
        """Make the folder, and return the root that virtiofsd serves. Again = no change."""
        with self._lock:
            for path in (self.dir, self._points, self.root):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._points.chmod(0o755)  # the root folder as the guest's users see it
            if not self.root.samefile(self._points):
                with _opened(self._points) as source, _opened(self.root) as target:
                    # Shared, so that what is added later arrives in virtiofsd's mount namespace, a slave of ours.
                    mount.bind(source, target, attributes=HARDENED | mount.RDONLY, propagation=mount.MS_SHARED)
            return self.root

    def become(self, root: Path) -> None:
        """Be the share with that root, of which nothing is there yet: whoever serves this one goes on. From then on
        nothing is here, and there is nothing to `clear`.

        What is mounted stays where it is in the folder, and so do the mounts of virtiofsd, a slave of it."""
        with files.telling(f"move a share to {root.parent}"), self._lock:
            self.dir.rename(root.parent)

    def add(self, name: str, source: Path, read_only: bool, subpath: str = "", map: IdMap | None = None) -> None:
        """Show the folder or file `source`, or what `subpath` leads to in it, with all that is mounted there, as `name`
        below the root, its files' owners mapped.

        Read-only means all of it, for every guest, however it asks. NotFound where nothing is; InvalidInput where
        nothing is at `subpath`, or it leads out of `source`: whoever writes there chooses its symbolic links.
        """
        ids.check_name("share", name)
        if not source.is_absolute():
            raise InvalidInput(f"cannot share {source}: the path is not absolute")
        with files.telling(f"share {source}"):
            try:
                with self._lock, _opened(source, follow=True) as fd, _within(fd, source, subpath) as part:
                    self.prepare()
                    self._bind(part, name, source, HARDENED | (mount.RDONLY if read_only else 0), map)
            except FileNotFoundError as e:
                raise NotFound("bind mount source", str(source), "create it first") from e

    def add_tree(self, name: str, tree: int, read_only: bool, map: IdMap | None = None, *, again: bool = False) -> None:
        """Show a mount tree that has no place yet (lib.mount.clone), which is here from now on, with its files' owners
        mapped. `again`: it is shown in another way, too; the one that is not read-only comes first."""
        ids.check_name("share", name)
        with files.telling(f"share {name}"), self._lock, _copied(tree) if again else nullcontext(tree) as own:
            self.prepare()
            if map:
                _map_ids(own, map)
            mount.change(own, HARDENED | (mount.RDONLY if read_only else 0), mount.MS_PRIVATE)
            self._make_point(name, self.root / name, os.fstat(own).st_mode)
            try:
                with _opened(self.root / name) as target:
                    mount.move(own, target)
            except BaseException:
                self.remove(name)
                raise

    def _bind(self, fd: int, name: str, source: Path, attributes: int, map: IdMap | None) -> None:
        self._make_point(name, source, os.fstat(fd).st_mode)
        try:
            with _opened(self.root / name) as target, _cloned(fd, attributes) as tree:
                if map:
                    _map_ids(tree, map)
                mount.move(tree, target)
        except BaseException:
            self.remove(name)
            raise

    def _make_point(self, name: str, source: Path, mode: int) -> None:
        point = self._points / name
        try:
            if stat.S_ISDIR(mode):
                point.mkdir(mode=0o755)
            elif stat.S_ISREG(mode):
                os.close(os.open(point, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
            else:
                raise InvalidInput(f"cannot share {source}: only folders and files reach into a virtual machine")
        except FileExistsError as e:
            words = f"cannot share {source} as {name}: the name is taken"
            raise AlreadyExists(words, "share", name) from e

    def allow_writes(self, name: str, servers: Sequence[ProcessRef]) -> None:
        """Let the guest of `servers`, its virtiofsd, write to `name`, which was added read-only. Again = no change.

        A server that is gone serves nobody: here and below, nothing happens."""
        self._set(name, servers, "writable", cleared=mount.RDONLY)

    def refuse_writes(self, name: str, servers: Sequence[ProcessRef]) -> bool:
        """Make `name` read-only again, also for whoever has it open. Again = no change.

        False: a file in it is open for writing, and nothing has changed."""
        try:
            self._set(name, servers, "read-only", mount.RDONLY)
        except InUse:
            return False
        return True

    def _set(self, name: str, servers: Sequence[ProcessRef], what: str, added: int = 0, *, cleared: int = 0) -> None:
        """In their mount namespaces, whose root is the share's: ours knows nothing of it."""
        ids.check_name("share", name)

        def change() -> None:
            with _opened(Path("/", name)) as fd:
                mount.change(fd, added, cleared=cleared)

        for server in servers:
            try:
                mount.within(server.pid, server.start_time, change)
            except ProcessLookupError:
                continue
            except OSError as e:
                words = f"cannot make {name} {what} for the guest: {e.strerror}"
                raise (InUse(words, "share", name) if e.errno == errno.EBUSY else HyperError(words)) from e

    def names(self) -> list[str]:
        """What is shared, or was about to be."""
        try:
            return sorted(os.listdir(self._points))
        except FileNotFoundError:
            return []

    def shows(self, name: str, source: Path, subpath: str = "", tree: int | None = None) -> bool:
        """Whether `name` is there, and what it shows is `source` still, or what `subpath` leads to in it; or that mount
        `tree`'s root."""
        ids.check_name("share", name)
        try:
            if tree is not None:
                with _opened(self.root / name) as shown:
                    return os.path.sameopenfile(shown, tree)
            with (
                _opened(self.root / name) as shown,
                _opened(source, follow=True) as fd,
                _within(fd, source, subpath) as part,
            ):
                return os.path.sameopenfile(shown, part)
        except (OSError, InvalidInput):  # `add` says what is wrong with a source
            return False

    def remove(self, name: str) -> None:
        """Take `name` away, also from a guest that uses it. Safe any number of times."""
        ids.check_name("share", name)
        _unmount(self.root / name)
        point = self._points / name
        try:
            point.rmdir()
        except NotADirectoryError:
            point.unlink(missing_ok=True)
        except FileNotFoundError:
            pass

    def clear(self) -> None:
        """Take everything away, `dir` too. Safe any number of times, also for a folder that was never made."""
        with self._lock:
            for name in self.names():
                self.remove(name)
            _unmount(self.root)
            for path in (self.root, self._points, self.dir):
                try:
                    path.rmdir()
                except FileNotFoundError:
                    pass


@contextmanager
def _cloned(fd: int, attributes: int) -> Iterator[int]:
    tree = mount.clone(fd, attributes=attributes, propagation=mount.MS_PRIVATE)
    try:
        yield tree
    finally:
        os.close(tree)


@contextmanager
def _copied(tree: int) -> Iterator[int]:
    """A kernel copies a tree of another mount namespace only when it has a place in ours: there the first to ask has
    the tree itself, and who comes later a copy of what that one has made of it."""
    try:
        own = mount.clone(tree)
    except OSError as e:
        if e.errno != errno.EINVAL:
            raise
        own = os.dup(tree)
    try:
        yield own
    finally:
        os.close(own)


def _map_ids(tree: int, map: IdMap) -> None:
    uids, gids = ([(each.inside, each.outside, each.size) for each in ranges] for ranges in (map.uids, map.gids))
    try:
        users = userns.opened(uids, gids)
    except OSError as e:
        raise InvalidInput(f"cannot map ids of a mount: the host's kernel takes no such mappings: {e.strerror}") from e
    try:
        mount.map_ids(tree, users, recursive=map.recursive)
    except OSError as e:
        why = "the file system there maps none" if e.errno == errno.EINVAL else e.strerror
        raise InvalidInput(f"cannot map ids of a mount: {why}") from e
    finally:
        os.close(users)


def _unmount(path: Path) -> None:
    try:
        while mount.unmount(path):
            pass  # one may lie over another
    except OSError as e:
        raise HyperError(f"cannot unmount {path}: {e.strerror}") from e


@contextmanager
def _within(fd: int, source: Path, subpath: str) -> Iterator[int]:
    """A descriptor of what is at `subpath` of `source`, which `fd` is open at. InvalidInput, in docker's words."""
    if not subpath:
        yield fd
        return
    try:
        part = mount.beneath(fd, subpath)
    except OSError as e:
        if e.errno == errno.EXDEV:
            words = f"path concatenation escapes the base directory, base: {source}, subpath: {subpath}"
        else:
            words = f"cannot access path {source / subpath}: {os.strerror(e.errno or 0).lower()}"
        raise InvalidInput(words) from e
    try:
        yield part
    finally:
        os.close(part)


@contextmanager
def _opened(path: Path, *, follow: bool = False) -> Iterator[int]:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    try:
        yield fd
    finally:
        os.close(fd)
