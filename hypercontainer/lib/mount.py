"""Mounts by file descriptors: a tree is cloned, given its attributes, and only then put in its place.

So no path is resolved twice, and nobody ever sees a tree that is to be read-only while it is not. Needs Linux 5.12.
Every function raises OSError. `runv create` waits for what is imported: ctypes, and nothing large.
"""

from __future__ import annotations

import ctypes
import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

RDONLY = 0x1
NOSUID = 0x2
NODEV = 0x4
NOEXEC = 0x8
IDMAP = 0x100000  # of a tree without a place: which ids are which
NOSYMFOLLOW = 0x200000  # Linux 5.14; path walks below the mount follow no symbolic link

MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_REC = 1 << 14

CLONE_FS = 0x200
CLONE_NEWNS = 0x20000
CLONE_NEWNET = 0x40000000

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

# The same on every architecture: numbers from 424 on are shared.
OPEN_TREE, MOVE_MOUNT, FSOPEN, FSCONFIG, FSMOUNT, OPENAT2, MOUNT_SETATTR = 428, 429, 430, 431, 432, 437, 442
CLOEXEC, FSCONFIG_CMD_CREATE = 1, 6  # FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC
OPEN_TREE_CLONE = 1
AT_RECURSIVE = 0x8000
AT_EMPTY_PATH = 0x1000
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
RESOLVE_NO_MAGICLINKS, RESOLVE_BENEATH = 0x2, 0x8

_libc = ctypes.CDLL(None, use_errno=True)


class MountAttr(ctypes.Structure):
    """struct mount_attr of linux/mount.h"""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


class OpenHow(ctypes.Structure):
    """struct open_how of linux/openat2.h"""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def libc() -> ctypes.CDLL:
    return _libc


def call(number: int, *args: object) -> int:
    result = int(libc().syscall(ctypes.c_long(number), *args))
    if result < 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))
    return result


def beneath(root: int, path: str) -> int:
    """Open (O_PATH) what `path` leads to from the folder open at `root`, also through symbolic links. EXDEV when it
    leads out of that, whoever moves what is in it meanwhile."""
    how = OpenHow(os.O_PATH | os.O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)
    name, size = os.fsencode(path), ctypes.c_size_t(ctypes.sizeof(how))
    while True:
        try:
            return call(OPENAT2, ctypes.c_int(root), name, ctypes.byref(how), size)
        except BlockingIOError:  # something was renamed just now
            continue


def clone(fd: int, *, attributes: int = 0, propagation: int = 0, recursive: bool = True) -> int:
    """Clone the mount tree at `fd` (O_PATH is enough) as one that has no place yet, and return its descriptor.

    `attributes` are added to those of each mount in it. Closing the descriptor before `move` undoes the clone.
    """
    below = AT_RECURSIVE if recursive else 0
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC | AT_EMPTY_PATH | below
    tree = call(OPEN_TREE, ctypes.c_int(fd), b"", ctypes.c_uint(flags))
    try:
        if attributes or propagation:
            change(tree, attributes, propagation, recursive=recursive)
    except BaseException:
        os.close(tree)
        raise
    return tree


def clones(paths: Iterable[str]) -> list[int]:
    """Clone the tree at each of `paths`, in their order. All or none; the error has the path."""
    trees: list[int] = []
    try:
        for path in paths:
            try:
                fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
                try:
                    trees.append(clone(fd))
                finally:
                    os.close(fd)
            except OSError as e:
                raise OSError(e.errno, os.strerror(e.errno or 0), path) from e
    except BaseException:
        for tree in trees:
            os.close(tree)
        raise
    return trees


def change(fd: int, attributes: int = 0, propagation: int = 0, *, cleared: int = 0, recursive: bool = True) -> None:
    """Add `attributes` to the mount whose root `fd` is, and to all below it; take `cleared` away from them; set their
    propagation unless 0.

    EBUSY: it is to be read-only, and a file in it is open for writing."""
    attr = MountAttr(attributes, cleared, propagation, 0)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    size = ctypes.c_size_t(ctypes.sizeof(attr))
    call(MOUNT_SETATTR, ctypes.c_int(fd), b"", ctypes.c_uint(flags), ctypes.byref(attr), size)


def map_ids(tree: int, users: int, *, recursive: bool) -> None:
    """Have files of a tree that has no place yet belong to the ids that they are in the user namespace open at `users`.

    EINVAL: a file system in it maps none. EPERM: its ids are mapped already."""
    attr = MountAttr(IDMAP, 0, 0, users)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    size = ctypes.c_size_t(ctypes.sizeof(attr))
    call(MOUNT_SETATTR, ctypes.c_int(tree), b"", ctypes.c_uint(flags), ctypes.byref(attr), size)


