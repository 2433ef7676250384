"""Files of a server on this host, for ADD of URLs."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from hypercontainer.errors import Exhausted, HyperError, InvalidInput, Unavailable
from hypercontainer.images import fetch

MODIFIED = {"Last-Modified": "Tue, 03 Feb 2026 04:05:06 GMT"}
NAMED = {"Content-Disposition": 'attachment; filename="../given.txt"'}


async def file(request: web.Request) -> web.Response:
    return web.Response(body=b"content", headers=MODIFIED)


async def named(request: web.Request) -> web.Response:
    return web.Response(body=b"content", headers=NAMED)


async def verbose(request: web.Request) -> web.Response:
    return web.Response(body=b"content", headers={"Content-Disposition": f"attachment{';' * 9000} filename=given.txt"})


async def twice(request: web.Request) -> web.Response:
    said = {"Content-Disposition": "attachment; filename*=given.txt; filename*0=given.txt"}
    return web.Response(body=b"content", headers=said)


async def absent(request: web.Request) -> web.Response:
    return web.Response(status=404)


async def to_file(request: web.Request) -> web.Response:
    raise web.HTTPFound("/a/file.tar")


async def around(request: web.Request) -> web.Response:
    raise web.HTTPFound("/around")


async def elsewhere(request: web.Request) -> web.Response:
    raise web.HTTPFound("file:///etc/shadow")


async def to_credentials(request: web.Request) -> web.Response:
    raise web.HTTPFound("http://169.254.169.254/latest")


async def cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"some")
    assert request.transport
    request.transport.abort()
    return response


@pytest.fixture
async def url() -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/a/file.tar", file)
    app.router.add_get("/a/{_:.*%20.*}", file)
    for handler in (absent, to_file, around, elsewhere, to_credentials, cut):
        app.router.add_get(f"/{handler.__name__}", handler)
    app.router.add_get("/named/", named)
    app.router.add_get("/verbose/", verbose)
    app.router.add_get("/twice/", twice)
    app.router.add_get("/", file)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield "http://127.0.0.1:{1}".format(*runner.addresses[0])
    await runner.cleanup()


@pytest.mark.parametrize(
    ("path", "name", "mtime"),
    [
        ("/a/file.tar", "file.tar", 1770091506),
        ("/a/file.tar?x=/other", "file.tar", 1770091506),
        ("/named/", "given.txt", 0),
        ("/verbose/", "", 0),
        ("/twice/", "", 0),
        ("/to_file", "to_file", 1770091506),
        ("/", "", 1770091506),
    ],
)
async def test_a_file_that_is_there(url: str, tmp_path: Path, path: str, name: str, mtime: int) -> None:
    found = await fetch.fetch(url + path, tmp_path / "content")
    assert found == (name, mtime, 7, hashlib.sha256(b"content").hexdigest())
    assert (tmp_path / "content").read_bytes() == b"content"


@pytest.mark.parametrize(
    ("path", "error", "why"),
    [
        ("/absent", InvalidInput, "failed to GET .*/absent with status 404 Not Found"),
        ("/around", Unavailable, "more than 5 redirects"),
        ("/elsewhere", Unavailable, "it redirects to 'file:///etc/shadow'"),
        ("/to_credentials", Unavailable, "it redirects to 'http://169.254.169.254/latest'"),
        ("/cut", Unavailable, "cannot fetch"),
    ],
)
async def test_what_is_none(url: str, tmp_path: Path, path: str, error: type[HyperError], why: str) -> None:
    with pytest.raises(error, match=why):
        await fetch.fetch(url + path, tmp_path / "content")


@pytest.mark.parametrize("word", ["http://", "http://[", "http://a:b/", "https://127.0.0.1:1/x"])
async def test_no_url_and_nobody_there(tmp_path: Path, word: str) -> None:
    with pytest.raises((InvalidInput, Unavailable)):
        await fetch.fetch(word, tmp_path / "content")


async def test_what_is_too_large(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MAX_BYTES", 6)
    with pytest.raises(Exhausted, match="more than 6 bytes"):
        await fetch.fetch(f"{url}/a/file.tar", tmp_path / "content")
