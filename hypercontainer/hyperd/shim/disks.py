"""Mounts of a root file system that are disks of the machine: those of block devices, and of files with `loop`.

Nothing of what is on them is looked at here: what type a file system is of, containerd says.
"""

import os
import re
import stat
from collections.abc import Mapping, Sequence
from typing import get_args

import msgspec

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.shim.messages import Mount
from hypercontainer.model.bundle import Disk
from hypercontainer.model.record import FileSystem

TYPES: tuple[FileSystem, ...] = get_args(FileSystem)
PASSED_OVER = ("rw", "defaults", "loop")
# What containerd's manager of mounts says of those before: {{ mount 0 }}, {{ overlay 1 3 }}.
BEFORE = re.compile(r"\{\{ *(mount|overlay) +(\d{1,3})(?: +(\d{1,3}))? *\}\}(/upper|/work)?")
PREPARED = "X-containerd.mkdir.path="  # a folder that is made where overlay wants one


def of(mounts: Sequence[Mount]) -> list[Disk]:
    """What the machine has in their place; nothing: they are to be made on this host. One disk, which is the root
    itself, or several, as overlay has them: the uppermost first of those that are read, and one that is written.
    InvalidInput for what neither is."""
    found = [_disk(each) for each in mounts if each.type in TYPES]
    others = [each for each in mounts if each.type not in TYPES]
    if not found:
        return []
    if mounts[0].type in TYPES and len(mounts) == 1:
        return found
    if is_below_a_folder(mounts):
        return []
    if len(others) != 1 or mounts[-1] is not others[0] or others[0].type.rpartition("/")[2] != "overlay":
        kinds = ", ".join(each.type[:40] for each in mounts[:9])
        raise InvalidInput(f"cannot mount {kinds} one after the other: disks lie below an overlay, or one is alone")
    return _laid(found, others[0])


def is_below_a_folder(mounts: Sequence[Mount]) -> bool:
    """EROFS ones, below an overlay that writes to a folder of this host: see layers."""
    *lowers, overlay = mounts
    above = [option for option in overlay.options if option.startswith("upperdir=/")]
    return bool(lowers and above) and all(each.type == "erofs" for each in lowers)


def check_made(mounts: Sequence[Mount]) -> None:
    """InvalidInput for what nobody but a manager of mounts can make."""
    for each in mounts:
        if "/" in each.type:
            raise InvalidInput(f"cannot mount a {each.type[:60]!r}: there are no mounts before that are disks")


def look(disks: Sequence[Disk], mounts: Sequence[Mount], opened: Mapping[str, int]) -> list[Disk]:
    """The same, with what they are, as `opened`. InvalidInput for what is no disk, or in use by this host's kernel."""
    loops = {each.source for each in mounts if "loop" in each.options}
    return [_look(disk, opened[disk.path], loop=disk.path in loops) for disk in disks]


def _look(disk: Disk, fd: int, *, loop: bool) -> Disk:
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode) and loop:
        return disk
    if not stat.S_ISBLK(mode):
        why = "it is a file, and the options have no loop" if stat.S_ISREG(mode) else "it is no disk"
        raise InvalidInput(f"cannot mount {disk.path}: {why}")
    if not disk.read_only:  # nobody else writes to it: a file system that is mounted here, or a device over it
        try:
            os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_EXCL | os.O_CLOEXEC))
        except OSError as e:
            raise InvalidInput(f"cannot mount {disk.path}: {e.strerror}") from e
    return msgspec.structs.replace(disk, device=True)


def _disk(found: Mount) -> Disk:
    if found.target.strip("/"):
        raise InvalidInput(f"cannot mount {found.source[:200]} at {found.target[:200]}: a disk is all of the root")
    if not found.source.startswith("/"):
        raise InvalidInput(f"cannot mount {found.source[:200]!r}: the path is not absolute")
    options = [option for option in found.options if option not in (*PASSED_OVER, "ro")]
    read_only = "ro" in found.options
    [type] = [type for type in TYPES if type == found.type]
    return Disk(path=found.source, type=type, read_only=read_only, options=options)


def _laid(disks: Sequence[Disk], overlay: Mount) -> list[Disk]:
    said: dict[str, str] = {}
    for option in overlay.options:
        if option in PASSED_OVER or option.startswith(PREPARED):
            continue
        name, equals, value = option.partition("=")
        if name not in ("lowerdir", "upperdir", "workdir") or not equals or name in said:
            raise InvalidInput(f"cannot lay disks over each other with option {option[:100]!r}")
        said[name] = value
    lowers = _before(disks, said.get("lowerdir", ""), "")
    if "upperdir" not in said and "workdir" not in said:
        return _checked(lowers, [])
    uppers = _before(disks, said.get("upperdir", ""), "/upper")
    if _before(disks, said.get("workdir", ""), "/work") != uppers:
        raise InvalidInput("cannot lay disks over each other: upperdir and workdir are not on the same one")
    return _checked(lowers, uppers)


def _before(disks: Sequence[Disk], said: str, folder: str) -> list[Disk]:
    """Those that an option of overlay names."""
    if found := before(said, folder, len(disks)):
        return [disks[number] for number in found]
    raise InvalidInput(f"cannot lay disks over each other: {said[:200]!r} names no disk")


def before(said: str, folder: str, count: int) -> Sequence[int]:
    """Numbers of the mounts, of `count` before, that a template names, with that folder; none: it is none."""
    found = BEFORE.fullmatch(said)
    if not found or (found[4] or "") != folder or (found[1] == "overlay") != (found[3] is not None):
        return ()
    first, last = int(found[2]), int(found[3] or found[2])
    numbers = range(first, last + 1) if first <= last else range(first, last - 1, -1)
    return numbers if max(numbers) < count else ()


def _checked(lowers: Sequence[Disk], uppers: Sequence[Disk]) -> list[Disk]:
    """All that the machine mounts of its own accord."""
    for disk, type in [*((disk, "erofs") for disk in lowers), *((disk, "ext4") for disk in uppers)]:
        if disk.type != type or disk.options or disk.read_only != (type == "erofs"):
            said = " ".join([disk.type, "ro" if disk.read_only else "rw", *disk.options])[:200]
            wanted = "erofs ro" if type == "erofs" else "ext4 rw"
            raise InvalidInput(f"cannot lay {disk.path} over others as {said}: it has to be {wanted}")
    if len({disk.path for disk in (*lowers, *uppers)}) < len(lowers) + len(uppers) or len(uppers) > 1:
        raise InvalidInput("cannot lay disks over each other: one is there twice")
    return [*lowers, *uppers]
