"""The archive of a container's checkpoint, as CRI-O and containerd lay it out: a tar that appears whole or not at all.

What is in it the guest has written, who may be anybody: names, kinds and sizes are looked at before they are believed.
"""

import io
import os
import re
import stat
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from hypercontainer.errors import AlreadyExists, Exhausted, HyperError, InvalidInput, NotFound
from hypercontainer.lib import files

IMAGES = "checkpoint"  # the folder of CRIU's in it
MOST_FILES = 100_000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}", re.ASCII)
PIECE = 1 << 20


class Cancelled(Exception):
    """Nobody waits for the archive any more."""


class Part(NamedTuple):
    """A file, open, and its name in the archive."""

    name: str
    fd: int
    size: int


class Location:
    """Where an archive is to be: in a folder that is there, under a name that nothing has. Until `appear` it has no
    name, and goes with whoever writes it."""

    def __init__(self, path: str, folder: int, fd: int) -> None:
        self.path, self._folder, self.fd = path, folder, fd

    @classmethod
    @contextmanager
    def made(cls, path: str) -> Iterator["Location"]:
        """InvalidInput, NotFound, AlreadyExists."""
        if not path.startswith("/") or os.path.normpath(path) != path or path == "/":
            raise InvalidInput(f"invalid location {path[:200]!r}: give the absolute path of a file to be, without ..")
        above, name = os.path.split(path)
        opened: list[int] = []
        try:
            with files.telling(f"write a checkpoint to {path}"):
                try:
                    opened.append(os.open(above, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
                except (FileNotFoundError, NotADirectoryError) as e:
                    raise NotFound("folder", above, "make it: a checkpoint is to be in it") from e
                with suppress(FileNotFoundError):
                    os.stat(name, dir_fd=opened[0], follow_symlinks=False)
                    raise _taken(path)
                flags = os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC
                opened.append(os.open(".", flags, 0o600, dir_fd=opened[0]))  # it holds all that processes know
            yield cls(path, *opened)
        finally:
            for fd in opened:
                os.close(fd)

    def appear(self) -> None:
        """Whole, and for good. What has come to its name meanwhile, a link too, is neither followed nor replaced."""
        with files.telling(f"write a checkpoint to {self.path}"):
            os.fsync(self.fd)
            try:
                os.link(f"/proc/self/fd/{self.fd}", os.path.basename(self.path), dst_dir_fd=self._folder)
            except FileExistsError as e:
                raise _taken(self.path) from e
            files.fsync(Path(f"/proc/self/fd/{self._folder}"))


def _taken(path: str) -> AlreadyExists:
    words = f"cannot write a checkpoint to {path}: something is there; remove it, or name another place"
    return AlreadyExists(words, "file", path)


@contextmanager
def opened(folder: int, names: Mapping[str, str]) -> Iterator[list[Part]]:
    """Those files of a folder that are there, under the names that they get. HyperError for what is no file."""
    parts: list[Part] = []
    try:
        for name, called in names.items():
            with suppress(FileNotFoundError):
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                try:
                    fd = os.open(name, flags, dir_fd=folder)
                except OSError as e:
                    if isinstance(e, FileNotFoundError):
                        raise
                    raise HyperError(f"cannot read {name} of a checkpoint: {e.strerror}") from e
                parts.append(Part(called, fd, 0))
                found = os.fstat(fd)
                if not stat.S_ISREG(found.st_mode):
                    raise HyperError(
                        f"cannot read {name} of a checkpoint: the guest has made something else than a file"
                    )
                parts[-1] = Part(called, fd, found.st_size)
        yield parts
    finally:
        for part in parts:
            os.close(part.fd)


def images(folder: int) -> dict[str, str]:
    """Names of all files in a folder of CRIU's, and those that they get."""
    names = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if not NAME.fullmatch(entry.name):
                raise HyperError(f"cannot use a checkpoint: the guest has named a file of it {entry.name[:100]!r}")
            names[entry.name] = f"{IMAGES}/{entry.name}"
            if len(names) > MOST_FILES:
                raise Exhausted(f"cannot use a checkpoint: it is more than {MOST_FILES} files")
    return dict(sorted(names.items()))


def read(folder: int, name: str, most: int) -> bytes:
    """The content of a file of a folder, of `most` bytes. HyperError, Exhausted."""
    with opened(folder, {name: name}) as parts:
        if not parts:
            raise HyperError(f"cannot use a checkpoint: the guest has made no {name}")
        if parts[0].size > most:
            raise Exhausted(f"cannot use a checkpoint: {name} is more than {most} bytes")
        return io.BufferedReader(_Whole(parts[0])).read(parts[0].size)


class _Whole(io.RawIOBase):
    """All bytes of a file that were there, which others may shorten or lengthen meanwhile: what is missing is zeros."""

    def __init__(self, part: Part, cancelled: threading.Event | None = None) -> None:
        self._part, self._cancelled, self._at = part, cancelled, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if self._cancelled and self._cancelled.is_set():
            raise Cancelled
        view = memoryview(buffer)
        wanted = min(len(view), self._part.size - self._at)
        data = os.pread(self._part.fd, wanted, self._at) or bytes(wanted)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


def write(
    location: Location,
    documents: Mapping[str, bytes],
    parts: list[Part],
    folders: list[str],
    cancelled: threading.Event,
) -> None:
    """The tar of all. Cancelled within a piece of `cancelled`'s being set."""
    now = int(time.time())
    with (
        files.telling(f"write a checkpoint to {location.path}"),
        os.fdopen(os.dup(location.fd), "wb", buffering=PIECE) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in folders:
            info = _info(name, 0, now)
            info.type, info.mode = tarfile.DIRTYPE, 0o700
            tar.addfile(info)
        for name, content in documents.items():
            tar.addfile(_info(name, len(content), now), io.BytesIO(content))
        for part in parts:
            tar.addfile(_info(part.name, part.size, now), io.BufferedReader(_Whole(part, cancelled), PIECE))


def _info(name: str, size: int, now: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o600, now
    return info
