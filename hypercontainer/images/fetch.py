"""A file from any server, for ADD of a URL in a Dockerfile."""

import asyncio
import hashlib
import os
import posixpath
from datetime import UTC
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple

import aiohttp
from yarl import URL

from hypercontainer.errors import Exhausted, InvalidInput, Unavailable
from hypercontainer.images import transport

MAX_BYTES = 16 << 30
FETCH_S = 3600.0
MAX_NAME = 255
MAX_HEADER = 8190  # characters


class Fetched(NamedTuple):
    """A file that is here by now: what it is called ("": nobody says), since when it is as it is, 0: nobody knows."""

    name: str
    modified_s: int
    size: int
    digest: str  # of SHA-256, in hex


def is_url(word: str) -> bool:
    return word.lower().startswith(("http://", "https://"))


async def fetch(word: str, path: Path) -> Fetched:
    """Write what is at the URL `word` into a new file at `path`. InvalidInput says why there is none, Unavailable that
    the server does not give it, Exhausted that it is too large."""
    try:
        url = URL(word)
        url.origin()
    except ValueError as e:
        raise InvalidInput(f"cannot read the URL {word[:200]!r}: {e}") from e
    try:
        async with (
            asyncio.timeout(FETCH_S),
            transport.session() as session,
            transport.get(session, url, {}, insecure=False) as response,
        ):
            if response.status != 200:
                raise InvalidInput(f"failed to GET {word[:200]} with status {response.status} {response.reason}")
            with open(path, "xb") as out:
                size, digest = await _write(response, out)
            return Fetched(_name(url, response), _modified(response), size, digest)
    except (transport.TryAgain, *transport.BROKEN) as e:
        raise Unavailable(f"cannot fetch {word[:200]}: {e or 'it takes too long'}") from e


async def _write(response: aiohttp.ClientResponse, out: BinaryIO) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    async for piece in transport.pieces(response):
        size += len(piece)
        if size > MAX_BYTES:
            raise Exhausted(
                f"cannot fetch {transport.address(response.url)}'s file: it has more than {MAX_BYTES} bytes"
            )
        digest.update(piece)
        await asyncio.to_thread(out.write, piece)
    return size, digest.hexdigest()


def _name(url: URL, response: aiohttp.ClientResponse) -> str:
    """Of the URL's path, or as the server says; "" where neither is a name."""
    if found := _base(url.path):
        return found
    header = response.headers.get("Content-Disposition", "")
    if len(header) > MAX_HEADER:  # email's parser has 200 bytes for each semicolon
        return ""
    said = Message()
    said["Content-Disposition"] = header.encode("ascii", "replace").decode()
    try:
        return _base(said.get_filename() or "")
    except (TypeError, ValueError, LookupError):  # email's parser falls over a name in parts and whole, say
        return ""


def _base(path: str) -> str:
    name = posixpath.basename(path)
    bad = name in (".", "..") or "\0" in name or len(os.fsencode(name)) > MAX_NAME
    return "" if bad else name


def _modified(response: aiohttp.ClientResponse) -> int:
    """Seconds since 1970; 0 where the server says nothing that makes sense."""
    try:
        at = parsedate_to_datetime(response.headers.get("Last-Modified", ""))
        return max(0, int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()))
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0
