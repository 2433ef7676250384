"""Exec and attach over SPDY."""

import asyncio
import json

import pytest

from hypercontainer.errors import GuestError
from hypercontainer.hyperd.cri.streaming import mux, spdy
from hypercontainer.hyperd.cri.streaming.streams import CHUNK
from tests.unit.hyperd.cri.streaming.client import Spdy
from tests.unit.hyperd.cri.streaming.conftest import Place

V4 = "v4.channel.k8s.io"
ALL = ("channel.k8s.io", "v2.channel.k8s.io", "v3.channel.k8s.io", V4)


async def executing(place: Place, *names: str, protocols: tuple[str, ...] = ALL, verb: str = "exec") -> Spdy:
    """A client that has opened those streams."""
    wanted = {name: name in names for name in ("stdin", "stdout", "stderr")}
    client, head = await Spdy.connect(place.remote(verb, tty="resize" in names, **wanted), *protocols)
    assert head.startswith("HTTP/1.1 101 "), head
    for name in names:
        await client.open(name)
    await place.started.wait()
    return client


async def test_an_exec_from_start_to_end(place: Place) -> None:
    client = await executing(place, "error", "stdin", "stdout", "stderr")
    session = place.session
    await client.say("stdin", b"typed", end=True)
    await session.stdin_closed.wait()
    assert session.stdin == b"typed"
    await session.say(b"out", 1)
    await session.say(b"err", 2)
    await session.end(3)
    assert json.loads(await client.end_of("error")) == {
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": "command terminated with non-zero exit code: 3",
        "details": {"causes": [{"reason": "ExitCode", "message": "3"}]},
    }
    assert (await client.end_of("stdout"), await client.end_of("stderr")) == (b"out", b"err")
    client.close()
    await session.detached.wait()


@pytest.mark.parametrize(("verb", "status"), [("exec", 0), ("attach", 0), ("attach", 9)])
async def test_success(place: Place, verb: str, status: int) -> None:
    client = await executing(place, "error", "stdout", verb=verb)
    await place.session.end(status)
    assert json.loads(await client.end_of("error")) == {"metadata": {}, "status": "Success"}
    client.close()


@pytest.mark.parametrize("protocols", [("v3.channel.k8s.io", "channel.k8s.io"), ("v2.channel.k8s.io",), ()])
@pytest.mark.parametrize("status", [0, 5])
async def test_older_protocols_are_told_in_words(place: Place, protocols: tuple[str, ...], status: int) -> None:
    client = await executing(place, "error", "stdout", protocols=protocols)
    await place.session.end(status)
    words = b"command terminated with non-zero exit code: 5" if status else b""
    assert await client.end_of("error") == words
    client.close()


async def test_what_cannot_start_is_an_internal_error(place: Place) -> None:
    place.failure = GuestError("cannot run nothing: No such file or directory")
    client, _ = await Spdy.connect(place.remote(stderr=False), *ALL)
    await client.open("error")
    await client.open("stdout")
    said = json.loads(await client.end_of("error"))
    assert (said["status"], said["reason"], said["code"]) == ("Failure", "InternalError", 500)
    assert "No such file" in said["message"]
    client.close()


async def test_a_terminal_is_resized(place: Place) -> None:
    client = await executing(place, "error", "stdin", "stdout", "resize")
    await client.say("resize", b'{"Width":80,"Height":24}\n{"Width":0,"Height":0}\n{"Wid')
    await client.say("resize", b'th":132,"Height":50}\n')
    while len(place.session.done) < 2:
        place.session.acted.clear()
        await place.session.acted.wait()
    assert place.session.done == [("resize", (24, 80)), ("resize", (50, 132))]
    await place.session.end()
    await client.end_of("error")
    client.close()


@pytest.mark.parametrize("words", [b'{"Width":70000,"Height":1}', b'{"Width":"x"}', b"x}"])
async def test_no_size(place: Place, words: bytes) -> None:
    client = await executing(place, "error", "stdin", "stdout", "resize")
    await client.say("resize", words)
    assert "terminal" in json.loads(await client.end_of("error"))["message"]
    await place.session.detached.wait()
    client.close()


async def test_a_client_that_goes_leaves_the_process(place: Place) -> None:
    client = await executing(place, "error", "stdin", "stdout", verb="attach")
    client.close()
    await place.session.detached.wait()
    assert not place.session.status.done()


