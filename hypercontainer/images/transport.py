"""Requests to a registry and to its token server: retries, redirects and authorization under our control."""

import asyncio
import ipaddress
import random
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import aiohttp
from yarl import URL

from hypercontainer.errors import Unavailable

CONNECT_S, SILENCE_S = 10.0, 30.0
# A server that sends something now and then is not silent: these bound what it is to be done with. A blob's is for
# PIECE bytes of it, some 2 KiB a second.
HEAD_S, DOCUMENT_S, PIECE_S = 60.0, 120.0, 600.0
PIECE = 1 << 20
MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
BROKEN = (aiohttp.ClientError, TimeoutError, ConnectionError, ssl.SSLError)

SAFE, KEPT = ("GET", "HEAD"), (307, 308)

T = TypeVar("T")
Body = bytes | Mapping[str, str] | AsyncIterator[bytes]


class Retry(NamedTuple):
    """How long to go on trying: `attempts` in a row that got nowhere, waits from `base_s` doubling up to `cap_s`.

    A registry that asks for a longer wait than `patience_s` is not waited for.
    """

    attempts: int = 5
    base_s: float = 0.5
    cap_s: float = 15.0
    patience_s: float = 60.0

    def wait_s(self, attempt: int) -> float:
        return min(self.cap_s, self.base_s * 2.0**attempt) * random.uniform(0.5, 1.0)  # noqa: S311  not a secret


class TryAgain(Exception):
    """An attempt failed in a way that may pass. `after_s` is what the server asked for."""

    def __init__(self, why: str, after_s: float = 0.0, *, progress: bool = False) -> None:
        super().__init__(why)
        self.why, self.after_s, self.progress = why, after_s, progress


async def retrying(what: str, retry: Retry, attempt: Callable[[], Awaitable[T]]) -> T:
    """Await `attempt()` until it succeeds. Unavailable: "cannot WHAT: WHY" once there is no hope.

    An attempt that got further than the one before counts as a new beginning, ten times at most."""
    failures = beginnings = 0
    while True:
        try:
            return await attempt()
        except TryAgain as e:
            if e.progress and beginnings < 10:
                beginnings += 1
                failures = 0
            failures += 1
            if e.after_s > retry.patience_s:
                raise Unavailable(f"cannot {what}: {e.why}; it asks to wait {e.after_s:.0f} s") from e
            if failures >= retry.attempts:
                raise Unavailable(f"cannot {what}: {e.why}, {failures} times in a row") from e
            wait_s = max(e.after_s, retry.wait_s(failures - 1))
        await asyncio.sleep(wait_s)


