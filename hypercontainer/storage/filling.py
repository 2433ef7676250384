"""Filling a new volume: a guest copies what its image has there, and no other one does so at the same time."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from weakref import WeakValueDictionary


class Filling:
    """Who fills which folder, of all pods in this process."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, folder: Path) -> AsyncIterator[bool]:
        """For the block: whether `folder` is empty, and is to be filled now. If so, others who ask wait for its end."""
        async with self._locks.setdefault(folder, asyncio.Lock()):
            with os.scandir(folder) as entries:
                empty = next(entries, None) is None
            if empty:
                yield True
                return
        yield False