def move(tree: int, target: int) -> None:
    """Put a cloned tree onto what `target` is open at: folder on folder, file on file."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    call(MOVE_MOUNT, ctypes.c_int(tree), b"", ctypes.c_int(target), b"", ctypes.c_uint(flags))


def bind(source: int, target: int, *, attributes: int = 0, propagation: int = MS_PRIVATE) -> None:
    """Show the tree open at `source`, with all that is mounted in it, at `target`."""
    tree = clone(source, attributes=attributes, propagation=propagation)
    try:
        move(tree, target)
    finally:
        os.close(tree)


def detached(kind: str) -> int:
    """Mount a new file system of that kind nowhere, and return the descriptor of its root: it goes when that, and what
    was opened below it, is closed."""
    context = call(FSOPEN, os.fsencode(kind), ctypes.c_uint(CLOEXEC))
    try:
        call(FSCONFIG, ctypes.c_int(context), ctypes.c_uint(FSCONFIG_CMD_CREATE), None, None, ctypes.c_int(0))
        return call(FSMOUNT, ctypes.c_int(context), ctypes.c_uint(CLOEXEC), ctypes.c_uint(0))
    finally:
        os.close(context)


def mount(source: str, target: int, kind: str, flags: int, data: str) -> None:
    """Mount a file system of that kind over the folder open at `target`; see mount(2)."""
    words = [os.fsencode(word) for word in (source, f"/proc/self/fd/{target}", kind, data)]
    if libc().mount(*words[:3], ctypes.c_ulong(flags), words[3]):
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))


def mounted(path: str | os.PathLike[str]) -> bool:
    """Whether something is mounted at `path`, which has no symbolic link in it. What is mounted is not asked: it may be
    on a machine that does not answer."""
    wanted = os.fspath(path)
    return any(place == wanted for place, _ in _rows())


def below(path: str | os.PathLike[str], pid: int | None = None) -> dict[str, tuple[str, str]]:
    """What is mounted below `path`, which has no symbolic link in it, in our namespace or that process's: at which
    place from there, and what: a device, and what of its file system. Of several at one place, the one that is seen."""
    above = f"{os.fspath(path)}/"
    found = {place: (row[2], row[3]) for place, row in _rows(pid) if place.startswith(above)}
    return {place.removeprefix(above): what for place, what in found.items()}


def places(end: str) -> list[str]:
    """Where something is mounted in our namespace, of paths that end so."""
    return [place for place, _ in _rows() if place.endswith(end)]


def spreads(path: str | os.PathLike[str]) -> bool:
    """Whether clones of the mount that `path` is on can follow what is mounted below it later."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        with open(f"/proc/self/fdinfo/{fd}") as f:
            id = next(line.split()[1] for line in f if line.startswith("mnt_id:"))
    finally:
        os.close(fd)
    words = next((row[6 : row.index("-")] for _, row in _rows() if row[0] == id), [])
    return any(word.startswith(("shared:", "master:")) for word in words)


def _rows(pid: int | None = None) -> Iterator[tuple[str, list[str]]]:
    """Of a mountinfo: where something is mounted, and all that is said of it."""
    import re

    escaped = re.compile(r"\\([0-7]{3})")  # a space, a newline, a backslash in a path
    with open(f"/proc/{pid or 'self'}/mountinfo") as f:
        for row in map(str.split, f):
            yield escaped.sub(lambda found: chr(int(found[1], 8)), row[4]), row


def within(pid: int, started: int, work: Callable[[], None], *, network: bool = False) -> None:
    """Do `work` in the mount namespace of that very process, and in its `network`: paths start at its root. ESRCH when
    it is gone.

    A thread does it that ends with it: one that has entered another namespace is of no use in ours."""
    from concurrent.futures import ThreadPoolExecutor

    from hypercontainer.lib import proc

    pidfd = proc.pidfd(pid, started)
    if pidfd is None:
        raise OSError(errno.ESRCH, os.strerror(errno.ESRCH))

    kinds = CLONE_NEWNS | CLONE_NEWNET if network else CLONE_NEWNS

    def enter() -> None:
        if libc().unshare(CLONE_FS) or libc().setns(ctypes.c_int(pidfd), ctypes.c_int(kinds)):
            e = ctypes.get_errno()
            raise OSError(e, os.strerror(e))
        work()

    libc()  # now, for it is a file of ours
    try:
        with ThreadPoolExecutor(max_workers=1) as thread:
            thread.submit(enter).result()
    finally:
        os.close(pidfd)


def kind(path: str | os.PathLike[str]) -> str:
    """The type of the file system that holds `path`: "ext4", "tmpfs"; "" if that is not told."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo") as f:
        rows = [line.split() for line in f]
    return next((row[row.index("-") + 1] for row in rows if row[2] == wanted), "")


def unmount(path: str | os.PathLike[str]) -> bool:
    """Take away the topmost mount at `path` and all below it, at once even when in use. False if there is none."""
    if libc().umount2(os.fsencode(path), ctypes.c_int(MNT_DETACH | UMOUNT_NOFOLLOW)) == 0:
        return True
    e = ctypes.get_errno()
    if e in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
        return False
    raise OSError(e, os.strerror(e), os.fspath(path))


class Apart:
    """A mount namespace of this thread's own, for a block: nobody else sees what is mounted meanwhile."""

    def __enter__(self) -> None:
        self._before = [os.open(f"/proc/thread-self/{name}", _KEPT) for name in ("cwd", "root")]
        self._before.append(os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC))
        if libc().unshare(CLONE_NEWNS):
            raise self._closed(ctypes.get_errno())
        if libc().mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_SLAVE), None):
            error = ctypes.get_errno()
            self.__exit__()
            raise OSError(error, os.strerror(error))

    def __exit__(self, *error: object) -> None:
        cwd, root, namespace = self._before
        if libc().setns(ctypes.c_int(namespace), ctypes.c_int(CLONE_NEWNS)):
            raise self._closed(ctypes.get_errno())
        os.fchdir(root)
        os.chroot(".")
        os.fchdir(cwd)
        self._closed(0)

    def _closed(self, error: int) -> OSError:
        for fd in self._before:
            os.close(fd)
        return OSError(error, os.strerror(error))


_KEPT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
