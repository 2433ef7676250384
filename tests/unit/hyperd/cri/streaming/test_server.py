"""Who may have a stream, and how it is asked for."""

import asyncio
import ssl
from pathlib import Path

import aiohttp
import pytest

from hypercontainer.errors import Exhausted, InvalidInput
from hypercontainer.hyperd.cri.streaming import tokens
from hypercontainer.hyperd.cri.streaming.server import server
from tests.certificates import Authority
from tests.unit.hyperd.cri.streaming.client import Spdy
from tests.unit.hyperd.cri.streaming.conftest import Place


async def asked(url: str, **headers: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as response:
        return response.status, await response.text()


async def test_an_address_is_good_once(place: Place) -> None:
    url = place.remote()
    assert url.startswith("http://127.0.0.1:")
    client, head = await Spdy.connect(url, "v4.channel.k8s.io")
    assert "X-Stream-Protocol-Version: v4.channel.k8s.io\r\n" in head
    client.close()
    status, words = await asked(url)
    assert (status, words.startswith("no such stream")) == (404, True)


@pytest.mark.parametrize("path", ["exec/x", "exec/", "", "a/b/c", "exec/%00", f"exec/{'x' * 4000}"])
async def test_there_is_nothing_elsewhere(place: Place, path: str) -> None:
    base = place.remote().rpartition("/exec/")[0]
    assert (await asked(f"{base}/{path}"))[0] == 404


async def test_it_must_be_upgraded(place: Place) -> None:
    status, words = await asked(place.remote())
    assert (status, "SPDY/3.1" in words) == (400, True)
    status, words = await asked(place.remote(), Connection="Upgrade", Upgrade="h2c")
    assert status == 400


async def test_a_protocol_that_is_not_spoken(place: Place) -> None:
    client, head = await Spdy.connect(place.remote(), "v9.channel.k8s.io")
    client.close()
    assert head.startswith("HTTP/1.1 403 ")
    assert head.count("X-Accepted-Stream-Protocol-Versions: ") == 4
    client, head = await Spdy.connect(place.forward(), "v4.channel.k8s.io")
    client.close()
    assert head.startswith("HTTP/1.1 403 ")


@pytest.mark.parametrize(
    ("address", "cert", "key", "words"),
    [
        ("tcp://0.0.0.0:0", "", "", "address of this host"),
        ("tcp://localhost:0", "", "", "address of this host"),
        ("unix:///x", "", "", "address of this host"),
        ("tcp://192.0.2.1:0", "", "", "without TLS"),
        ("tcp://127.0.0.1:0", "/c", "", "give both"),
        ("tcp://127.0.0.1:0", "/no", "/no", "tls_cert /no"),
    ],
)
def test_where_nothing_is_streamed(address: str, cert: str, key: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        server(address, cert, key)


async def test_with_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ours")
    pair = authority.sign("streams", usage="serverAuth", address="127.0.0.1")
    made = server("tcp://127.0.0.1:0", str(pair.cert), str(pair.key))
    await made.open()
    try:
        place = Place(made)
        url = place.remote()
        assert url.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=authority.pem)
        protocols = ["v5.channel.k8s.io"]
        async with aiohttp.ClientSession() as http, http.ws_connect(url, protocols=protocols, ssl=context) as socket:
            assert await socket.receive_bytes() == b"\1"
            await place.session.end()
            assert b"Success" in await socket.receive_bytes()
    finally:
        await made.close()


async def test_no_streams_at_all(place: Place) -> None:
    with pytest.raises(InvalidInput, match="cannot exec without"):
        place.remote(stdout=False, stderr=False)
    with pytest.raises(InvalidInput, match="a terminal has no stderr"):
        place.remote(tty=True)


def test_tokens_are_bounded_and_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    some = tokens.Tokens[int]()
    words = [some.issue(n) for n in range(tokens.MOST)]
    assert len(set(words)) == tokens.MOST
    with pytest.raises(Exhausted):
        some.issue(0)
    assert (some.redeem(words[5]), some.redeem(words[5]), some.redeem("")) == (5, None, None)
    now = tokens.LIFE_S
    assert some.redeem(words[6]) is None
    assert some.redeem(some.issue(1)) == 1


async def test_half_a_request_is_given_up(place: Place) -> None:
    host, port = place.remote().removeprefix("http://").partition("/")[0].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /exec/x HTTP/1.1\r\n")
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
