"""attach and exec: frames over an upgraded connection."""

import asyncio
import json

import pytest

from hypercontainer.errors import GuestDied, WrongState
from tests.unit.hyperd.conftest import Server
from tests.unit.hyperd.fake import FakeSession
from tests.unit.hyperd.raw import (
    DETACH,
    ERROR,
    EXIT,
    HEADER,
    RESIZE,
    SIGNAL,
    STDERR,
    STDIN,
    STDIN_END,
    STDOUT,
    Raw,
    frame,
)

ATTACH = "/v1/containers/web/attach?stdin=1&stdout=1&stderr=1"


async def attached(server: Server, target: str = ATTACH) -> tuple[Raw, FakeSession]:
    server.engine.session = FakeSession()
    raw = await server.upgrade(target)
    await raw.established()
    return raw, server.engine.session


async def test_why_a_process_was_ended_goes_with_its_status(server: Server) -> None:
    raw, session = await attached(server)
    session.reason = "killed: out of memory"
    await session.end(137)
    assert await raw.document(EXIT) == {"status": 137, "error": "killed: out of memory"}
    await raw.close()


async def test_output_and_status_arrive_and_the_connection_ends(server: Server) -> None:
    raw, session = await attached(server)
    await session.say(b"out")
    await session.say(b"err", 2)
    await session.end(7)
    assert await raw.frame() == (STDOUT, b"out")
    assert await raw.frame() == (STDERR, b"err")
    assert await raw.document(EXIT) == {"status": 7}
    assert await raw.reader.read() == b""
    assert session.detached.is_set()
    await raw.close()


async def test_the_first_frame_tells_the_id_and_where_the_time_went(server: Server) -> None:
    raw = await server.upgrade(ATTACH + "&start=1")
    assert await raw.established() == {"Id": "c1", "timings": [{"name": "boot", "begin_ms": 0.0, "took_ms": 1.5}]}
    assert server.engine.calls[-1][2]["start"] is True
    await raw.close()


async def test_stdin_arrives_whole_and_its_end_leaves_output_open(server: Server) -> None:
    raw, session = await attached(server)
    for piece in (b"one ", b"two ", b""):
        await raw.send(STDIN, piece)
    await raw.send(STDIN_END)
    await session.stdin_closed.wait()
    assert session.stdin == b"one two "
    await session.say(b"answer")
    assert await raw.frame() == (STDOUT, b"answer")
    await raw.close()


async def test_frames_may_come_a_byte_at_a_time(server: Server) -> None:
    raw, session = await attached(server)
    for byte in frame(STDIN, b"abc") + frame(RESIZE, b'{"rows":24,"columns":80}') + frame(STDIN_END):
        raw.writer.write(bytes([byte]))
        await raw.writer.drain()
        await asyncio.sleep(0)
    await session.stdin_closed.wait()
    await session.acted.wait()
    assert (bytes(session.stdin), session.done) == (b"abc", [("resize", (24, 80))])
    await raw.close()


async def test_signals_overtake_stdin_that_waits(server: Server) -> None:
    raw, session = await attached(server)
    session.reads_stdin.clear()
    await raw.send(STDIN, b"x" * 1000)
    await raw.send(SIGNAL, b'{"signal":15}')
    await session.acted.wait()
    assert (session.done, bytes(session.stdin)) == ([("signal", 15)], b"")
    await raw.close()


async def test_ten_megabytes_reach_a_slow_reader_whole(server: Server) -> None:
    raw, session = await attached(server)
    session.reads_stdin.clear()
    data = bytes(range(256)) * 256
    sending = asyncio.create_task(send_many(raw, data, 160))
    for _ in range(200):
        await asyncio.sleep(0)
    assert not sending.done()  # it stalls instead of filling our memory
    session.reads_stdin.set()
    await sending
    await session.stdin_closed.wait()
    assert session.stdin == data * 160
    await raw.close()


async def send_many(raw: Raw, data: bytes, times: int) -> None:
    for _ in range(times):
        await raw.send(STDIN, data)
    await raw.send(STDIN_END)


async def test_a_client_that_reads_nothing_stalls_the_session(server: Server) -> None:
    raw, session = await attached(server)
    raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
    chunk = b"x" * 65536
    stalled = False
    for _ in range(1000):
        saying = asyncio.create_task(session.say(chunk))
        for _ in range(20):
            await asyncio.sleep(0)
        if not saying.done():
            stalled = True
            saying.cancel()
            break
    assert stalled
    assert session.taken < 4 << 20
    raw.writer.transport.resume_reading()  # type: ignore[attr-defined]
    await asyncio.gather(session.end(), read_to_exit(raw))
    await raw.close()


async def read_to_exit(raw: Raw) -> int:
    total = 0
    while (got := await raw.frame())[0] != EXIT:
        total += len(got[1])
    return total


async def test_a_client_that_vanishes_detaches(server: Server) -> None:
    raw, session = await attached(server)
    await raw.close()
    await session.detached.wait()
    assert not session.done


async def test_a_client_that_vanishes_while_it_is_held_back_detaches(server: Server) -> None:
    raw, session = await attached(server)
    session.reads_stdin.clear()
    sending = asyncio.create_task(send_many(raw, b"x" * 65536, 100))
    for _ in range(200):
        await asyncio.sleep(0)
    raw.writer.transport.abort()
    await session.detached.wait()
    sending.cancel()


