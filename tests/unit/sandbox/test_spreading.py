"""Whoever follows what this host mounts hears of it."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from hypercontainer.sandbox.spreading import _changes

LIMIT_S = 60.0

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts")


async def test_each_change_is_told(tmp_path: Path) -> None:
    with _changes() as changed:
        for words in (["mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], ["umount", str(tmp_path)]):
            changed.clear()
            await asyncio.to_thread(subprocess.run, words, check=True)
            async with asyncio.timeout(LIMIT_S):
                await changed.wait()
