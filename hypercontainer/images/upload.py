"""A repository that an image goes to: blobs and manifests, by the OCI distribution protocol."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec
from multidict import CIMultiDictProxy
from yarl import URL

from hypercontainer.errors import Denied, HyperError, InvalidInput, Unavailable
from hypercontainer.images import manifest, registry_host, transport
from hypercontainer.images.hosts import Registries
from hypercontainer.images.manifest import Descriptor
from hypercontainer.images.reference import Reference
from hypercontainer.images.registry import BadBlob, Document
from hypercontainer.images.registry_host import RegistryHost
from hypercontainer.images.transport import Request, Retry, TryAgain
from hypercontainer.lib import foreign
from hypercontainer.model.api import Credentials

CHUNK, MAX_CHUNK = 16 << 20, 1 << 30  # bytes of one request, and if a registry wants more
WHOLE = 1 << 20  # bytes of a blob that goes at once
PIECE = 1 << 20
CHUNK_S = 600.0  # for the bytes of one, and its answer
MAX_COMPLAINT = 64 << 10
LOST = (400, 404, 416)  # what registries say of an upload that they do not go on with
RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})")

Tell = Callable[[int], None]


class _Complaint(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Complaints(msgspec.Struct):
    errors: list[_Complaint] = []


class Answer(NamedTuple):
    """The head of an answer; the case of its headers' names is nobody's business."""

    status: int
    headers: CIMultiDictProxy[str]
    url: URL


@dataclass
class _Upload:
    """A blob on its way. `location` None: it has to begin, again."""

    location: URL | None = None
    offset: int = 0  # bytes that the registry has, as far as is known
    chunk: int = 0  # bytes of one request
    sure: bool = True  # of the offset: no connection has broken since it was told


class Destination:
    """A repository of a registry. Made by `connect`."""

    def __init__(self, name: Reference, host: RegistryHost, retry: Retry) -> None:
        self._name, self._host, self._retry = name, host, retry
        self._scope = f"repository:{name.path}:pull,push"

    async def has(self, digest: str) -> bool:
        request = Request("HEAD", self._url(f"blobs/{digest}"))
        found = await transport.retrying(self._deed, self._retry, lambda: self._ask(request, (200, 404)))
        return found.status == 200

    async def mount(self, digest: str, origin: str) -> bool:
        """Have the registry take the blob from another repository of its own, if it will."""
        url = self._url("blobs/uploads/").update_query({"mount": digest, "from": origin})
        scope = f"{self._scope} repository:{origin}:pull"
        try:
            answer = await transport.retrying(
                self._deed, self._retry, lambda: self._ask(Request("POST", url), (201, 202), scope)
            )
        except (Denied, Unavailable):  # of the other repository, perhaps: an upload of our own will tell
            return False
        return answer.status == 201  # an upload that has begun instead is left: registries clear them away

    async def put(self, blob: Descriptor, path: Path, tell: Tell) -> None:
        """Upload the file: in one request if it is small, else in chunks; what was cut short goes on where the registry
        lets it, or begins again."""
        upload = _Upload()
        await transport.retrying(self._deed, self._retry, lambda: self._attempt(upload, blob, path, tell))

    async def index(self, tag: str, digests: Collection[str]) -> Document | None:
        """What is under the tag, if it is an index that names all these manifests."""
        request = Request("GET", self._url(f"manifests/{tag}"), {"Accept": ", ".join(manifest.ACCEPT)})
        found = await transport.retrying(self._deed, self._retry, lambda: self._there(request))
        try:
            if found and manifest.kind_of(found.data, found.media_type) == "index":
                named = {each.digest for each in manifest.read_index(found.data).manifests}
                return found if named.issuperset(digests) else None
        except InvalidInput:
            pass  # whatever it is, it is replaced
        return None

    async def _there(self, request: Request) -> Document | None:
        async with self._host.ask(request, self._scope) as response:
            if response.status != 200:
                return None
            data = await transport.body(response, manifest.MAX_MANIFEST, "a manifest")
            return Document(data, response.content_type, manifest.digest(data))

    async def manifest(self, data: bytes, media_type: str, ref: str) -> None:
        """Put a manifest or an index under a tag, or under its digest."""
        request = Request("PUT", self._url(f"manifests/{ref}"), {"Content-Type": media_type}, lambda: data)
        answer = await transport.retrying(self._deed, self._retry, lambda: self._ask(request, (200, 201)))
        self._same(answer, manifest.digest(data))

    @property
    def _deed(self) -> str:
        return f"push {self._name}"

    def _url(self, path: str) -> URL:
        return self._host.url(self._name.path, path)

    # one request

    async def _ask(self, request: Request, wanted: Collection[int], scope: str = "") -> Answer:
        """An answer of one of these statuses. Denied, Unavailable."""
        async with self._host.ask(request, scope or self._scope) as response:
            if response.status not in wanted:
                raise self._refused(response, await _words(response))
            return Answer(response.status, response.headers, response.url)

    def _refused(self, response: aiohttp.ClientResponse, words: str) -> HyperError:
        where = transport.address(response.url)
        if response.status in (401, 403):
            return Denied(f"cannot {self._deed}: {where} refuses: {words or 'wrong name, or not logged in'}")
        return _Refused(
            f"cannot {self._deed}: {where} answers {response.status}{f': {words}' if words else ''}", response.status
        )

    def _same(self, answer: Answer, digest: str) -> None:
        """BadBlob, unless what the registry has taken has this digest."""
        said = answer.headers.get("Docker-Content-Digest", digest)
        if said != digest:
            raise BadBlob(f"cannot {self._deed}: the registry took {digest} for {said[:80]!r}")

    # one blob

    async def _attempt(self, upload: _Upload, blob: Descriptor, path: Path, tell: Tell) -> None:
        before, fresh = upload.offset, upload.location is None
        try:
            if fresh:
                await self._begin(upload)
            elif not upload.sure:
                await self._look(upload, blob)
            whole = upload.offset == 0 and blob.size <= WHOLE
            while not whole and upload.offset < blob.size:
                await self._chunk(upload, blob, path, tell)
            await self._finish(upload, blob, path.read_bytes() if whole else b"")
        except TryAgain as e:
            upload.sure = False
            e.progress = upload.offset > before
            raise
        except _Refused as e:
            if e.status not in LOST:
                raise
            if await self.has(blob.digest):  # the end of it was done, and only its answer lost
                return
            if fresh:
                raise
            upload.location = None
            raise TryAgain("the registry does not go on with what it had") from e

    async def _begin(self, upload: _Upload) -> None:
        answer = await self._ask(Request("POST", self._url("blobs/uploads/")), (202,))
        least = answer.headers.get("OCI-Chunk-Min-Length", "")
        asked = int(least[:12]) if least.isascii() and least.isdigit() else 0
        upload.chunk = min(max(CHUNK, asked), MAX_CHUNK)
        upload.location, upload.offset, upload.sure = self._next(answer), 0, True

    async def _look(self, upload: _Upload, blob: Descriptor) -> None:
        """Ask how far it had come. 0-0 is what some say of nothing, others of a byte: it begins again."""
        assert upload.location  # noqa: S101  it was begun
        answer = await self._ask(Request("GET", upload.location), (204, 200))
        offset = self._offset(answer, blob.size)
        if offset == 1:
            return await self._begin(upload)
        if "Location" in answer.headers:
            upload.location = self._next(answer)
        upload.offset, upload.sure = offset, True
        return None

    async def _chunk(self, upload: _Upload, blob: Descriptor, path: Path, tell: Tell) -> None:
        assert upload.location  # noqa: S101  it was begun
        start, end = upload.offset, min(upload.offset + upload.chunk, blob.size)
        headers = {**_length(end - start), "Content-Range": f"{start}-{end - 1}"}
        with open(path, "rb", buffering=0) as f:  # here: a body that breaks off is left to itself
            request = Request("PATCH", upload.location, headers, lambda: _pieces(f, start, end, tell), CHUNK_S)
            answer = await self._ask(request, (202, 201, 204))
        upload.location = self._next(answer)
        upload.offset = self._offset(answer, end) if "Range" in answer.headers else end
        if upload.offset != end:  # as if the connection had broken there: so often, and no more
            kept = max(upload.offset - start, 0)
            raise TryAgain(f"{transport.address(request.url)} kept {kept} of {end - start} bytes")

    async def _finish(self, upload: _Upload, blob: Descriptor, rest: bytes) -> None:
        assert upload.location  # noqa: S101  it was begun
        url = upload.location.extend_query({"digest": blob.digest})
        request = Request("PUT", url, _length(len(rest)), lambda: rest, CHUNK_S)
        self._same(await self._ask(request, (201, 204)), blob.digest)

    def _next(self, answer: Answer) -> URL:
        return transport.target_of(answer.url, answer.headers.get("Location", ""), self._host.insecure)

    def _offset(self, answer: Answer, most: int) -> int:
        """How many bytes the registry has. Unavailable when that makes no sense."""
        said = answer.headers.get("Range", "0-0")
        found = RANGE.fullmatch(said)
        if not found or int(found[1]) >= max(most, 1):
            raise Unavailable(f"cannot {self._deed}: {transport.address(answer.url)} says that it has {said[:40]!r}")
        return int(found[1]) + 1


class _Refused(Unavailable):
    """The registry answers, and not as it should."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def _length(size: int) -> dict[str, str]:
    return {"Content-Type": "application/octet-stream", "Content-Length": str(size)}


