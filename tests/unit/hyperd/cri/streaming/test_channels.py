"""Exec and attach over a websocket."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.errors import GuestError, InvalidInput
from hypercontainer.hyperd.cri.streaming.channels import V4, V5, Channels
from hypercontainer.hyperd.cri.streaming.remote import Remote
from hypercontainer.model.api import Session
from tests.unit.hyperd.cri.streaming.conftest import Place


@asynccontextmanager
async def executing(
    place: Place, protocol: str = V5, verb: str = "exec", **streams: bool
) -> AsyncIterator[ClientWebSocketResponse]:
    async with aiohttp.ClientSession() as http:
        url = place.remote(verb, **{"stderr": False, **streams})
        async with http.ws_connect(url, protocols=[protocol]) as socket:
            assert socket.protocol == protocol
            yield socket


async def status(socket: ClientWebSocketResponse) -> dict[str, object]:
    """What comes on the error channel, behind what comes on others."""
    while (data := await socket.receive_bytes())[:1] != b"\3":
        pass
    said: dict[str, object] = json.loads(data[1:])
    end = await socket.receive()
    assert (end.type, end.data) == (WSMsgType.CLOSE, 1000)
    return said


@pytest.mark.parametrize("protocol", [V4, V5])
async def test_an_exec_from_start_to_end(place: Place, protocol: str) -> None:
    async with executing(place, protocol, stdin=True, stderr=True) as socket:
        assert await socket.receive_bytes() == b"\1"
        await socket.send_bytes(b"\0typed")
        await socket.send_str("\0 tëxt")
        await place.session.say(b"out", 1)
        await place.session.say(b"err", 2)
        assert [await socket.receive_bytes(), await socket.receive_bytes()] == [b"\1out", b"\2err"]
        await place.session.end(4)
        assert (await status(socket))["details"] == {"causes": [{"reason": "ExitCode", "message": "4"}]}
    assert place.session.stdin == "typed tëxt".encode()


async def test_stdin_ends_alone_in_version_5(place: Place) -> None:
    async with executing(place, stdin=True) as socket:
        await socket.send_bytes(b"\0x")
        await socket.send_bytes(b"\xff\0")
        await place.session.stdin_closed.wait()
        await place.session.say(b"later")
        await place.session.end()
        assert (await status(socket))["status"] == "Success"


async def test_a_terminal_is_resized(place: Place) -> None:
    async with executing(place, V4, tty=True, stdin=True) as socket:
        await socket.send_bytes(b'\4{"Width":80,"Height":24}')
        await place.session.acted.wait()
        assert place.session.done == [("resize", (24, 80))]


async def test_what_cannot_start(place: Place) -> None:
    place.failure = GuestError("cannot run nothing: No such file or directory")
    async with executing(place) as socket:
        assert (await status(socket))["reason"] == "InternalError"


async def test_a_client_that_goes_leaves_the_process(place: Place) -> None:
    async with executing(place, verb="attach", stdin=True) as socket:
        await socket.receive_bytes()
    await place.session.detached.wait()
    assert not place.session.status.done()


async def test_pings_are_answered_while_stdin_is_stuck(place: Place) -> None:
    place.session.reads_stdin.clear()
    url = place.remote(stdin=True)
    async with aiohttp.ClientSession() as http, http.ws_connect(url, protocols=[V4], autoping=False) as socket:
        await socket.receive_bytes()
        for _ in range(10):
            await socket.send_bytes(b"\0" + bytes(1000))
        await socket.ping(b"there?")
        assert (await socket.receive()).type is WSMsgType.PONG


async def test_much_stdin_to_a_slow_process_waits_in_the_client(place: Place) -> None:
    place.session.reads_stdin.clear()
    async with executing(place, stdin=True) as socket:

        async def send() -> None:
            for _ in range(40):
                await socket.send_bytes(b"\0" + bytes(1 << 19))

        sending = asyncio.create_task(send())
        done, _ = await asyncio.wait([sending], timeout=0.5)
        assert not done
        place.session.reads_stdin.set()
        await sending
        await socket.send_bytes(b"\xff\0")
        await place.session.stdin_closed.wait()
        assert len(place.session.stdin) == 40 << 19


async def test_a_client_that_is_cut_off_while_stdin_is_stuck(place: Place) -> None:
    place.session.reads_stdin.clear()
    async with executing(place, stdin=True) as socket:
        for _ in range(3):
            await socket.send_bytes(b"\0" + bytes(1 << 18))
        transport = socket._response.connection.transport  # type: ignore[union-attr]
        assert transport
        transport.abort()
        await place.session.detached.wait()


async def test_a_client_that_ends_without_a_word_is_gone(place: Place) -> None:
    async with executing(place, verb="attach", stdin=True) as socket:
        await socket.receive_bytes()
        transport = socket._response.connection.transport  # type: ignore[union-attr]
        assert transport
        transport.write_eof()
        await place.session.detached.wait()


@pytest.mark.parametrize("protocols", [[], ["v9.channel.k8s.io"], ["SPDY/3.1+portforward.k8s.io"]])
async def test_a_protocol_that_is_not_spoken(place: Place, protocols: list[str]) -> None:
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(place.remote(), protocols=protocols)
        assert refused.value.status == 400


async def _none() -> Session:
    raise AssertionError


@given(st.lists(st.binary(max_size=60), max_size=10), st.booleans())
def test_any_messages_are_read_or_refused(messages: list[bytes], tty: bool) -> None:
    wanted = Remote(verb="exec", start=_none, stdin=True, stdout=True, stderr=False, tty=tty)
    for framing in (Channels(wanted, V4), Channels(wanted, V5)):
        for message in messages:
            try:
                list(framing.read(message))
            except InvalidInput as e:
                assert str(e).startswith("cannot ")
