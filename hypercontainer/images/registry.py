"""A registry and its mirrors, as one pull sees them: manifests and blobs by the OCI distribution protocol."""

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, Protocol, TypeVar

import aiohttp
import msgspec
from yarl import URL

from hypercontainer.errors import Denied, HyperError, InvalidInput, NotFound, Unavailable
from hypercontainer.images import manifest, reference, registry_host, transport
from hypercontainer.images.hosts import Capability, Registries
from hypercontainer.images.manifest import ACCEPT, MAX_MANIFEST, Descriptor
from hypercontainer.images.reference import Reference
from hypercontainer.images.registry_host import RegistryHost
from hypercontainer.images.transport import Request, Retry, TryAgain
from hypercontainer.lib import foreign
from hypercontainer.model.api import Credentials

log = logging.getLogger(__name__)

T = TypeVar("T")
MAX_TAGS, MAX_PAGES = 100_000, 1000  # of a repository, which lists them a page at a time
MAX_LINK = 8192
LINK = re.compile(r"\s*<([^<>\s]+)>([^<>,]*)")
NEXT = re.compile(r';\s*rel="?next"?\s*(;|$)', re.IGNORECASE)


class BadBlob(InvalidInput):
    """A registry sent other bytes than it promised."""


class Sink(Protocol):
    """Where a blob goes: it keeps what came so far, over attempts, processes and reboots, with its running digest."""

    @property
    def offset(self) -> int:
        """Bytes it has."""

    @property
    def digest(self) -> str:
        """Of them."""

    async def write(self, data: bytes) -> None: ...

    async def reset(self) -> None:
        """Begin again with nothing."""


class _Memory:
    """A sink for what is small."""

    def __init__(self) -> None:
        self.data = bytearray()

    @property
    def offset(self) -> int:
        return len(self.data)

    @property
    def digest(self) -> str:
        return manifest.digest(bytes(self.data))

    async def write(self, data: bytes) -> None:
        self.data += data

    async def reset(self) -> None:
        self.data.clear()


class _Tags(msgspec.Struct):
    tags: list[str] | None = None


class Document(NamedTuple):
    """A manifest or index as it came, its digest computed by us."""

    data: bytes
    media_type: str
    digest: str


