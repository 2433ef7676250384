"""Filling a new volume: a guest copies what its image has there, and no other one does so at the same time.

One that is cut short (its guest ended, the disk was full) leaves a folder in the volume that says so. The next guest
goes on with it, and what is there stays as it is.
"""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal
from weakref import WeakValueDictionary

UNFINISHED = ".hyper-unfinished"  # as guest/mount.h has it

State = Literal["empty", "unfinished", "filled"]


class Filling:
    """Who fills which folder, of all pods in this process."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, place: Path, folder: Path) -> AsyncIterator[State]:
        """For the block: what `place` is, which `folder` shows. Others who ask wait for the end of it, if it is to be
        filled now."""
        async with self._locks.setdefault(place, asyncio.Lock()):
            if (state := await asyncio.to_thread(_state, folder)) != "filled":  # it may be on another machine
                yield state
                return
        yield "filled"


def _state(folder: Path) -> State:
    try:
        with os.scandir(folder) as entries:
            if next(entries, None) is None:
                return "empty"
    except NotADirectoryError:
        return "filled"
    try:
        return "unfinished" if stat.S_ISDIR(os.lstat(folder / UNFINISHED).st_mode) else "filled"
    except FileNotFoundError:
        return "filled"
