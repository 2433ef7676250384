"""Registries that mean harm: what they send is bounded, in bytes and in time, and where they send us, too."""

import asyncio
import gzip
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from yarl import URL

from hypercontainer.errors import HyperError
from hypercontainer.images import transport
from hypercontainer.images.pull import pull
from hypercontainer.images.store import ImageStore
from hypercontainer.images.transport import Retry, leads_inside
from hypercontainer.testing import layers as made
from tests.unit.images.looking import leftovers
from tests.unit.images.registries import FakeRegistry

SOON = Retry(attempts=2, base_s=0.001, cap_s=0.002, patience_s=5)
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LAYER = made.layer([made.member("f", bytes(100_000))])
TLS = 0x16  # the first byte of a client that speaks it

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def answering(path: str, answer: Answer) -> AsyncIterator[str]:
    """A registry on loopback that has an image a:1, and answers by `answer` where a path has `path` in it."""
    true = FakeRegistry()
    true.push("a", "1", [LAYER])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readexactly(1)
            if head[0] != TLS:
                asked = (head + await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
                if path in asked:
                    await answer(writer)
                elif asked.removeprefix("/v2/") in true.files:
                    kind, data = true.files[asked.removeprefix("/v2/")]
                    writer.write(OK + f"Content-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
                else:
                    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # it had enough
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def endless(begin: bytes, piece: bytes) -> Answer:
    """As much as is taken."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()

    return answer


def trickle(begin: bytes) -> Answer:
    """A byte now and then, so that it is never silent for long."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    return answer


def once(head: str, content: bytes = b"") -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(f"{head}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)

    return answer


async def refusal(store: ImageStore, path: str, answer: Answer) -> str:
    """What a pull says; nothing is left of it."""
    async with answering(path, answer) as host:
        with pytest.raises(HyperError) as refused:
            await pull(store, f"{host}/a:1", retry=SOON)
    assert store.list() == []
    assert [path for path in leftovers(store) if "blobs/partial" not in str(path)] == []
    return str(refused.value)


MANY = b"".join(b"X-%d: %s\r\n" % (n, b"a" * 1000) for n in range(1000))
BOMB = gzip.compress(bytes(64 << 20))


@pytest.mark.parametrize(
    ("path", "answer", "words"),
    [
        ("manifests", endless(CHUNKED, b"fffff\r\n" + bytes(0xFFFFF) + b"\r\n"), "a manifest from .* has more than"),
        ("manifests", endless(OK, MANY), "Too many headers"),
        ("manifests", endless(OK + b"X: ", bytes(1 << 16).replace(b"\0", b"a")), "Got more than 16384 bytes"),
        ("manifests", endless(CHUNKED + b"1\r\na\r\n0\r\n", MANY), "Too many headers"),
        ("manifests", once("HTTP/1.1 200 OK\r\nContent-Encoding: gzip", BOMB), "a manifest from .* has more than"),
        ("manifests", once("HTTP/1.1 200 OK\r\nContent-Encoding: gzip, gzip", BOMB), "it is encoded as 'gzip, gzip'"),
        ("blobs", endless(CHUNKED, b"fffff\r\n" + bytes(0xFFFFF) + b"\r\n"), "bytes or more, not"),
        ("blobs", once("HTTP/1.1 200 OK\r\nContent-Encoding: gzip", BOMB), "bytes or more, not"),
    ],
)
async def test_what_has_no_end_is_not_taken(store: ImageStore, path: str, answer: Answer, words: str) -> None:
    said = await refusal(store, path, answer)
    assert re.search(words, said), said


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("manifests", endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n")),
        ("manifests", trickle(OK + b"X: ")),
        ("manifests", trickle(OK + b"Content-Length: 1000000\r\n\r\n")),
        ("manifests", trickle(CHUNKED + b"1;")),
        ("manifests", endless(CHUNKED + b"1;", bytes(1000).replace(b"\0", b"x"))),
        ("blobs", trickle(OK + b"Content-Length: 3\r\nX: ")),
        ("blobs", trickle(CHUNKED + b"1;")),
        ("blobs", endless(CHUNKED + b"1;", bytes(1000).replace(b"\0", b"x"))),
    ],
)
async def test_who_never_comes_to_the_point_is_left(
    store: ImageStore, path: str, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte in time, and no end of them."""
    for limit in ("HEAD_S", "DOCUMENT_S", "PIECE_S"):
        monkeypatch.setattr(transport, limit, 0.5)
    assert "no answer in time, 2 times in a row" in await refusal(store, path, answer)


async def test_a_token_server_that_hangs(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "HEAD_S", 0.5)
    async with answering("token", trickle(OK + b"X: ")) as realm:
        challenge = f'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm="http://{realm}/token"'
        said = await refusal(store, "manifests", once(challenge))
    assert said == f"cannot get a token from {realm}: {realm}: no answer in time, 2 times in a row"


ELSEWHERE = [
    "file:///etc/passwd",
    "ftp://127.0.0.1/",
    "unix:///run/hyper/hyper.sock",
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/latest/meta-data/",
    "http://0xa9.254.43518/",
    "http://[fe80::1]/",
    "http://[::ffff:169.254.169.254]/",
    "https://169.254.169.254./",
]


@pytest.mark.parametrize("place", ELSEWHERE)
async def test_it_sends_us_nowhere_near(store: ImageStore, place: str) -> None:
    """No file, and no service that answers because it is this machine that asks."""
    moved = once(f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {place}")
    assert f"it redirects to {place!r}" in await refusal(store, "blobs", moved)
    wants = once(f'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm="{place}"')
    assert f"it sends us to {place!r} for a token" in await refusal(store, "manifests", wants)


@pytest.mark.parametrize(
    ("url", "target", "inside"),
    [
        ("https://registry.example", "https://127.0.0.1:2375/", True),
        ("https://registry.example", "https://localhost/", True),
        ("https://registry.example", "https://0/", True),
        ("https://registry.example", "https://127.1/", True),
        ("https://registry.example", "https://[::1]/", True),
        ("https://registry.example", "https://cdn.example/", False),
        ("https://registry.example", "https://10.0.0.5/", False),  # a registry of one's own network
        ("http://127.0.0.1:5000", "http://localhost:5001/", False),
        ("http://127.0.0.1:5000", "http://169.254.169.254/", True),
    ],
)
def test_what_is_inside(url: str, target: str, inside: bool) -> None:
    assert leads_inside(URL(url), URL(target)) is inside


async def test_a_chain_of_redirects_ends(store: ImageStore) -> None:
    said = await refusal(store, "a/", once("HTTP/1.1 302 Found\r\nLocation: /v2/a/again"))
    assert said.endswith("more than 5 redirects")


async def test_many_challenges_are_read_as_far_as_they_are_short(store: ImageStore) -> None:
    wants = "HTTP/1.1 401 Unauthorized" + "\r\nWWW-Authenticate: Bearer " + ",".join(["a=b"] * 3000)
    assert "wants credentials" in await refusal(store, "manifests", once(wants))


async def test_the_true_one_is_pulled(store: ImageStore) -> None:
    async with answering("nothing", once("")) as host:
        assert (await pull(store, f"{host}/a:1", retry=SOON)).names == [f"{host}/a:1"]
