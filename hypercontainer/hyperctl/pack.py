"""A file or folder of the host as a stream of tar, for cp and build."""

from __future__ import annotations

import io
import os
import tarfile

from hypercontainer.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PIECE = 1 << 18


def tar(source: str, name: str, *, follow: bool, keep_owner: bool) -> Iterator[bytes]:
    """`source` called `name` in the archive; name "": what is in folder `source`, without it.

    Owned by root unless `keep_owner`. `follow`: a link at `source` itself is followed, as one with a / behind it."""
    top = os.path.realpath(source) if follow or source.endswith("/") else os.path.normpath(source)
    if not os.path.lexists(top):
        raise InvalidInput(f"cannot copy {source}: no such file or folder")
    return _members(top, name, keep_owner=keep_owner)


def alone(name: str, data: bytes) -> Iterator[bytes]:
    """One file."""
    yield _whole(name, data)
    yield bytes(2 * tarfile.BLOCKSIZE)


def context(folder: str, ignored: Callable[[str], bool], more: Mapping[str, bytes]) -> Iterator[bytes]:
    """What is in `folder`, for a build: without what is `ignored`, and with `more`. All of it is root's."""
    names = tarfile.TarFile(fileobj=io.BytesIO(), mode="w")
    for name, data in more.items():
        yield _whole(name, data)
    for path, inside in _walk(folder, ""):
        if inside and inside not in more and not ignored(inside):
            yield from _member(names, path, inside, keep_owner=False)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _whole(name: str, data: bytes) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o644
    return _head(entry) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def _members(top: str, name: str, *, keep_owner: bool) -> Iterator[bytes]:
    names = tarfile.TarFile(fileobj=io.BytesIO(), mode="w")  # knows which files are links to earlier ones
    for path, inside in _walk(top, name):
        if inside:
            yield from _member(names, path, inside, keep_owner=keep_owner)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _walk(path: str, inside: str) -> Iterator[tuple[str, str]]:
    """Every file below `path`, folders before what is in them; links are not followed."""
    yield path, inside
    if os.path.isdir(path) and not os.path.islink(path):
        for name in sorted(os.listdir(path)):
            yield from _walk(os.path.join(path, name), f"{inside}/{name}" if inside else name)


def _member(names: tarfile.TarFile, path: str, inside: str, *, keep_owner: bool) -> Iterator[bytes]:
    try:
        entry = names.gettarinfo(path, inside)
        if entry is None:  # a socket
            return
        if not keep_owner:
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
        if entry.isreg():
            yield from _file(entry, path)
        else:
            yield _head(entry)
    except OSError as e:
        raise InvalidInput(f"cannot copy {path}: {e.strerror}") from e


def _head(entry: tarfile.TarInfo) -> bytes:
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _file(entry: tarfile.TarInfo, path: str) -> Iterator[bytes]:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as f:
        entry.size = os.fstat(f.fileno()).st_size
        yield _head(entry)
        left = entry.size
        while left:
            data = f.read(min(left, PIECE))
            data = data or bytes(min(left, PIECE))  # it has become shorter meanwhile: its size is said already
            left -= len(data)
            yield data
    yield bytes(-entry.size % tarfile.BLOCKSIZE)
