"""A registry on loopback that serves what was pushed to it, or what another registry has, with faults on order."""

import base64
import gzip
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from hypercontainer.testing import layers as made

Content = tuple[int, dict[str, str], bytes]


@dataclass
class Fault:
    """What happens to the next answers whose path has `path` in it, `times` times."""

    path: str
    times: int = 1
    status: int = 0  # answered in place of the content
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int = -1  # bytes of the body, then the connection breaks
    change: Callable[[bytes], bytes] | None = None
    no_ranges: bool = False


@dataclass
class FakeRegistry:
    """`url` is set once it serves. Every request is kept: (method, path, headers)."""

    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)  # of each of them
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # path below /v2/ -> (type, content)
    upstream: str = ""
    basic: str = ""  # "user:password" that every request must give
    bearer: str = ""  # a token that every request must give; "user:password" gets it at /token
    token_status: int = 200
    pages: list[list[str]] = field(default_factory=list)  # of tags, of every repository
    encoding: str = ""  # manifests say that they have this Content-Encoding
    before: Callable[[str], Awaitable[None]] | None = None
    port: int = 0
    given: int = 0
    # uploads
    uploads: dict[str, bytearray] = field(default_factory=dict)
    begun: int = 0
    received: int = 0  # bytes of them
    mounts: bool = True
    break_upload_at: int = -1  # bytes of one: then the connection breaks, once
    miserly: bool = False  # one byte of each chunk is kept
    forgets: bool = False  # such an upload is lost
    lose_answer: bool = False  # of the first upload's end
    complaint: object = None  # what every upload is refused with
    elsewhere: "FakeRegistry | None" = None  # where uploads are sent to

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def paths(self, word: str) -> list[str]:
        return [path for _, path, _ in self.requests if word in path]

    def sent(self, method: str) -> list[str]:
        return [path for given, path, _ in self.requests if given == method]

    def push(self, repository: str, tag: str, layers: list[bytes], **said: Any) -> str:
        """Returns the manifest's digest."""
        files = made.oci_files(layers, **said)
        descriptor = json.loads(files["index.json"])["manifests"][0]
        for path, data in files.items():
            if path.startswith("blobs/"):
                self.files[f"{repository}/blobs/sha256:{path.rpartition('/')[2]}"] = ("application/octet-stream", data)
        blob = self.files.pop(f"{repository}/blobs/{descriptor['digest']}")[1]
        for ref in (tag, descriptor["digest"]):
            self.files[f"{repository}/manifests/{ref}"] = (descriptor["mediaType"], blob)
        return str(descriptor["digest"])

    def push_index(self, repository: str, tag: str, manifests: list[dict[str, object]]) -> None:
        kind = "application/vnd.oci.image.index.v1+json"
        data = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": manifests}).encode()
        for ref in (tag, made.digest(data)):
            self.files[f"{repository}/manifests/{ref}"] = (kind, data)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path, dict(request.headers)))
        self.queries.append(request.query_string)
        if self.before:
            await self.before(request.path)
        fault = next((f for f in self.faults if f.times and f.path in request.path), Fault(""))
        fault.times -= 1
        if fault.status:
            return web.Response(status=fault.status, headers=fault.headers)
        if request.path == "/token":
            return self._token(request)
        if refused := self._refused(request):
            return refused
        if request.method in ("POST", "PATCH", "PUT") or "/blobs/uploads/" in request.path:
            return await self._upload(request)
        status, headers, body = await self._content(request)
        if fault.change:
            body = fault.change(body)
        start = self._start(request) if status == 200 and not fault.no_ranges else 0
        if start:
            status, headers["Content-Range"] = 206, f"bytes {start}-{len(body) - 1}/{len(body)}"
            body = body[start:]
        return await self._send(request, status, headers, body, fault.cut_after)

    @staticmethod
    def _start(request: web.Request) -> int:
        return int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))

    @staticmethod
    async def _send(
        request: web.Request, status: int, headers: dict[str, str], body: bytes, cut_after: int
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers={**headers, "Content-Length": str(len(body))})
        await response.prepare(request)
        if request.method != "HEAD":
            await response.write(body if cut_after < 0 else body[:cut_after])
        if cut_after >= 0:
            assert request.transport
            request.transport.close()
        return response

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        if self.complaint:
            return web.json_response(self.complaint, status=403)
        path = request.path.removeprefix("/v2/")
        repository, _, id = path.partition("/blobs/uploads/")
        if "/manifests/" in path:
            data = await request.read()
            for ref in (path, f"{path.rpartition('/')[0]}/{made.digest(data)}"):
                self.files[ref] = (request.content_type, data)
            return web.Response(status=201, headers={"Docker-Content-Digest": made.digest(data)})
        if request.method == "POST":
            mounted = self.files.get(f"{request.query.get('from')}/blobs/{request.query.get('mount')}")
            if mounted and self.mounts:
                self.files[f"{repository}/blobs/{request.query['mount']}"] = mounted
                return web.Response(status=201)
            self.begun += 1
            id = str(self.begun)
            (self.elsewhere or self).uploads[id] = bytearray()
            self.uploads[id] = (self.elsewhere or self).uploads[id]
        elif id not in self.uploads:
            return web.json_response({"errors": [{"code": "BLOB_UPLOAD_UNKNOWN"}]}, status=404)
        elif request.method in ("PATCH", "PUT") and not await self._take(request, self.uploads[id]):
            return web.Response(status=416)
        if request.method == "PUT":
            return self._end(request, repository, id)
        host = f"http://{self.elsewhere.host}" if self.elsewhere else ""
        known = {"range": f"0-{max(len(self.uploads[id]) - 1, 0)}"}
        location = {"location": f"{host}/v2/{repository}/blobs/uploads/{id}?state={len(self.uploads[id])}"}
        return web.Response(status=204 if request.method == "GET" else 202, headers={**known, **location})

    async def _take(self, request: web.Request, upload: bytearray) -> bool:
        """What comes goes to the upload, up to where the connection is to break."""
        start = request.headers.get("Content-Range", f"{len(upload)}-").partition("-")[0]
        if int(start) != len(upload):
            return False
        async for data in request.content.iter_any():
            self.received += len(data)
            upload += data
            if self.miserly:
                del upload[int(start) + 1 :]
            if 0 <= self.break_upload_at <= len(upload):
                del upload[self.break_upload_at :]
                self.break_upload_at = -1
                if self.forgets:
                    self.uploads.clear()
                assert request.transport
                request.transport.abort()
                raise ConnectionResetError
        return True

    def _end(self, request: web.Request, repository: str, id: str) -> web.Response:
        data = bytes(self.uploads.pop(id))
        if made.digest(data) != request.query["digest"]:
            return web.json_response({"errors": [{"code": "DIGEST_INVALID"}]}, status=400)
        self.files[f"{repository}/blobs/{request.query['digest']}"] = ("application/octet-stream", data)
        if self.lose_answer:
            self.lose_answer = False
            assert request.transport
            request.transport.abort()
        return web.Response(status=201, headers={"Docker-Content-Digest": request.query["digest"]})

    async def _content(self, request: web.Request) -> Content:
        path = request.path.removeprefix("/v2/")
        if self.upstream:
            skip = {"Authorization": request.headers.get("Authorization", ""), "Accept": request.headers["Accept"]}
            async with (
                aiohttp.ClientSession(auto_decompress=False) as session,
                session.get(f"{self.upstream}{request.path}", headers=skip) as answer,
            ):
                keep = ("Content-Type", "Docker-Content-Digest", "WWW-Authenticate")
                return answer.status, {k: answer.headers[k] for k in keep if k in answer.headers}, await answer.read()
        if not path:
            return 200, {}, b"{}"
        if path.endswith("/tags/list"):
            return self._tags(request)
        if path not in self.files:
            return 404, {}, b"{}"
        kind, data = self.files[path]
        encoded = {"Content-Encoding": self.encoding} if self.encoding and "/manifests/" in path else {}
        return 200, {"Content-Type": kind, **encoded}, gzip.compress(data) if encoded else data

    def _tags(self, request: web.Request) -> Content:
        n = int(request.query.get("page", "0"))
        link = {"Link": f'<{request.path}?page={n + 1}>; rel="next"'} if n + 1 < len(self.pages) else {}
        return 200, link, json.dumps({"name": "x", "tags": self.pages[n] or None}).encode()

    def _token(self, request: web.Request) -> web.Response:
        self.given += 1
        if self.basic and not self._knows(request):
            return web.Response(status=401)
        answer = {"token": self.bearer, "access_token": None, "expires_in": 300}
        return web.json_response(answer, status=self.token_status)

    def _knows(self, request: web.Request) -> bool:
        return request.headers.get("Authorization") == "Basic " + base64.b64encode(self.basic.encode()).decode()

    def _refused(self, request: web.Request) -> web.Response | None:
        if self.bearer:
            if request.headers.get("Authorization") == f"Bearer {self.bearer}":
                return None
            realm = f'Bearer realm="http://{self.host}/token",service="fake, registry",scope="repository:a:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": realm})
        if self.basic and not self._knows(request):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="fake"'})
        return None


@asynccontextmanager
async def serving(registry: FakeRegistry, tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeRegistry]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", registry.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    registry.port = runner.addresses[0][1]
    try:
        yield registry
    finally:
        await runner.cleanup()
