"""Port-forward, over SPDY, over SPDY in a websocket, and over channels of a websocket."""

import asyncio
import socket

import aiohttp
import pytest

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.cri.streaming import mux, spdy
from hypercontainer.hyperd.cri.streaming.forward import PROTOCOL
from hypercontainer.hyperd.cri.streaming.spdy import Data, Decoder, Encoder
from tests.unit.hyperd.cri.streaming.client import Spdy
from tests.unit.hyperd.cri.streaming.conftest import Place

TUNNELED = f"SPDY/3.1+{PROTOCOL}"


async def forwarding(place: Place) -> Spdy:
    client, head = await Spdy.connect(place.forward(), PROTOCOL)
    assert f"X-Stream-Protocol-Version: {PROTOCOL}\r\n" in head
    return client


async def pair(client: Spdy, number: int, port: str = "80") -> None:
    for kind in ("error", "data"):
        await client.open(f"{kind} {number}", port=port, requestid=str(number))
    await client.say(f"error {number}", b"", end=True)


async def received(sock: socket.socket, size: int) -> bytes:
    data, loop = b"", asyncio.get_running_loop()
    while len(data) < size and (piece := await loop.sock_recv(sock, 1 << 16)):
        data += piece
    return data


async def test_bytes_there_and_back(place: Place) -> None:
    client, loop = await forwarding(place), asyncio.get_running_loop()
    sent = bytes(range(256)) * 4000
    for number in (0, 1):
        await pair(client, number, "8080")
        port, sock = await place.sockets.get()
        assert port == 8080
        with sock:
            receiving = asyncio.create_task(received(sock, len(sent)))
            await client.say(f"data {number}", sent, end=True)
            assert await receiving == sent
            assert await loop.sock_recv(sock, 10) == b""  # its half has ended, and no more than that
            sending = asyncio.create_task(loop.sock_sendall(sock, sent))
            while len(client.data[client.streams[f"data {number}"]]) < len(sent):
                await client.hear()
            await sending
        assert await client.end_of(f"data {number}") == sent
        assert await client.end_of(f"error {number}") == b""
    client.close()


@pytest.mark.parametrize(
    ("port", "words"), [("81", b"Connection refused"), ("x", b"no number"), ("65536", b"no number")]
)
async def test_a_port_that_cannot_be_had(place: Place, port: str, words: bytes) -> None:
    client = await forwarding(place)
    await pair(client, 0, port)
    assert words in await client.end_of("error 0")
    await pair(client, 1)  # the others go on
    _, sock = await place.sockets.get()
    sock.close()
    client.close()


async def test_a_pair_that_the_client_resets_is_closed(place: Place) -> None:
    client = await forwarding(place)
    await pair(client, 0)
    _, sock = await place.sockets.get()
    with sock:
        await client.send(spdy.Reset(client.streams["data 0"], mux.CANCEL))
        assert await received(sock, 1) == b""
        assert await client.end_of("error 0") == b""
    client.close()


async def test_a_client_that_goes_takes_its_connections_along(place: Place) -> None:
    client = await forwarding(place)
    await pair(client, 0)
    _, sock = await place.sockets.get()
    with sock:
        client.close()
        assert await received(sock, 1) == b""


async def beside_a_full_one(client: Spdy, place: Place) -> socket.socket:
    """Have more come for the first connection than its port has taken. A second one, which hears all the same."""
    await client.say("data 0", bytes(600_000))
    await pair(client, 1)
    _, other = await place.sockets.get()
    await client.say("data 1", b"hello")
    assert await received(other, 5) == b"hello"
    return other


async def test_a_slow_port_does_not_stop_another_one(place: Place) -> None:
    client, loop = await forwarding(place), asyncio.get_running_loop()
    await pair(client, 0)
    _, slow = await place.sockets.get()
    with slow, await beside_a_full_one(client, place) as other:
        await loop.sock_sendall(other, b"there")
        await client.until("data 1", b"there")
    client.close()


async def test_a_port_that_does_not_hear_may_speak(place: Place) -> None:
    client, loop = await forwarding(place), asyncio.get_running_loop()
    await pair(client, 0)
    _, sock = await place.sockets.get()
    with sock:
        sock.shutdown(socket.SHUT_RD)
        (await beside_a_full_one(client, place)).close()
        await loop.sock_sendall(sock, b"there")
        await client.until("data 0", b"there")
    client.close()


