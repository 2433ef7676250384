"""The writable layer of a container: a sparse raw disk with an empty ext4, which only the guest ever mounts."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypercontainer.errors import AlreadyExists, InvalidInput
from hypercontainer.lib import files, proc, sparse

MIN_MIB = 16
MAX_MIB = 8 << 20  # 8 TiB: half of what 32-bit block numbers reach
TEMPLATES = 16  # sizes that are kept ready

# The name says what the options below make: change one, change the other.
LAYOUT = "ext4-1"
FEATURES = (
    "none",  # nothing that /etc/mke2fs.conf of this host happens to say
    "has_journal",  # a VM may be killed at any moment, and its disk must mount again
    "ext_attr",  # overlay keeps its whiteouts and origins there
    "filetype",  # overlay refuses an upper layer whose readdir tells no types
    "extent",
    "dir_index",
    "dir_nlink",
    "extra_isize",  # times to the nanosecond, and past 2038
    "large_file",
    "huge_file",
    "uninit_bg",  # groups that were never used are neither read nor written; unlike metadata_csum it needs no crc32c
    "flex_bg",  # with -G below: all bitmaps and tables lie together, in a few extents of the file
    "sparse_super2",  # with num_backup_sb=0: no copies of the superblock all over a file that nobody repairs
)


def mkfs(path: str, size_mib: int) -> list[str]:
    """argv that formats `path`: 6 ms and 124 KiB for 10 GiB."""
    return [
        "mkfs.ext4", "-q", "-F",
        "-b", "4096", "-I", "256", "-i", "16384",
        "-O", ",".join(FEATURES),
        "-G", "4096",
        # MiB. It is written round and round, so it bounds what little work takes on the host's disk.
        "-J", f"size={16 if size_mib >= 512 else 4}",
        "-m", "0",  # nothing kept back for root: everyone in the guest may be root
        # discard tells mkfs that the file is all zeroes, so that the guest's kernel has no tables to clear.
        "-E", "num_backup_sb=0,lazy_journal_init=1,root_owner=0:0,discard",
        path,
    ]  # fmt: skip


@contextmanager
def _making(path: Path) -> Iterator[None]:
    """An OSError of the block in our words."""
    with files.telling(f"create scratch disk {path}"):
        try:
            yield
        except FileExistsError as e:
            words = f"cannot create scratch disk {path}: it exists"
            raise AlreadyExists(words, "scratch disk", str(path)) from e


async def create(path: Path, size_mib: int, template_dir: Path) -> None:
    """Make `path` a sparse disk of `size_mib` MiB with an empty ext4 in it, mode 0600.

    It appears whole or not at all, whatever happens. Its blocks reach the host's disk when the guest first flushes
    its own. Raises InvalidInput for a size out of bounds, AlreadyExists, Exhausted when the disk is full.
    """
    if not MIN_MIB <= size_mib <= MAX_MIB:
        raise InvalidInput(f"cannot create a scratch disk of {size_mib} MiB: use {MIN_MIB} to {MAX_MIB}")
    with _making(path):
        source = await _template(template_dir, size_mib)
        try:
            _copy(source, path)  # no thread: some 100 KiB into the page cache, less than a millisecond
        finally:
            os.close(source)


def copy(source: Path, path: Path) -> None:
    """Make `path` a disk of its own with what `source` has in it, which nobody writes meanwhile. Blocks.

    It appears whole or not at all. Raises AlreadyExists, Exhausted when the disk is full."""
    with _making(path):
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _copy(fd, path)
        finally:
            os.close(fd)


def blank(like: Path, path: Path) -> None:
    """Make `path` a disk as large as `like` with nothing on it, not even a file system: for `fill`."""
    with _making(path):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.truncate(fd, like.stat().st_size)
        finally:
            os.close(fd)


def fill(path: Path, source: Path) -> None:
    """Make the blank disk `path` what `source` is, which nobody writes meanwhile. Blocks. Exhausted: it is half so."""
    with _making(path), open(source, "rb", buffering=0) as old, open(path, "r+b", buffering=0) as new:
        sparse.copy(old.fileno(), new.fileno())


async def _template(folder: Path, size_mib: int) -> int:
    """Open the empty file system of this size, made if need be. Two makers at once do no harm: the first one wins."""
    name = folder / f"{LAYOUT}-{size_mib}.img"
    try:
        return _opened(name)
    except FileNotFoundError:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        os.truncate(fd, size_mib << 20)
        await _format(fd, size_mib, name)
        _forget_oldest(folder)
        try:
            _give_name(fd, name)
        except FileExistsError:
            pass  # by the other maker; ours is as good for this once
    except BaseException:
        os.close(fd)
        raise
    return fd


def _opened(template: Path) -> int:
    fd = os.open(template, os.O_RDONLY | os.O_CLOEXEC)
    os.utime(fd)  # used last now
    return fd


async def _format(fd: int, size_mib: int, name: Path) -> None:
    try:
        await proc.run(mkfs(f"/proc/self/fd/{fd}", size_mib), timeout_s=60, pass_fds=[fd])
    except proc.CommandFailed as e:
        if os.strerror(errno.ENOSPC) in e.stderr:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(name)) from e
        raise


def _forget_oldest(folder: Path) -> None:
    """Make room for one more template."""
    ages = []
    for path in folder.glob("ext4-*.img"):
        try:
            ages.append((path.stat().st_mtime_ns, path))
        except FileNotFoundError:
            continue  # forgotten by another process
    for _, path in sorted(ages, reverse=True)[TEMPLATES - 1 :]:
        path.unlink(missing_ok=True)


def _copy(source: int, path: Path) -> None:
    """Copy the file open at `source` to `path`; nothing has the name before everything is there."""
    fd = os.open(path.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        sparse.copy(source, fd)
        _give_name(fd, path)
    finally:
        os.close(fd)


def _give_name(fd: int, path: Path) -> None:
    """Link a file that was opened without a name; FileExistsError if another one has it."""
    # src_dir_fd means nothing to an absolute path, but makes Python call linkat, which follows the link in /proc.
    os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)
