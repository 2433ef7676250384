"""/containers/{c}/archive: files in and out as tars, and what a path is."""

import base64
import errno
import io
import stat
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated

import msgspec

from hypercontainer.errors import GuestError, HyperError, InvalidInput, NotFound
from hypercontainer.hyperd.docker.call import Query, container
from hypercontainer.hyperd.http.call import Answer, Bytes, Call
from hypercontainer.lib import clock

STAT = "X-Docker-Container-Path-Stat"
TAR = "application/x-tar"
HEAD = 1 << 16  # bytes of a tar that hold its first header, with whatever extends that
MAX_NAME = 4096
# Go's bits of a file's mode, where they are not Unix's.
KINDS = {
    tarfile.DIRTYPE: 1 << 31,
    tarfile.SYMTYPE: 1 << 27,
    tarfile.BLKTYPE: 1 << 26,
    tarfile.FIFOTYPE: 1 << 25,
    tarfile.CHRTYPE: 1 << 26 | 1 << 21,
}
SPECIAL = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}
ABSENT = (errno.ENOENT, errno.ENOTDIR)

Path = Annotated[str, msgspec.Meta(max_length=4096)]


class ArchiveQuery(Query, frozen=True, kw_only=True):
    path: Path = ""


class PutQuery(ArchiveQuery, frozen=True, kw_only=True):
    noOverwriteDirNonDir: bool = False  # noqa: N815  their names there
    copyUIDGID: bool = False  # noqa: N815


class PathStat(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    name: str
    size: int
    mode: int
    mtime: str
    link_target: str


async def look(call: Call[ArchiveQuery, None]) -> Answer:
    found, source = await _opened(call)
    await source.aclose()
    return Answer(headers=found, media_type=TAR)


async def get(call: Call[ArchiveQuery, None]) -> Bytes:
    found, source = await _opened(call)
    return Bytes(source=source, media_type=TAR, headers=found)


async def _opened(call: Call[ArchiveQuery, None]) -> tuple[dict[str, str], AsyncGenerator[bytes, None]]:
    """The header that tells of the path, and the tar from its beginning. NotFound when nothing is there."""
    c, path = container(call), _path(call.query)
    source = await call.engine.containers.archive_get(c, path)
    try:
        head = b""
        async for piece in source:
            head += piece
            if len(head) >= HEAD:
                break
        found = path_stat(head[:HEAD])
    except GuestError as e:
        await source.aclose()
        raise _refused(e, path, c) from e
    except BaseException:
        await source.aclose()
        raise
    header = base64.b64encode(msgspec.json.encode(found)).decode()
    return {STAT: header}, _whole(head, source)


async def _whole(head: bytes, source: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    try:
        yield head
        async for piece in source:
            yield piece
    finally:
        await source.aclose()


def path_stat(head: bytes) -> PathStat:
    """Of the first member of a tar. HyperError when the guest sends none, or an absurd one."""
    try:
        with tarfile.open(fileobj=io.BytesIO(head), mode="r:") as tar:
            first = tar.next()
        if first is None:
            raise HyperError("the guest sent an empty tar")
        mtime = clock.rfc3339(int(first.mtime) * 1_000_000_000)
    except (tarfile.TarError, ValueError, OverflowError, IndexError) as e:
        raise HyperError(f"the guest sent no tar: {e}") from e
    mode = first.mode & 0o777 | KINDS.get(first.type, 0)
    for bit, go in SPECIAL.items():
        mode |= go if first.mode & bit else 0
    return PathStat(
        name=_text(first.name.rstrip("/").rpartition("/")[2]) or "/",
        size=first.size,
        mode=mode,
        mtime=mtime,
        link_target=_text(first.linkname) if first.type == tarfile.SYMTYPE else "",
    )


def _text(name: str) -> str:
    """For a header: bounded, and bytes that are no UTF-8 are question marks."""
    return name[:MAX_NAME].encode(errors="replace").decode()


async def put(call: Call[PutQuery, AsyncIterator[bytes]]) -> Answer:
    c, path = container(call), _path(call.query)
    try:
        await call.engine.containers.archive_put(c, path, call.body, as_user=call.query.copyUIDGID)
    except GuestError as e:
        if e.errno == errno.ENOTDIR:
            raise InvalidInput("extraction point is not a directory") from e
        raise _refused(e, path, c) from e
    return Answer(status=200)


def _path(query: ArchiveQuery) -> str:
    if not query.path:
        raise InvalidInput("bad parameter: path cannot be empty")
    return query.path if query.path.startswith("/") else f"/{query.path}"


def _refused(error: GuestError, path: str, c: str) -> HyperError:
    if error.errno in ABSENT:
        return NotFound("path", path, f"Could not find the file {path} in container {c}")
    return error