async def test_a_client_that_goes_while_stdin_is_stuck(place: Place) -> None:
    place.session.reads_stdin.clear()
    client = await executing(place, "error", "stdin", "stdout")
    await client.say("stdin", bytes(1000))
    client.close()
    await place.session.detached.wait()


async def test_pings_are_answered_while_stdin_is_stuck(place: Place) -> None:
    place.session.reads_stdin.clear()
    client = await executing(place, "error", "stdin", "stdout")
    await client.say("stdin", bytes(100_000))
    await client.send(spdy.Ping(7))
    assert await client.find(spdy.Ping) == spdy.Ping(7)
    client.close()


async def test_much_stdin_to_a_slow_process_waits_in_the_client(place: Place) -> None:
    place.session.reads_stdin.clear()
    client = await executing(place, "error", "stdin", "stdout")
    size = 20 << 20
    sending = asyncio.create_task(client.say("stdin", bytes(size // 2)))
    done, _ = await asyncio.wait([sending], timeout=0.5)
    assert not done  # the server takes some, the kernel some
    place.session.reads_stdin.set()
    await sending
    await client.say("stdin", bytes(size // 2), end=True)
    await place.session.stdin_closed.wait()
    assert len(place.session.stdin) == size
    client.close()


async def test_windows_of_a_client_that_has_them_are_kept(place: Place) -> None:
    client, _ = await Spdy.connect(place.remote(stderr=False), *ALL)
    await client.send(spdy.Settings({spdy.WINDOW_SETTING: 1000}))
    await client.open("error")
    await client.open("stdout")
    await place.started.wait()
    await place.session.say(bytes(2500))
    while len(client.data[client.streams["stdout"]]) < 1000:
        await client.hear()
    await client.send(spdy.Ping(1))
    await client.find(spdy.Ping)
    assert len(client.data[client.streams["stdout"]]) == 1000
    await client.send(spdy.Window(client.streams["stdout"], 2000))
    await place.session.end()
    assert len(await client.end_of("stdout")) == 2500
    client.close()


async def test_a_client_without_windows_is_sent_all(place: Place) -> None:
    client = await executing(place, "error", "stdout")
    for _ in range(10):
        await place.session.say(bytes(CHUNK * 3))
    await place.session.end()
    assert len(await client.end_of("stdout")) == CHUNK * 30
    client.close()


async def test_a_client_is_told_of_what_was_taken(place: Place) -> None:
    client = await executing(place, "error", "stdin", "stdout")
    await client.say("stdin", bytes(mux.WINDOW))
    windows: list[spdy.Window] = []
    while not windows:
        await client.hear()
        windows = [f for f in client.other if isinstance(f, spdy.Window) and f.stream == client.streams["stdin"]]
    assert windows[0].more >= mux.WINDOW // 2
    client.close()


@pytest.mark.parametrize("frame", [spdy.Open(2, {}), spdy.Window(0, 2**31 - 1), spdy.Settings({7: 2**32 - 1})])
async def test_what_no_client_may_say_ends_it(place: Place, frame: spdy.Frame) -> None:
    client = await executing(place, "error", "stdin", "stdout")
    await client.send(frame)
    while await client.hear():
        pass
    assert client.away
    client.close()
    await place.session.detached.wait()


async def test_a_stream_that_nobody_wants_is_refused(place: Place) -> None:
    client = await executing(place, "error", "stdout")
    number = await client.open("stderr")
    assert await client.find(spdy.Reset) == spdy.Reset(number, mux.REFUSED)
    client.close()


async def test_a_stdin_that_is_reset_has_ended(place: Place) -> None:
    client = await executing(place, "error", "stdin", "stdout")
    await client.send(spdy.Reset(client.streams["stdin"], mux.CANCEL))
    await place.session.stdin_closed.wait()
    await place.session.end()
    await client.end_of("error")
    client.close()


async def test_no_stream_for_what_was_asked(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hypercontainer.hyperd.cri.streaming.command.STREAMS_S", 0.1)
    client, _ = await Spdy.connect(place.remote(), *ALL)
    await client.open("error")
    assert "no stream for stderr, stdout" in json.loads(await client.end_of("error"))["message"]
    while await client.hear():
        pass
    client.close()
    assert not place.started.is_set()


async def test_an_end_of_hyperd_is_told(place: Place) -> None:
    client = await executing(place, "error", "stdout")
    closing = asyncio.create_task(place.server.close())
    assert "shutting down" in json.loads(await client.end_of("error"))["message"]
    client.close()
    await closing
    assert place.session.detached.is_set()