class Registry:
    """The registry of one image. Made by `connect`."""

    def __init__(self, name: Reference, hosts: Sequence[RegistryHost]) -> None:
        self._name, self._hosts = name, hosts
        self._scope = f"repository:{name.path}:pull"

    async def manifest(self, tag_or_digest: str) -> Document:
        """Fetch a manifest or index. NotFound, Denied, Unavailable, BadBlob."""
        wanted = tag_or_digest if tag_or_digest.startswith("sha256:") else ""
        needed: Capability = "pull" if wanted else "resolve"
        return await self._anywhere(needed, lambda host: self._manifest(host, tag_or_digest, wanted))

    async def document(self, blob: Descriptor, limit: int) -> bytes:
        """A small blob. Errors as of `blob`; InvalidInput if it has more than `limit` bytes."""
        if blob.size > limit:
            raise InvalidInput(f"cannot pull {self._name}: {blob.digest} has {blob.size} bytes, {limit} at most")
        sink = _Memory()
        await self.blob(blob, sink)
        return bytes(sink.data)

    async def tags(self) -> list[str]:
        """All tags of the repository, in the order of their letters. NotFound, Denied, Unavailable."""
        return await self._anywhere("resolve", self._tags)

    async def blob(self, blob: Descriptor, sink: Sink) -> None:
        """Fetch what `sink` lacks of a blob. It is whole and true to its digest, or BadBlob, Unavailable … is raised.

        Size and digest are checked as it comes; `sink` never gets more bytes than the descriptor says."""
        await self._anywhere("pull", lambda host: self._blob(host, blob, sink))

    async def _anywhere(self, needed: Capability, fetch: Callable[[RegistryHost], Awaitable[T]]) -> T:
        """From the first host that has it and may be asked; the last one's error is the one to tell. Who is of no use
        now is not asked again."""
        able = [host for host in self._hosts if needed in host.capabilities]
        if not able:
            raise InvalidInput(
                f"cannot pull {self._name}: none of its hosts has the capability {needed!r} in hosts.toml"
            )
        for host in able[:-1]:
            try:
                return await fetch(host)
            except NotFound:
                continue
            except (Unavailable, Denied, InvalidInput) as e:
                log.warning("%s: another host is asked", e)
                if isinstance(e, Unavailable):
                    self._hosts = [other for other in self._hosts if other is not host]
        return await fetch(able[-1])

    @asynccontextmanager
    async def _get(
        self, host: RegistryHost, path: str, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """What is at `path`. NotFound, Denied, Unavailable for what is not a success."""
        async with host.ask(Request("GET", host.url(self._name.path, path), headers), self._scope) as response:
            self._check(response)
            yield response

    def _check(self, response: aiohttp.ClientResponse) -> None:
        if response.status in (200, 206, 416):
            return
        if response.status == 404:
            raise NotFound("image", str(self._name), f"asked {transport.address(response.url)}")
        if response.status == 403:
            raise Denied(
                f"cannot pull {self._name}: {transport.address(response.url)} refuses: wrong name, or not logged in"
            )
        raise Unavailable(f"cannot pull {self._name}: {transport.address(response.url)} answers {response.status}")

    async def _manifest(self, host: RegistryHost, tag_or_digest: str, wanted: str) -> Document:
        async def attempt() -> Document:
            accept = {"Accept": ", ".join(ACCEPT)}
            async with self._get(host, f"manifests/{tag_or_digest}", accept) as response:
                data = await transport.body(response, MAX_MANIFEST, "a manifest")
                promised = wanted or response.headers.get("Docker-Content-Digest", "")
                return Document(data, response.content_type, _verified(data, promised, self._name))

        return await transport.retrying(f"pull {self._name}", host.retry, attempt)

    async def _tags(self, host: RegistryHost) -> list[str]:
        found: set[str] = set()
        url, pages = host.url(self._name.path, "tags/list"), 0
        while True:
            page, after = await self._page(host, url)
            found.update(page)
            pages += 1
            if after is None:
                return sorted(found)
            if pages == MAX_PAGES or len(found) > MAX_TAGS:
                raise Unavailable(
                    f"cannot pull all tags of {self._name}: {transport.address(host.base)} has {len(found)} "
                    f"on {pages} pages, and more"
                )
            url = after

    async def _page(self, host: RegistryHost, url: URL) -> tuple[list[str], URL | None]:
        """Some of the tags, and where the next ones are."""

        async def attempt() -> tuple[list[str], URL | None]:
            async with host.ask(Request("GET", url), self._scope) as response:
                self._check(response)
                data = await transport.body(response, MAX_MANIFEST, "a list of tags")
                after = following(response.headers.get("Link", ""))
                return read_tags(data), transport.target_of(response.url, after, host.insecure) if after else None

        return await transport.retrying(f"pull all tags of {self._name}", host.retry, attempt)

    async def _blob(self, host: RegistryHost, blob: Descriptor, sink: Sink) -> None:
        inherited = sink.offset
        await transport.retrying(
            f"fetch {blob.digest} of {self._name}", host.retry, lambda: self._blob_once(host, blob, sink)
        )
        if sink.digest != blob.digest and inherited:  # what an earlier attempt left may be what is wrong
            await sink.reset()
            return await self._blob(host, blob, sink)
        if sink.digest != blob.digest:
            got = sink.digest
            await sink.reset()
            raise BadBlob(f"cannot pull {self._name}: blob {blob.digest} came with digest {got}")
        return None

    async def _blob_once(self, host: RegistryHost, blob: Descriptor, sink: Sink) -> None:
        begin = sink.offset
        if begin == blob.size:
            return
        headers = {"Range": f"bytes={begin}-"} if begin else {}
        try:
            async with self._get(host, f"blobs/{blob.digest}", headers) as response:
                await _align(response, sink)
                length = response.content_length
                if length is not None and sink.offset + length != blob.size:
                    raise self._wrong_size(blob, sink.offset + length)
                async for piece in transport.pieces(response):
                    if sink.offset + len(piece) > blob.size:
                        raise self._wrong_size(blob, sink.offset + len(piece))
                    await sink.write(piece)
        except TryAgain as e:
            e.progress = sink.offset > begin
            raise
        if sink.offset < blob.size:
            raise TryAgain(
                f"the connection ended after {sink.offset} of {blob.size} bytes", progress=sink.offset > begin
            )

    def _wrong_size(self, blob: Descriptor, size: int) -> HyperError:
        return BadBlob(f"cannot pull {self._name}: blob {blob.digest} has {size} bytes or more, not {blob.size}")


async def _align(response: aiohttp.ClientResponse, sink: Sink) -> None:
    """Let what comes go on where the sink ends, or let the sink begin again."""
    if response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {sink.offset}-"):
        return
    if sink.offset or response.status != 200:
        await sink.reset()
    if response.status != 200:
        raise TryAgain(f"{transport.address(response.url)} sends another part than was asked for")


def read_tags(data: bytes) -> list[str]:
    """A page of a repository's tags. InvalidInput for what can be none."""
    tags = foreign.read(data, _Tags, "a list of tags", MAX_MANIFEST).tags or []
    for tag in tags:
        if not reference.TAG.fullmatch(tag):
            raise InvalidInput(f"cannot read a list of tags: {tag[:80]!r} is none")
    return tags


def following(link: str) -> str:
    """Of a Link header (RFC 8288) with rel="next", as registries send it: where the next page is; "" for any other."""
    found = LINK.match(link[:MAX_LINK])
    return found[1] if found and NEXT.search(found[2]) else ""


def _verified(data: bytes, promised: str, name: Reference) -> str:
    computed = manifest.digest(data)
    if promised.startswith("sha256:") and promised != computed:
        raise BadBlob(f"cannot pull {name}: manifest {promised[:80]} came with digest {computed}")
    return computed


@asynccontextmanager
async def connect(
    name: Reference,
    registries: Registries | None,
    credentials: Credentials | None,
    retry: Retry = Retry(),  # noqa: B008  a value
) -> AsyncIterator[Registry]:
    """A connection to the registry that `name` is in, its mirrors first."""
    async with registry_host.connect_all(name.domain, registries, credentials, retry) as hosts:
        yield Registry(name, hosts)


async def login(
    domain: str,
    registries: Registries | None,
    credentials: Credentials,
    retry: Retry = Retry(),  # noqa: B008  a value
) -> None:
    """Ask the registry `domain` whether it takes `credentials`. Denied if it does not, Unavailable."""
    itself = (await registry_host.find(domain, registries))[-1]
    async with registry_host.connect(domain, itself, credentials, retry) as host:
        await transport.retrying(f"log in to {domain}", retry, lambda: _enter(host))


async def _enter(host: RegistryHost) -> None:
    """OCI distribution, "Determining Support": the path /v2/ wants to know who we are, and nothing else."""
    async with host.ask(Request("GET", host.base / ""), "") as response:
        if response.status != 200:
            where = transport.address(host.base)
            raise Unavailable(f"cannot log in to {where}: it answers {response.status}")