@asynccontextmanager
async def session(tls: ssl.SSLContext | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    """What the requests to one host share: connections, limits. `tls`: whom to trust, unless a request asks nobody."""
    timeout = aiohttp.ClientTimeout(total=None, connect=3 * CONNECT_S, sock_connect=CONNECT_S, sock_read=SILENCE_S)
    async with aiohttp.ClientSession(
        timeout=timeout,
        connector=aiohttp.TCPConnector(limit_per_host=8, ssl=tls or True),
        headers={"User-Agent": "hypercontainer", "Accept-Encoding": "identity"},
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=1 << 20,
        max_line_size=16384,
        max_field_size=16384,
    ) as made:
        yield made


class Request(NamedTuple):
    """What is sent. `body` is called for each attempt: bytes, a form, or pieces as they are read."""

    method: str
    url: URL
    headers: Mapping[str, str] = MappingProxyType({})
    body: Callable[[], Body] | None = None
    timeout_s: float = 0.0  # from its first byte to the head of the answer; 0: HEAD_S
    private: Mapping[str, str] = MappingProxyType({})  # more headers, for the first host only


@asynccontextmanager
async def send(
    session: aiohttp.ClientSession, request: Request, *, insecure: bool, authorization: str = ""
) -> AsyncIterator[aiohttp.ClientResponse]:
    """A request and its redirects, answered with anything but one. What changes something is sent on only where it is
    to stay what it is (307, 308).

    `authorization` goes to the first host only. TryAgain for 429, 5xx and broken connections, in the block as well.
    """
    method, url = request.method, request.url
    private = {**request.private, **({"Authorization": authorization} if authorization else {})}
    redirects = REDIRECTS if method in SAFE else KEPT
    try:
        for _ in range(MAX_REDIRECTS + 1):
            data = request.body() if request.body else None
            async with asyncio.timeout(request.timeout_s or HEAD_S):
                sent = {**private, **request.headers}
                response = await session.request(
                    method, url, headers=sent, data=data, allow_redirects=False, ssl=not insecure
                )
            async with response:
                _check(response)
                if response.status not in redirects:
                    yield response
                    return
                target = target_of(url, response.headers.get("Location", ""), insecure)
            if target.origin() != url.origin():
                private = {}
            url = target
    except aiohttp.ClientSSLError as e:
        raise Unavailable(
            f"cannot reach {address(url)} by TLS: {str(e)[:300]}; a registry without it must be set insecure"
        ) from e
    except BROKEN as e:
        raise TryAgain(f"{address(url)}: {_why(e)}") from e
    raise Unavailable(f"cannot reach {address(url)}: more than {MAX_REDIRECTS} redirects")


def address(url: URL) -> str:
    """HOST or HOST:PORT as people are told of it: without the credentials that a redirect may hold."""
    return url.host_port_subcomponent or ""


def _why(e: BaseException) -> str:
    if isinstance(e, TimeoutError):
        return "no answer in time"
    return str(e)[:300] or type(e).__name__


def get(
    session: aiohttp.ClientSession, url: URL, headers: Mapping[str, str], *, insecure: bool, authorization: str = ""
) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
    """See `send`."""
    return send(session, Request("GET", url, headers), insecure=insecure, authorization=authorization)


def target_of(url: URL, location: str, insecure: bool) -> URL:
    """Where the answer of `url` sends us. Unavailable when that is less protected, or inside of where we are."""
    try:
        target = url.join(URL(location, encoded=True))
        origin = target.origin()
    except ValueError as e:
        raise Unavailable(f"cannot reach {address(url)}: it redirects to {location[:100]!r}") from e
    allowed = ("https", "http") if insecure or url.scheme == "http" else ("https",)
    if not location or origin.scheme not in allowed or leads_inside(url, target):
        raise Unavailable(f"cannot reach {address(url)}: it redirects to {location[:100]!r}")
    return target


def leads_inside(url: URL, target: URL) -> bool:
    """Whether `target` is this machine, or is on its link, where clouds keep machines' credentials, though `url` is not
    so: it would be somebody else's request that we send there. Names are not looked up for it."""
    return _near(target) not in ("", _near(url))


def _near(url: URL) -> str:
    host = (url.host or "").rstrip(".").partition("%")[0]
    try:
        there = ipaddress.ip_address(host)
    except ValueError:
        try:
            there = ipaddress.ip_address(socket.inet_aton(host))  # 127.1, 0x7f000001: what names are resolved with
        except OSError:
            return "machine" if host.lower() == "localhost" or host.lower().endswith(".localhost") else ""
    if isinstance(there, ipaddress.IPv6Address) and there.ipv4_mapped:
        there = there.ipv4_mapped
    if there.is_loopback or there.is_unspecified:
        return "machine"
    return "link" if there.is_link_local or there.is_multicast else ""


def _check(response: aiohttp.ClientResponse) -> None:
    if response.status == 429 or response.status >= 500:
        why = f"{address(response.url)} answers {response.status} {response.reason or ''}".rstrip()
        raise TryAgain(why, retry_after_s(response.headers.get("Retry-After", "")))


def retry_after_s(text: str) -> float:
    """Seconds that a Retry-After header asks for, as a number or a date; 0 when it asks for nothing sensible."""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return max(0.0, (at - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0


async def body(response: aiohttp.ClientResponse, limit: int, what: str) -> bytes:
    """The whole body of a small answer, without the gzip that some send unasked. Unavailable when it has more than
    `limit` bytes, with it or without."""
    data = bytearray()
    if (response.content_length or 0) <= limit:
        async with asyncio.timeout(DOCUMENT_S):
            async for piece in response.content.iter_any():
                data += piece
                if len(data) > limit:
                    break
            else:
                return _plain(bytes(data), response, limit, what)
    raise _too_large(response, limit, what)


async def pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The body in pieces of about PIECE bytes: few hops to a thread. What came before a break, or within PIECE_S, is
    given out before the error."""
    stream, gathered, ended = response.content, bytearray(), False
    while not ended:
        try:
            async with asyncio.timeout(PIECE_S):
                while len(gathered) < PIECE and not ended:
                    some = await stream.readany()
                    ended = not some
                    gathered += some
        except BROKEN:
            if gathered:
                yield bytes(gathered)
            raise
        if gathered:
            yield bytes(gathered)
            gathered.clear()


def _plain(data: bytes, response: aiohttp.ClientResponse, limit: int, what: str) -> bytes:
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return data
    if encoding not in ("gzip", "x-gzip"):
        raise Unavailable(f"cannot read {what} from {address(response.url)}: it is encoded as {encoding[:40]!r}")
    decompressor = zlib.decompressobj(wbits=31)
    try:
        plain = decompressor.decompress(data, limit + 1)
    except zlib.error as e:
        raise Unavailable(f"cannot read {what} from {address(response.url)}: damaged gzip") from e
    if len(plain) > limit:
        raise _too_large(response, limit, what)
    if not decompressor.eof:
        raise Unavailable(f"cannot read {what} from {address(response.url)}: its gzip is cut short")
    return plain


def _too_large(response: aiohttp.ClientResponse, limit: int, what: str) -> Unavailable:
    return Unavailable(f"cannot read {what} from {address(response.url)}: it has more than {limit} bytes")