async def test_detach_works_while_stdin_is_stalled(server: Server) -> None:
    raw, session = await attached(server)
    session.reads_stdin.clear()
    await raw.send(STDIN, b"x")
    await raw.send(DETACH)
    await session.detached.wait()
    assert await raw.reader.read() == b""
    await raw.close()


async def test_a_process_that_reads_no_more_loses_the_rest_only(server: Server) -> None:
    raw, session = await attached(server)
    session.broken_pipe = True
    await raw.send(STDIN, b"lost")
    await raw.send(RESIZE, b'{"rows":1,"columns":2}')
    await session.acted.wait()
    await session.say(b"still here")
    assert await raw.frame() == (STDOUT, b"still here")
    await raw.close()


async def test_large_pieces_of_output_become_bounded_frames(server: Server) -> None:
    raw, session = await attached(server)
    await session.say(b"y" * 200_000)
    sizes = [len((await raw.frame())[1]) for _ in range(4)]
    assert sizes == [65536, 65536, 65536, 200_000 - 3 * 65536]
    await raw.close()


@pytest.mark.parametrize(
    "bad",
    [
        frame(3, b"{}"),  # only servers say that
        frame(200),
        HEADER.pack(STDIN, 65537),
        HEADER.pack(STDIN, 0xFFFFFFFF),
        HEADER.pack(RESIZE, 65536),
        b"\0\0\1\0\0\0\0\0",  # padding
        frame(RESIZE, b'{"rows":0,"columns":1}'),
        frame(RESIZE, b'{"rows":1}'),
        frame(RESIZE, b'{"rows":1,"columns":1,"depth":1}'),
        frame(SIGNAL, b'{"signal":65}'),
        frame(SIGNAL, b"not json"),
        frame(SIGNAL, b"\xff"),
        b"GET / HTTP/1.1\r\n",
    ],
)
async def test_what_no_client_may_send_ends_the_stream_with_a_reason(server: Server, bad: bytes) -> None:
    raw, session = await attached(server)
    raw.writer.write(bad)
    assert (await raw.document(ERROR))["kind"] == "invalid"
    assert await raw.reader.read() == b""
    assert session.detached.is_set()
    await raw.close()


async def test_stdin_that_was_not_asked_for_is_refused(server: Server) -> None:
    raw, _ = await attached(server, "/v1/containers/web/attach")
    await raw.send(STDIN, b"x")
    assert "not attached" in (await raw.document(ERROR))["message"]
    await raw.close()


async def test_a_guest_that_dies_is_told(server: Server) -> None:
    raw, session = await attached(server)
    await session.output.put(GuestDied("the guest's kernel panicked"))
    assert await raw.document(ERROR) == {"message": "the guest's kernel panicked", "kind": "guest"}
    await raw.close()


async def test_a_bug_in_mid_stream_keeps_its_innards(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    raw, session = await attached(server)
    await session.output.put(ValueError("secret"))
    said = await raw.document(ERROR)
    assert said["kind"] == "internal"
    assert "secret" not in said["message"]
    assert "secret" in caplog.text
    await raw.close()


async def test_no_upgrade_without_the_headers(server: Server) -> None:
    status, document = await server.ask("POST", ATTACH)
    assert (status, document["kind"]) == (400, "invalid")  # type: ignore[index]
    status, _ = await server.ask("POST", "/v1/containers/web/exec", data=b'{"command":["true"]}')
    assert status == 400
    assert server.engine.calls == []


async def test_an_error_before_the_upgrade_has_a_status(server: Server) -> None:
    server.engine.answers["containers.attach"] = WrongState("attach to", "web", "exited")
    raw = await server.upgrade(ATTACH)
    status, _ = await raw.head()
    assert status == 409
    await raw.close()


async def test_exec_upgrades_with_its_body_read(server: Server) -> None:
    body = json.dumps({"command": ["cat"], "open_stdin": True}).encode()
    raw = await server.upgrade("/v1/containers/web/exec", body)
    await raw.established()
    session = server.engine.session
    assert session is not None
    await raw.send(STDIN, b"in")
    await raw.send(STDIN_END)
    await session.stdin_closed.wait()
    assert session.stdin == b"in"
    await session.end(0)
    assert await raw.document(EXIT) == {"status": 0}
    await raw.close()


async def test_a_detached_exec_answers_its_id(server: Server) -> None:
    status, document = await server.ask("POST", "/v1/containers/web/exec", json={"command": ["true"], "detach": True})
    assert (status, document) == (200, {"Id": "e1", "Warnings": []})


async def test_a_caller_that_vanishes_during_the_start_leaves_no_session_behind(server: Server) -> None:
    began, go_on, session = asyncio.Event(), asyncio.Event(), FakeSession()

    async def slow(*_: object, **__: object) -> FakeSession:
        began.set()
        await go_on.wait()
        return session

    server.engine.containers.attach = slow  # type: ignore[method-assign]
    raw = await server.upgrade(ATTACH + "&start=1")
    await began.wait()
    await raw.close()
    while server.dispatcher.lasting:  # noqa: ASYNC110  it has no event for this
        await asyncio.sleep(0)
    go_on.set()
    await session.detached.wait()


async def test_a_daemon_that_stops_says_so_and_lets_go(server: Server) -> None:
    raw, session = await attached(server)
    await server.dispatcher.stop(timeout_s=1)
    assert (await raw.document(ERROR))["kind"] == "unavailable"
    assert session.detached.is_set()
    assert await raw.reader.read() == b""
    await raw.close()
