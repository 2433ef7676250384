"""A guest that lies, floods or says nothing: no call hangs, nothing but our errors is raised, memory is bounded."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from hypercontainer.agent.client import AgentClient
from hypercontainer.agent.control import MAX_LINE, MAX_REQUESTS
from hypercontainer.agent.processes import MAX_STRAYS
from hypercontainer.agent.wire import HEADER, HELLO_STREAM, MAX_PAYLOAD, WINDOW, Decoder, Kind, WireError, encode
from hypercontainer.errors import GuestError, GuestSilent, HyperError
from hypercontainer.testing.fake_agent import FakeAgent
from hypercontainer.testing.fake_process import FakeProcess, Refused

LISTING = b'{"id":1,"result":{"pod":false,"containers":[],"processes":[],"next_stream":5}}\n'
SOON_S = 0.2  # for what never comes
PATIENT_S = 300.0  # for what comes at once: a test that waits so long has failed
BOUND = 2 << 20  # bytes that an attack of any size may cost, those under way in the liar included

Say = Callable[[bytes], Awaitable[None]]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Attack = Callable[[Say], Awaitable[None]]


class Liar:
    """Answers HELLO and `list`; from then on, at the next byte that comes, does what the test says."""

    def __init__(self, attack: Attack) -> None:
        self._attack = attack
        self.said = len(LISTING)  # offset of stream 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        try:
            nonce, session = await next_hello(reader)
            await say(answered(nonce, session) + encode(Kind.ACK, 0, 0) + encode(Kind.DATA, 0, 0, LISTING))
            await reader.readuntil(b'"list"')
            await reader.readuntil(b'"ping"')
            await self._attack(say)
            await reader.read()  # until the host has had enough
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def next_hello(reader: asyncio.StreamReader) -> tuple[int, str]:
    decoder = Decoder()
    while data := await reader.read(1):  # no more than HELLO
        for frame in decoder.feed(data):
            return frame.offset, msgspec.json.decode(frame.payload)["session"]
    raise ConnectionError("the host is gone")


def answered(nonce: int, session: str, version: int = 1) -> bytes:
    payload = msgspec.json.encode({"version": version, "session": session, "resumed": False})
    return encode(Kind.HELLO, HELLO_STREAM, nonce, payload)


@asynccontextmanager
async def serving(
    folder: Path, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
) -> AsyncIterator[Path]:
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(accept, folder / "agent")
    try:
        yield folder / "agent"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def lied_to(folder: Path, attack: Attack) -> AsyncIterator[AgentClient]:
    async with serving(folder, Liar(attack).serve) as socket:
        client = await AgentClient.connect(socket, timeout_s=PATIENT_S)
        try:
            yield client
        finally:
            await client.close()


def line(text: bytes) -> bytes:
    """`text` as the next of stream 0, in frames."""
    pieces = range(0, len(text), MAX_PAYLOAD)
    return b"".join(encode(Kind.DATA, 0, len(LISTING) + at, text[at : at + MAX_PAYLOAD]) for at in pieces)


BREACHES = {
    "an unknown kind": HEADER.pack(9, 0, 0, 1, 0),
    "flags": HEADER.pack(3, 1, 0, 1, 0),
    "a length beyond the bound": HEADER.pack(2, 0, 0xFFFF, 1, 0),
    "an ACK with a payload": HEADER.pack(3, 0, 9, 1, 0),
    "a wrong end": HEADER.pack(2, 0, 1, 1, 0) + b"xy",
    "HELLO once more": answered(1, "x"),
    "DATA on a stream that was not given out": encode(Kind.DATA, 5, 0, b"x"),
    "EOF on a stream that was not given out": encode(Kind.EOF, 2**32 - 1, 0),
    "an ACK of a stream that was not given out": encode(Kind.ACK, 77, 0),
    "a STOP of a stream that was not given out": encode(Kind.STOP, 77, 0),
    "STOP of stream 0": encode(Kind.STOP, 0, 0),
    "EOF of stream 0": encode(Kind.EOF, 0, len(LISTING)),
    "a gap": encode(Kind.DATA, 0, len(LISTING) + 1, b"x"),
    "the last offset": encode(Kind.DATA, 0, 2**64 - 1, b"x"),
    "an answer to nobody": line(b'{"id":99,"result":{}}\n'),
    "an answer to the future": line(b'{"id":4,"result":{}}\n'),
    "an answer twice": line(b'{"id":2,"result":{}}\n{"id":2,"result":{}}\n'),
    "an answer without a body": line(b'{"id":2}\n'),
    "an answer with two": line(b'{"id":2,"result":{},"error":{"errno":1,"message":""}}\n'),
    "an error of another shape": line(b'{"id":2,"error":"no"}\n'),
    "an errno beyond the bound": line(b'{"id":2,"error":{"errno":999999,"message":""}}\n'),
    "a negative id": line(b'{"id":-1,"result":{}}\n'),
    "an id with a fraction": line(b'{"id":2.5,"result":{}}\n'),
    "an id that is a word": line(b'{"id":"2","result":{}}\n'),
    "an endless number": line(b'{"id":' + b"9" * 100_000 + b',"result":{}}\n'),
    "an endless float": line(b'{"id":1e999999999,"result":{}}\n'),
    "an unknown event": line(b'{"event":"tea","process":"p","status":0}\n'),
    "an event without a process": line(b'{"event":"exit","status":0}\n'),
    "an event without a status": line(b'{"event":"exit","process":"p"}\n'),
    "a status beyond the bound": line(b'{"event":"exit","process":"p","status":256,"oom":false}\n'),
    "a process that is a path": line(b'{"event":"exit","process":"../p","status":0,"oom":false}\n'),
    "a connection to nothing": line(b'{"event":"connection","container":"c"}\n'),
    "a connection in a path": line(b'{"event":"connection","container":"../c","target":"/s"}\n'),
    "a connection to an endless path": line(
        b'{"event":"connection","container":"c","target":"' + b"x" * 4097 + b'"}\n'
    ),
    "no JSON": line(b"hello\n"),
    "an empty line": line(b"\n"),
    "an array": line(b"[]\n"),
    "a number": line(b"1\n"),
    "half an object": line(b'{"id":2,"result":{\n'),
    "zeros in JSON": line(b'{"id":2,\0"result":{}}\n'),
    "no UTF-8": line(b'{"event":"\xff\xfe"}\n'),
    "a surrogate alone": line(b'{"id":2,"result":{"x":"\\ud800"}}\n'),
    "deep nesting": line(b'{"id":2,"result":' + b"[" * 200_000 + b"]" * 200_000 + b"}\n"),
    "an endless line": line(b"x" * (MAX_LINE + 1)),
    "a flood of exits": line(b'{"event":"exit","process":"p","status":0,"oom":false}\n' * (MAX_STRAYS + 1)),
}


@pytest.mark.parametrize("name", BREACHES)
async def test_a_breach_ends_the_conversation_with_wire_error(tmp_path: Path, name: str) -> None:
    async with lied_to(tmp_path, lambda say: say(BREACHES[name])) as client:
        stream = client.output(4)
        calls = [client.ping(timeout_s=PATIENT_S), client.call("ping", timeout_s=PATIENT_S), stream.read()]
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(await client.ended(), WireError)
        assert all(isinstance(end, WireError) for end in ends[1:]), ends
        assert ends[0] is None or isinstance(ends[0], WireError)
        with pytest.raises(WireError):
            await client.ping()
        with pytest.raises(WireError):
            await client.output(1).read()
        with pytest.raises(WireError):
            await client.input(2).write(b"x")
    assert len(str(ends[1])) < 1000
    assert str(ends[1]).isprintable()


STRAY = b'{"event":"exit","process":"nobody","status":0,"oom":false}\n'
NEWER = b'{"event":"exit","process":"nobody","status":0,"oom":false,"when":1}\n'
KNOCKS = b'{"event":"connection","container":"c","target":"/s"}\n' * 10_000
SAID = {"an exit of nobody": STRAY, "a key of a newer guest": NEWER, "thousands of connections": KNOCKS}
HARMLESS = {
    "zeros": bytes(100_000),
    "an ACK beyond what was sent": encode(Kind.ACK, 0, 2**64 - 1) * 1000,
    "ACKs of a stream of ours that is closed": encode(Kind.ACK, 1, 2**63) * 1000,
    "DATA for a stream that is closed": encode(Kind.DATA, 4, 12345, b"x" * 1000) * 100,
    "what was said before": encode(Kind.DATA, 0, 0, LISTING) * 100,
    "DATA without bytes": encode(Kind.DATA, 0, len(LISTING)) * 1000,
    "a key of a newer guest": line(NEWER),
    "thousands of connections": line(KNOCKS),
    "an exit of nobody": line(STRAY) + encode(Kind.DATA, 0, len(LISTING), STRAY),
}


@pytest.mark.parametrize("name", HARMLESS)
async def test_what_an_honest_guest_might_bring_harms_nothing(tmp_path: Path, name: str) -> None:
    answer = b'{"id":2,"result":{}}\n'
    at = len(LISTING) + len(SAID.get(name, b""))
    async with lied_to(tmp_path, lambda say: say(HARMLESS[name] + encode(Kind.DATA, 0, at, answer))) as client:
        await client.ping(timeout_s=PATIENT_S)


FLOODS = {
    "zeros": bytes(4096),
    "ACKs": encode(Kind.ACK, 0, 1),
    "STOPs": encode(Kind.STOP, 3, 0),
    "DATA for a closed stream": encode(Kind.DATA, 3, 0, bytes(20_000)),
    "a stream that was stopped": encode(Kind.DATA, 4, 0, bytes(20_000)),
    "what was said before": encode(Kind.DATA, 0, 0, LISTING),
    "one byte again and again": encode(Kind.DATA, 0, len(LISTING), b" "),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_costs_a_bounded_amount_of_memory(tmp_path: Path, name: str) -> None:
    piece = FLOODS[name] * (1 + 300_000 // len(FLOODS[name]))

    async def flood(say: Say) -> None:
        for _ in range(100 if len(FLOODS[name]) > 1000 else 2):  # by bytes; by frames, each of which might leave some
            await say(piece)
        await say(b"\xff" * HEADER.size)  # the end

    async with lied_to(tmp_path, flood) as client:
        client.stop(4)
        tracemalloc.start()
        with pytest.raises(WireError, match="kind 255"):
            await client.ping(timeout_s=PATIENT_S)
        assert tracemalloc.get_traced_memory()[1] < BOUND
        tracemalloc.stop()


async def test_an_unread_stream_holds_no_more_than_its_window(tmp_path: Path) -> None:
    async def attack(say: Say) -> None:
        await say(b"".join(encode(Kind.DATA, 4, at, b"x" * 8) for at in range(0, WINDOW + 1, 8)))

    async with lied_to(tmp_path, attack) as client:
        stream = client.output(4)
        tracemalloc.start()
        with pytest.raises(WireError, match="more than it may"):
            await client.ping(timeout_s=PATIENT_S)
        assert tracemalloc.get_traced_memory()[0] < 2 << 20
        tracemalloc.stop()
        assert await stream.read() == b"x" * WINDOW
        with pytest.raises(WireError):
            await stream.read()


async def test_a_guest_that_speaks_of_endless_streams_before_its_list_is_refused(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answered(*await next_hello(reader)))
        writer.write(b"".join(encode(Kind.ACK, number, 0) for number in range(1, 5000)))
        await reader.read()

    async with serving(tmp_path, serve) as socket:
        with pytest.raises(WireError, match="more than 3072 streams"):
            await AgentClient.connect(socket, timeout_s=PATIENT_S)


@pytest.mark.parametrize(
    "listing",
    [
        b'{"pod":false}',
        b'{"pod":false,"containers":[],"processes":[],"next_stream":0}',
        b'{"pod":false,"containers":[],"processes":[],"next_stream":99999999999}',
        b'{"pod":false,"containers":[{"id":"a/b","created":true}],"processes":[],"next_stream":1}',
        b'{"pod":false,"containers":[],"processes":[{"id":"p","container":"c","pid":1,"running":true,"status":0,'
        b'"oom":false,"tty":false,"streams":{"stdin":9,"stdout":0,"stderr":0}}],"next_stream":9}',
        b'{"pod":false,"containers":[{"id":"\xff","created":true}],"processes":[],"next_stream":1}',
        b"[" * 10_000 + b"]" * 10_000,
        b"[]",
        b"null",
    ],
)
async def test_a_list_that_makes_no_sense_is_refused(tmp_path: Path, listing: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonce, session = await next_hello(reader)
        writer.write(answered(nonce, session) + encode(Kind.DATA, 0, 0, b'{"id":1,"result":' + listing + b"}\n"))
        await reader.read()

    async with serving(tmp_path, serve) as socket:
        with pytest.raises(WireError):
            await AgentClient.connect(socket, timeout_s=PATIENT_S)


def said(data: Callable[[int, str], bytes]) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data(*await next_hello(reader)))
        await reader.read()

    return serve


def shouted(payload: bytes) -> Callable[[int, str], bytes]:
    return lambda nonce, session: encode(Kind.HELLO, HELLO_STREAM, nonce, payload)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (lambda nonce, session: answered(nonce, session, 2), "speaks version 2, we speak 1"),
        (lambda nonce, session: answered(nonce, session, 2**63), "cannot understand"),
        (lambda nonce, session: answered(nonce, "f" * 32), "another conversation"),
        (shouted(b""), "cannot understand"),
        (shouted(b"\xff" * 30), "cannot understand"),
        (shouted(b"[" * 32768), "cannot understand"),
        (shouted(b'{"version":true}'), "cannot understand"),
    ],
)
async def test_a_hello_that_makes_no_sense_is_refused(
    tmp_path: Path, data: Callable[[int, str], bytes], words: str
) -> None:
    async with serving(tmp_path, said(data)) as socket:
        with pytest.raises(WireError, match=words):
            await AgentClient.connect(socket, timeout_s=PATIENT_S)


@pytest.mark.parametrize(
    "data",
    [
        lambda nonce, session: b"",
        lambda nonce, session: answered(nonce, session)[:-1],
        lambda nonce, session: answered(nonce, session)[:20],
        lambda nonce, session: answered(nonce ^ 1, session),
        lambda nonce, session: answered(nonce, session),  # and then silence
        lambda nonce, session: b"[    0.000000] Linux version" * 10_000,
    ],
    ids=["silence", "all but the last byte", "half a HELLO", "another nonce", "HELLO and no more", "a console"],
)
async def test_an_agent_that_does_not_answer_is_silent(tmp_path: Path, data: Callable[[int, str], bytes]) -> None:
    async with serving(tmp_path, said(data)) as socket:
        with pytest.raises(GuestSilent, match=r"did not answer within 0\.2 s"):
            await AgentClient.connect(socket, timeout_s=SOON_S)


async def test_bytes_forever_without_hello_are_silence_too(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HYPR" * 10_000)
            await writer.drain()

    tracemalloc.start()
    async with serving(tmp_path, serve) as socket:
        with pytest.raises(GuestSilent):
            await AgentClient.connect(socket, timeout_s=SOON_S)
    assert tracemalloc.get_traced_memory()[1] < BOUND
    tracemalloc.stop()


@pytest.mark.parametrize("there", [False, True], ids=["no socket", "a door that closes"])
async def test_a_socket_that_never_serves_is_silence(tmp_path: Path, there: bool) -> None:
    visits = 0

    async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal visits
        visits += 1

    async with serving(tmp_path, slam) as socket:
        with pytest.raises(GuestSilent):
            await AgentClient.connect(socket if there else tmp_path / "none", timeout_s=SOON_S)
    assert visits < 10  # the back-off grows


async def test_unanswered_requests_are_bounded_and_so_is_every_wait(agent: FakeAgent, client: AgentClient) -> None:
    agent.unanswered.add("ping")
    calls = [client.ping(timeout_s=SOON_S) for _ in range(2 * MAX_REQUESTS)]
    assert {type(end) for end in await asyncio.gather(*calls, return_exceptions=True)} == {GuestSilent}
    assert [op for op, _ in agent.requests].count("ping") == MAX_REQUESTS


async def test_a_late_answer_makes_room_for_the_next_request(agent: FakeAgent, client: AgentClient) -> None:
    agent.pause(True)
    calls = [client.ping(timeout_s=SOON_S) for _ in range(MAX_REQUESTS)]
    await asyncio.gather(*calls, return_exceptions=True)
    agent.pause(False)
    await client.ping(timeout_s=PATIENT_S)


async def test_an_answer_of_another_shape_harms_its_caller_only(agent: FakeAgent, client: AgentClient) -> None:
    deep: object = {}
    for _ in range(20):
        deep = {"x": deep}
    for answer in ([1], {"kernel": 1}, 7, None, "x", deep):
        agent.answers["info"] = lambda args, answer=answer: answer  # type: ignore[misc]
        with pytest.raises(WireError, match="answer to info"):
            await client.info()
    with pytest.raises(WireError, match="16 deep"):
        agent.answers["info"] = lambda args: deep
        await client.call("info")
    agent.answers["info"] = lambda args: {"a": {"b": [1]}}
    assert await client.call("info") == {"a": {"b": [1]}}


async def test_the_guests_words_are_made_harmless(agent: FakeAgent, client: AgentClient) -> None:
    def refuse(args: object) -> object:
        raise Refused(13, "open \x1b[31m/etc\r\n\x07" + "x" * 100_000)

    agent.answers["ping"] = refuse
    with pytest.raises(GuestError, match=r"^cannot open ") as refused:
        await client.ping()
    assert refused.value.errno == 13
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1100


async def test_a_start_that_failed_leaves_nothing_and_its_name_is_free(agent: FakeAgent, client: AgentClient) -> None:
    first = client.new_streams(2)
    streams = {"stdin": first, "stdout": first + 1}
    output, stdin = client.output(first + 1), client.input(first)
    with pytest.raises(GuestError) as refused:
        await client.call("process.start", id="p", container="c", args=["nosuch"], streams=streams)
    assert refused.value.errno == 2
    assert await output.read() == b""
    with pytest.raises(BrokenPipeError):
        await stdin.write(b"x")
    await client.call("process.start", id="p", container="c", args=["true"])
    with pytest.raises(HyperError, match="there is one of that name"):
        await client.call("process.start", id="p", container="c", args=["true"])


async def test_requests_that_we_must_not_send_are_refused_here(agent: FakeAgent, client: AgentClient) -> None:
    with pytest.raises(HyperError, match="larger than 1 MiB"):
        await client.call("ping", x="y" * MAX_LINE)
    with pytest.raises(HyperError, match="cannot ask"):
        await client.call("process.start", id=7)
    await client.ping()
    assert [op for op, _ in agent.requests] == ["list", "ping"]


async def test_a_slow_reader_stalls_only_its_own_stream(agent: FakeAgent, client: AgentClient) -> None:
    first = client.new_streams(2)
    for number, name in ((first, "slow"), (first + 1, "fast")):
        await client.call("process.start", id=name, container="c", args=["spew", "2000000"], streams={"stdout": number})
    async with asyncio.timeout(PATIENT_S):
        count = 0
        while data := await client.output(first + 1).read():
            count += len(data)
            client.output(first + 1).consumed(len(data))
        await client.ping()
    assert count == 2_000_000
    assert len(await client.output(first).read()) == WINDOW


async def test_removing_a_container_ends_its_streams(agent: FakeAgent, client: AgentClient) -> None:
    first = client.new_streams(1)
    await client.call("process.start", id="p", container="c", args=["sleep"], streams={"stdout": first})
    reading = asyncio.create_task(client.output(first).read())
    await client.remove_container("c")
    assert await reading == b""


async def test_ten_megabytes_reach_a_slow_reader_whole(agent: FakeAgent, client: AgentClient) -> None:
    async def count(process: FakeProcess) -> int:
        size = 0
        while data := await process.read(1 << 16):
            size += len(data)
            await asyncio.sleep(0)
        await process.write(str(size).encode())
        return 0

    agent.programs["count"] = count
    first = client.new_streams(2)
    streams = {"stdin": first, "stdout": first + 1}
    await client.call("process.start", id="p", container="c", args=["count"], streams=streams)
    stdin = client.input(first)
    async with asyncio.timeout(PATIENT_S):
        await stdin.write(bytes(10_000_000))
        stdin.close()
        assert await client.output(first + 1).read() == b"10000000"
