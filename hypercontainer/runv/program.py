"""Looks for a program before its container is made: engines ask for that at `create`, and have a status for it."""

from __future__ import annotations

import ctypes
import os
import stat

from hypercontainer.lib import mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

RESOLVE_IN_ROOT = 0x10  # of openat2: links and ".." lead to nowhere else


class NoProgram(Exception):
    """There is none, or it is no program."""


def check(root: str, process: dict[str, Any], unseen: Sequence[str]) -> None:
    """NoProgram, in runc's words, when `root` has not what `process` is to run. What may be at one of the places
    `unseen` is not looked for: whoever starts it sees more."""
    name = (process.get("args") or [""])[0]
    paths = list(_candidates(name, process))
    if not name or any(path == place or path.startswith(f"{place}/") for path in paths for place in unseen):
        return
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        modes = [mode for path in paths if (mode := _mode(fd, path))]
    finally:
        os.close(fd)
    if any(stat.S_ISREG(mode) and mode & 0o111 for mode in modes):
        return
    if modes:
        raise NoProgram(f'exec: "{name}": permission denied')
    why = "no such file or directory" if "/" in name else "executable file not found in $PATH"
    raise NoProgram(f'exec: "{name}": {why}')


def _candidates(name: str, process: dict[str, Any]) -> Iterator[str]:
    cwd = process.get("cwd") or "/"
    if "/" in name:
        yield os.path.normpath(os.path.join(cwd, name))
        return
    for entry in process.get("env") or []:
        if entry.startswith("PATH="):
            yield from (os.path.normpath(os.path.join(cwd, folder, name)) for folder in entry[5:].split(":"))


def _mode(root: int, path: str) -> int:
    """Of a file; 0: there is none."""
    how = mount.OpenHow(os.O_PATH | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT)
    size = ctypes.c_size_t(ctypes.sizeof(how))
    try:
        fd = mount.call(mount.OPENAT2, ctypes.c_int(root), os.fsencode(path), ctypes.byref(how), size)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    try:
        return os.fstat(fd).st_mode
    finally:
        os.close(fd)
