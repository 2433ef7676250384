"""A file or folder of the host as a stream of tar, for cp."""

from __future__ import annotations

import os
import tarfile

from hypercontainer.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE = 1 << 18


class _Buffer:
    """What tarfile writes to, until somebody takes it."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        data = b"".join(self.parts)
        self.parts.clear()
        return data


def tar(source: str, name: str, *, follow: bool, keep_owner: bool) -> Iterator[bytes]:
    """`source` called `name` in the archive; name "": what is in folder `source`, without it.

    Owned by root unless `keep_owner`. `follow`: a link at `source` itself is followed, as one with a / behind it."""
    top = os.path.realpath(source) if follow or source.endswith("/") else os.path.normpath(source)
    if not os.path.lexists(top):
        raise InvalidInput(f"cannot copy {source}: no such file or folder")
    return _members(top, name, keep_owner=keep_owner)


def _members(top: str, name: str, *, keep_owner: bool) -> Iterator[bytes]:
    buffer = _Buffer()
    with tarfile.open(fileobj=buffer, mode="w|", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        for path, inside in _walk(top, name):
            if inside:
                yield from _member(archive, buffer, path, inside, keep_owner=keep_owner)
    yield buffer.take()


def _walk(path: str, inside: str) -> Iterator[tuple[str, str]]:
    """Every file below `path`, folders before what is in them; links are not followed."""
    yield path, inside
    if os.path.isdir(path) and not os.path.islink(path):
        for name in sorted(os.listdir(path)):
            yield from _walk(os.path.join(path, name), f"{inside}/{name}" if inside else name)


def _member(archive: tarfile.TarFile, buffer: _Buffer, path: str, inside: str, *, keep_owner: bool) -> Iterator[bytes]:
    try:
        entry = archive.gettarinfo(path, inside)
    except OSError as e:
        raise InvalidInput(f"cannot copy {path}: {e.strerror}") from e
    if entry is None:  # a socket
        return
    if not keep_owner:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
    if not entry.isreg():
        archive.addfile(entry)
        yield buffer.take()
        return
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as e:
        raise InvalidInput(f"cannot copy {path}: {e.strerror}") from e
    with open(fd, "rb") as f:
        entry.size = os.fstat(fd).st_size
        yield entry.tobuf(archive.format, archive.encoding or "utf-8", archive.errors or "surrogateescape")
        left = entry.size
        while left:
            data = f.read(min(left, PIECE))
            data = data or bytes(min(left, PIECE))  # it has become shorter meanwhile: its size is said already
            left -= len(data)
            yield data
    yield bytes(-entry.size % tarfile.BLOCKSIZE)
