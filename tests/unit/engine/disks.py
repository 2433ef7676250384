"""Disks that take no more for a while: a real one that is full, and one whose writes fail as a test says."""

import errno
import os
from pathlib import Path

import pytest

from hypercontainer.lib import files

BALLAST = 1 << 20  # bytes that are written at once


class Full:
    """A small file system of its own, mounted at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        with open(self.path / "ballast", "ab", buffering=0) as f:
            for size in (BALLAST, 4096, 1):
                try:
                    while f.write(b"\0" * size) == size:
                        pass
                except OSError as e:
                    assert e.errno == errno.ENOSPC

    def free(self) -> None:
        (self.path / "ballast").unlink(missing_ok=True)


class Failing:
    """The one door to small files fails with errno `number`."""

    def __init__(self, path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.number = path, number
        self._patch, self._write = monkeypatch, files.write

    def fill(self) -> None:
        def write(fd: int, data: bytes) -> None:
            self._write(fd, data[: len(data) // 2])  # a part arrives, as on real disks
            raise OSError(self.number, os.strerror(self.number))

        self._patch.setattr(files, "write", write)

    def free(self) -> None:
        self._patch.setattr(files, "write", self._write)


Disk = Full | Failing