@pytest.mark.parametrize("headers", [{"port": "80"}, {"port": "80", "requestid": "0", "streamtype": "other"}])
async def test_no_half_of_a_pair(place: Place, headers: dict[str, str]) -> None:
    client = await forwarding(place)
    await client.send(spdy.Open(1, {"streamtype": "data", **headers}))
    assert await client.find(spdy.Reset) == spdy.Reset(1, mux.PROTOCOL_ERROR)
    client.close()


async def test_streams_are_bounded(place: Place) -> None:
    client = await forwarding(place)
    for number in range(mux.MAX_STREAMS + 1):
        await client.open(f"data {number}", port="80", requestid=str(number))
    assert await client.find(spdy.Reset) == spdy.Reset(2 * mux.MAX_STREAMS + 1, mux.REFUSED)
    client.close()


async def test_so_many_ports_at_once(place: Place) -> None:
    place.forward(*range(1, 101))
    with pytest.raises(InvalidInput, match="cannot forward 101 ports by one stream: 100 at most"):
        place.forward(*range(1, 102))


async def test_in_a_websocket(place: Place) -> None:
    encoder, decoder = Encoder(), Decoder()
    async with aiohttp.ClientSession() as http, http.ws_connect(place.forward(), protocols=[TUNNELED]) as ws:
        assert ws.protocol == TUNNELED
        for number, kind in ((1, "error"), (3, "data")):
            frame = spdy.Open(number, {"streamtype": kind, "port": "80", "requestid": "0"})
            await ws.send_bytes(encoder.encode(frame))
        await ws.send_bytes(encoder.encode(Data(3, b"question", True)))
        _, sock = await place.sockets.get()
        with sock:
            assert await received(sock, 8) == b"question"
            await asyncio.get_running_loop().sock_sendall(sock, b"answer")
        said, ended = b"", False
        while not ended:
            for one in decoder.feed(await ws.receive_bytes()):
                if isinstance(one, Data) and one.stream == 3:
                    said, ended = said + one.data, one.fin
        assert said == b"answer"


async def test_over_channels(place: Place) -> None:
    url = place.forward(80, 81)
    async with aiohttp.ClientSession() as http, http.ws_connect(url, protocols=["v4.channel.k8s.io"]) as ws:
        first = sorted([await ws.receive_bytes() for _ in range(5)], key=lambda data: (data[0], len(data)))
        assert first[:4] == [b"\0\x50\0", b"\1\x50\0", b"\2\x51\0", b"\3\x51\0"]
        assert b"Connection refused" in first[4]
        _, sock = await place.sockets.get()
        with sock:
            await ws.send_bytes(b"\0hello")
            await ws.send_bytes(b"\x0anobody")
            await ws.send_bytes(b"\2refused")
            assert await received(sock, 5) == b"hello"
            await asyncio.get_running_loop().sock_sendall(sock, b"there")
            assert await ws.receive_bytes() == b"\0there"
            await ws.close()
            assert await received(sock, 1) == b""


async def test_channels_end_with_the_last_connection(place: Place) -> None:
    url = place.forward(81, 80)
    async with aiohttp.ClientSession() as http, http.ws_connect(url, protocols=["v4.channel.k8s.io"]) as ws:
        _, sock = await place.sockets.get()
        with sock:
            await ws.send_bytes(b"\0refused")
            await ws.send_bytes(b"\2hello")
            assert await received(sock, 5) == b"hello"
            await asyncio.get_running_loop().sock_sendall(sock, b"bye")
        assert [message.data async for message in ws][-1] == b"\2bye"
        assert ws.close_code == 1000


async def test_a_port_of_channels_that_does_not_hear_stops_no_other(place: Place) -> None:
    url = place.forward(80, 82)
    async with aiohttp.ClientSession() as http, http.ws_connect(url, protocols=["v4.channel.k8s.io"]) as ws:
        socks = dict([await place.sockets.get(), await place.sockets.get()])
        with socks[80], socks[82]:
            socks[80].shutdown(socket.SHUT_RD)
            for _ in range(3):
                await ws.send_bytes(b"\0" + bytes(300_000))
            await ws.send_bytes(b"\2hello")
            assert await received(socks[82], 5) == b"hello"
            await asyncio.get_running_loop().sock_sendall(socks[80], b"there")
            assert {(await ws.receive_bytes())[0] for _ in range(4)} == {0, 1, 2, 3}
            assert await ws.receive_bytes() == b"\0there"


async def test_channels_need_ports(place: Place) -> None:
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await http.ws_connect(place.forward(), protocols=["v4.channel.k8s.io"])
