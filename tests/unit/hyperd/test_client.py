"""Our own client against our own server: both ends of docs/api.md meet."""

import asyncio
import inspect
import json
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from hypercontainer.client.http import Client
from hypercontainer.errors import (
    AlreadyExists,
    Denied,
    Exhausted,
    GuestError,
    GuestTooOld,
    HyperError,
    InUse,
    InvalidInput,
    NoLog,
    NotFound,
    TimedOut,
    Unavailable,
    Unsupported,
    WrongState,
)
from hypercontainer.model import stream
from tests.unit.hyperd.conftest import Server
from tests.unit.hyperd.fake import FakeSession


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    with Client(str(server.path)) as client:
        yield client


async def test_documents_both_ways(server: Server, client: Client) -> None:
    def work() -> None:
        assert client.get("/v1/version")["ApiVersion"] == "1"
        body = {"containers": [{"image": "busybox"}]}
        assert client.post("/v1/containers", body)["Id"] == "c1"
        assert client.post("/v1/containers/web/start") is None
        assert client.delete("/v1/containers/web", force=True, volumes=False) is None
        assert client.get("/v1/containers", all=True, filter=["label=a=b ä&c"]) == []

    await asyncio.to_thread(work)
    assert server.engine.calls[-1][2] == {
        "all": True,
        "all_owners": False,
        "filters": {"label": ["a=b ä&c"]},
        "size": False,
    }


@pytest.mark.parametrize(
    "error",
    [
        AlreadyExists("the name web is taken", "container", "web", "0123"),
        Denied("cannot bind /etc"),
        Exhausted("cannot write: the disk is full"),
        GuestError("exec sh: no such file", 2, exec=True),
        GuestError("the guest says no"),
        GuestTooOld("cannot paint: its guest is too old", "paint"),
        HyperError("something else"),
        InUse("the image is in use", "image", "busybox", ["container web"]),
        InvalidInput("invalid name"),
        NotFound("container", "web"),
        NotFound("image", "x:1", "pull it first"),
        TimedOut("too slow"),
        Unavailable("the registry does not answer"),
        Unsupported("fork web", "QEMU"),
        NoLog("read the log of", "web"),
        WrongState("stop", "web", "removing"),
        WrongState("attach to", "web", "created", "start it first"),
    ],
    ids=lambda error: f"{type(error).__name__}-{error}",
)
async def test_errors_arrive_as_what_they_were(server: Server, client: Client, error: HyperError) -> None:
    server.engine.answers["containers.start"] = error
    with pytest.raises(HyperError) as caught:
        await asyncio.to_thread(client.post, "/v1/containers/web/start")
    assert (type(caught.value), str(caught.value), vars(caught.value)) == (type(error), str(error), vars(error))


def test_every_fact_of_an_error_is_told() -> None:
    """Each attribute that a constructor takes beside the message, but for the guest's console, which may be long."""
    for kind in HyperError.__subclasses__():
        if kind.__module__ == HyperError.__module__ and "__init__" in vars(kind):
            taken = set(inspect.signature(kind.__init__).parameters) - {"self", "message", "console"}
            assert set(kind.facts) == taken, kind


async def test_lines_tars_and_bodies(server: Server, client: Client) -> None:
    def work() -> None:
        entries = list(client.stream("GET", "/v1/containers/web/logs", follow=True))
        assert [(e["stream"], e["data"]) for e in entries] == [(1, "aGVsbG8K"), (2, "/w==")]
        lines = list(client.stream("POST", "/v1/images/load", iter([b"a" * 100_000] * 50)))
        assert lines[-1] == {"images": [{"Id": "sha256:1", "Name": "busybox:latest"}]}
        assert b"".join(client.download("/v1/containers/web/archive", path="/etc")) == b"tarball"
        assert client.upload("PUT", "/v1/containers/web/archive", iter([b"x", b"y"]), path="/") is None

    await asyncio.to_thread(work)
    assert server.engine.received == b"a" * 5_000_000 + b"xy"


async def test_an_error_in_mid_stream_is_raised(server: Server, client: Client) -> None:
    async def events(*_: object) -> Any:
        async def run() -> Any:
            yield {"Type": "container"}
            raise Unavailable("gone")

        return run()

    server.engine.answers["system.events"] = events

    def work() -> None:
        found = client.stream("GET", "/v1/events")
        assert next(found) == {"Type": "container"}
        with pytest.raises(Unavailable, match="gone"):
            next(found)

    await asyncio.to_thread(work)


def frames(upgraded: Any) -> Iterator[tuple[int, bytes]]:
    decoder = stream.Decoder(stream.FROM_SERVER)
    decoder.feed(upgraded.rest)
    while True:
        yield from ((kind, bytes(payload)) for kind, payload in decoder)
        n = upgraded.socket.recv_into(decoder.space())
        if not n:
            return
        decoder.received(n)


async def test_an_upgraded_connection_carries_ten_megabytes_each_way(server: Server, client: Client) -> None:
    session = server.engine.session = FakeSession()
    data = bytes(range(256)) * 128

    def work() -> tuple[list[tuple[int, bytes]], int]:
        upgraded = client.upgrade("/v1/containers/web/exec", {"command": ["cat"], "open_stdin": True})

        def send() -> None:
            for _ in range(320):
                upgraded.socket.sendall(stream.frame(stream.STDIN, data))
            upgraded.socket.sendall(stream.frame(stream.STDIN_END))

        sender = threading.Thread(target=send)
        sender.start()
        others, received = [], 0
        for kind, payload in frames(upgraded):
            if kind == stream.STDOUT:
                received += len(payload)
            else:
                others.append((kind, payload))
        sender.join()
        upgraded.socket.close()
        return others, received

    working = asyncio.create_task(asyncio.to_thread(work))
    for _ in range(160):
        await session.say(data * 2)
    await session.stdin_closed.wait()
    await session.end(3)
    others, received = await working
    assert session.stdin == data * 320
    assert received == len(data) * 320
    assert [kind for kind, _ in others] == [stream.INFO, stream.EXIT]
    assert json.loads(others[-1][1]) == {"status": 3}