async def _pieces(f: FileIO, start: int, end: int, tell: Tell) -> AsyncIterator[bytes]:
    f.seek(start)
    while start < end:
        data = await asyncio.to_thread(f.read, min(PIECE, end - start))
        if not data:
            raise HyperError(f"cannot read {f.name}: it ends at {start} bytes")
        start += len(data)
        yield data
        tell(start)


async def _words(response: aiohttp.ClientResponse) -> str:
    try:
        return words(await transport.body(response, MAX_COMPLAINT, "a refusal"))
    except Unavailable:
        return ""


def words(data: bytes) -> str:
    """What a registry says of a refusal, as a line; "" for what makes no sense."""
    try:
        said = foreign.read(data, _Complaints, "a refusal", MAX_COMPLAINT).errors
    except InvalidInput:
        return ""
    text = said[0].message or said[0].code if said else ""
    return "".join(c for c in text if c.isprintable())[:200]


@asynccontextmanager
async def connect(
    name: Reference,
    registries: Registries | None,
    credentials: Credentials | None,
    retry: Retry = Retry(),  # noqa: B008  a value
) -> AsyncIterator[Destination]:
    """A connection to the first host of the registry that `name` is in which takes uploads: itself, unless hosts.toml
    says another one. Credentials go to itself alone."""
    hosts = await registry_host.find(name.domain, registries)
    taking = next((host for host in hosts if "push" in host.capabilities), None)
    if taking is None:
        raise InvalidInput(f"cannot push {name}: none of its hosts has the capability 'push' in hosts.toml")
    given = credentials if taking is hosts[-1] else None
    async with registry_host.connect(name.domain, taking, given, retry) as host:
        yield Destination(name, host, retry)
