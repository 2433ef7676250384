"""What a pod sees of the host's files: one folder of bind mounts, served to its guest by one virtiofsd."""

import errno
import os
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from hypercontainer.errors import AlreadyExists, HyperError, InUse, InvalidInput, NotFound
from hypercontainer.lib import files, mount, userns
from hypercontainer.model import ids
from hypercontainer.model.container import Below, IdMap
from hypercontainer.model.record import ProcessRef

# The guest's programs run and its devices open in the guest, by the guest's rules; on the host nobody
# has any business to run, open or follow what a guest made.
HARDENED = mount.NOSUID | mount.NODEV | mount.NOEXEC | mount.NOSYMFOLLOW


class Share:
    """The folder `dir`: in it `points`, an empty folder or file for each bind mount, and `tree`, where they appear.

    `tree` (the `root` to serve) shows `points` read-only: a guest, even one that broke into virtiofsd, can make or
    replace no entry beside its own mounts. A mount point is made before its mount and removed after it, so it is the
    record of it: `clear` needs no other, whatever SIGKILL or reboot came between.

    What is mounted below a shared folder is with the servers of the root that are there then, and not in `tree`: here
    it would keep its places in the source, which are the host's, from being removed.

    Whoever removes `dir` must call `clear` first. It is one mount point: it never removes what was mounted.
    """

    def __init__(self, dir: Path) -> None:
        self.dir = dir
        self.root = dir / "tree"
        self._points = dir / "points"
        self._followed = dir / "followed"  # as what the host mounts comes there
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
                attributes = HARDENED | mount.RDONLY
                with _opened(self._points) as points, _cloned(points, attributes) as tree, _opened(self.root) as target:
                    # Shared, so that what is added later arrives in virtiofsd's mount namespace, a slave of ours; but
                    # not with what `points` is on, or it would arrive in there as well.
                    mount.change(tree, propagation=mount.MS_SHARED)
                    mount.move(tree, target)
            return self.root

    def become(self, root: Path) -> None:
        """Be the share with that root, of which nothing is there yet: whoever serves this one goes on. From then on
        nothing is here, and there is nothing to `clear`.

        What is mounted stays where it is in the folder, and so do the mounts of virtiofsd, a slave of it."""
        with files.telling(f"move a share to {root.parent}"), self._lock:
            self.dir.rename(root.parent)

    def add(
        self,
        name: str,
        source: Path,
        read_only: bool,
        subpath: str = "",
        map: IdMap | None = None,
        below: Below = "same",
    ) -> None:
        """Show the folder or file `source`, or what `subpath` leads to in it, with all that is mounted there, as `name`
        below the root, its files' owners mapped. What is mounted `below` it later is shown by `follow`.

        Read-only means all of it, unless `below` says otherwise, for every guest, however it asks. NotFound where
        nothing is; InvalidInput where nothing is at `subpath`, or it leads out of `source`: whoever writes there
        chooses its symbolic links.
        """
        ids.check_name("share", name)
        if not source.is_absolute():
            raise InvalidInput(f"cannot share {source}: the path is not absolute")
        with files.telling(f"share {source}"):
            try:
                with self._lock, _opened(source, follow=True) as fd, _within(fd, source, subpath) as part:
                    self.prepare()
                    self._bind(part, name, source, read_only, map, below)
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
                if not again:
                    self._leave(name)
            except BaseException:
                self.remove(name)
                raise

    def _bind(self, fd: int, name: str, source: Path, read_only: bool, map: IdMap | None, below: Below) -> None:
        all_of_it = mount.RDONLY if read_only and below == "same" else 0
        self._make_point(name, source, os.fstat(fd).st_mode)
        try:
            with _opened(self.root / name) as target, _cloned(fd, HARDENED | all_of_it) as tree:
                if read_only and not all_of_it:
                    mount.change(tree, mount.RDONLY, recursive=False)
                if map:
                    _map_ids(tree, map)
                mount.move(tree, target)
            self._leave(name)
            if below == "followed" and stat.S_ISDIR(os.fstat(fd).st_mode):
                (self._followed / name).mkdir(mode=0o700, parents=True)
                with _opened(self._followed / name) as target:
                    mount.bind(fd, target, propagation=mount.MS_SLAVE)
                with _opened(self._followed / name) as shown:  # where it is now may be a shared one
                    mount.change(shown, propagation=mount.MS_SLAVE)
        except BaseException:
            self.remove(name)
            raise

    def _leave(self, name: str) -> None:
        """Leave what is mounted below `name` to the servers."""
        place = self.root / name
        if found := _below(place) if place.is_dir() else {}:
            with _opened(place) as fd:
                mount.change(fd, propagation=mount.MS_PRIVATE)
            for within in sorted(found, reverse=True):  # what is deeper first
                _unmount(place / within)

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

    def further(self, name: str, servers: Sequence[ProcessRef]) -> bool:
        """Whether a guest of `servers` sees something that is mounted below `name`."""
        ids.check_name("share", name)
        return any(_served(name, server) for server in servers)

    def follow(self, name: str, servers: Sequence[ProcessRef]) -> None:
        """Have the guest of `servers` see what is mounted below `name`, which is followed, as of now."""
        ids.check_name("share", name)
        with files.telling(f"show what is mounted in share {name}"), self._lock:
            wanted = _below(self._followed / name)
            for server in servers:
                self._follow(name, server, wanted)

    def _follow(self, name: str, server: ProcessRef, wanted: Mapping[str, object]) -> None:
        """What cannot be shown keeps nothing else from it."""
        shown, failed = _served(name, server), list[OSError]()
        gone = [place for place in sorted(shown) if shown[place] != wanted.get(place)]
        kept = [place for place in shown if not any(f"{place}/".startswith(f"{each}/") for each in gone)]
        trees = dict[str, int]()
        for place in sorted(set(wanted).difference(kept)):
            with _noting(failed), _opened(self._followed / name) as root, _beneath(root, place) as fd:
                trees[place] = mount.clone(fd, attributes=HARDENED, propagation=mount.MS_PRIVATE, recursive=False)

        def change() -> None:
            for place in reversed(gone):
                with _noting(failed):
                    mount.unmount(Path("/", name, place))
            for place, tree in trees.items():
                with _noting(failed), _opened(Path("/", name)) as root, _beneath(root, place) as target:
                    mount.move(tree, target)

        try:
            if gone or trees:
                mount.within(server.pid, server.start_time, change)
        except ProcessLookupError:
            return
        finally:
            for tree in trees.values():
                os.close(tree)
        if failed:
            raise failed[0]

    def remove(self, name: str, servers: Sequence[ProcessRef] = ()) -> None:
        """Take `name` away, also from the guest of `servers`, which may use it. Safe any number of times."""
        ids.check_name("share", name)
        with self._lock:
            for server in servers:
                if _served(name, server):  # its files may be open for long: none of these is to stay for them
                    with suppress(ProcessLookupError):
                        mount.within(server.pid, server.start_time, lambda: _unmount(Path("/", name)))
            self._remove(name)

    def _remove(self, name: str) -> None:
        """With its place all that is mounted on that goes, in whatever namespace."""
        point = self._points / name
        for place in (self.root / name, point, self._followed / name):  # hyperds before us have had it at `point`, too
            _unmount(place)
        with suppress(FileNotFoundError):
            (self._followed / name).rmdir()
        try:
            _delete(point)
        except OSError as e:
            if e.errno != errno.EBUSY:
                raise
            # Who follows a folder that we are in has got a copy, which goes with ours only if nothing is below it.
            for copy in mount.places(f"/{self.dir.name}/{self.root.name}/{name}"):
                _unmount(Path(copy))
            _delete(point)

    def clear(self) -> None:
        """Take everything away, `dir` too. Safe any number of times, also for a folder that was never made."""
        with self._lock:
            for name in self.names():
                self.remove(name)
            _unmount(self.root)
            for path in (self.root, self._points, self._followed, self.dir):
                try:
                    path.rmdir()
                except FileNotFoundError:
                    pass


def _delete(point: Path) -> None:
    try:
        point.rmdir()
    except NotADirectoryError:
        point.unlink(missing_ok=True)
    except FileNotFoundError:
        pass


def _below(place: Path) -> dict[str, tuple[str, str]]:
    return mount.below(os.path.join(os.path.realpath(place.parent), place.name))


def _served(name: str, server: ProcessRef) -> dict[str, tuple[str, str]]:
    """What a server has mounted below `name`; nothing, if it has ended."""
    try:
        return mount.below(Path("/", name), server.pid)
    except OSError:
        return {}


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
def _beneath(root: int, path: str) -> Iterator[int]:
    fd = mount.beneath(root, path)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _noting(failed: list[OSError]) -> Iterator[None]:
    """What goes wrong in the block is in `failed`; that something has just gone is nothing wrong."""
    try:
        yield
    except FileNotFoundError:
        pass
    except OSError as e:
        failed.append(e)


@contextmanager
def _opened(path: Path, *, follow: bool = False) -> Iterator[int]:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    try:
        yield fd
    finally:
        os.close(fd)
