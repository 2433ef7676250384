"""The line to the guest is cut at every byte, the host vanishes at every byte: nothing is lost, nothing doubled."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hypercontainer.agent.client import AgentClient
from hypercontainer.agent.messages import ExitEvent
from hypercontainer.agent.streams import OutputStream
from hypercontainer.errors import HyperError
from hypercontainer.testing.cutter import Cut, Cutter, Direction
from hypercontainer.testing.fake_agent import FakeAgent
from hypercontainer.testing.fake_process import FakeProcess, pattern

DIRECTIONS: list[Direction] = ["to guest", "to host"]
STATUS = 7


async def upper(process: FakeProcess) -> int:
    """Echo stdin in capitals, count it on stderr."""
    count = 0
    while data := await process.read(5000):
        count += len(data)
        await process.write(data.upper())
        await process.write(b"." * len(data), to=2)
    return STATUS


@dataclass
class Heard:
    """What a host process has written down: its logs, and exits."""

    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    exits: list[ExitEvent] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def exited(self, event: ExitEvent) -> None:
        self.exits.append(event)
        self.ended.set()


async def log(stream: OutputStream, to: bytearray) -> None:
    while data := await stream.read():
        to += data
        stream.consumed(len(data))


@asynccontextmanager
async def line(folder: Path, *cuts: Cut) -> AsyncIterator[tuple[FakeAgent, Cutter]]:
    """An agent at folder/"agent", and the way to it at folder/"cut"."""
    for name in ("agent", "cut"):
        (folder / name).unlink(missing_ok=True)
    agent = FakeAgent({"upper": upper, **FakeAgent().programs})
    agent.add_container("c")
    await agent.serve(folder / "agent")
    cutter = Cutter(folder / "agent", cuts)
    await cutter.serve(folder / "cut")
    try:
        yield agent, cutter
    finally:
        await cutter.close()
        await agent.close()


async def converse(client: AgentClient, stdin: bytes, heard: Heard) -> None:
    """Start a process, feed it, take all it says, forget it."""
    client.on_exit = heard.exited
    first = client.new_streams(3)
    streams = {"stdin": first, "stdout": first + 1, "stderr": first + 2}
    await client.call("process.start", id="p", container="c", args=["upper"], streams=streams)
    outputs = [client.output(first + 1), client.output(first + 2)]

    async def feed() -> None:
        stream = client.input(first)
        await stream.write(stdin)
        stream.close()
        await stream.drained()

    await asyncio.gather(feed(), log(outputs[0], heard.stdout), log(outputs[1], heard.stderr), heard.ended.wait())
    await client.forget_process("p")


async def whole_conversation(folder: Path, stdin: bytes, *cuts: Cut) -> Cutter:
    async with line(folder, *cuts) as (agent, cutter), asyncio.timeout(60):
        client = await AgentClient.connect(folder / "cut", timeout_s=50)
        heard = Heard()
        await converse(client, stdin, heard)
        listing = await client.list()
        await client.close()
        assert heard.stdout == stdin.upper()
        assert heard.stderr == b"." * len(stdin)
        assert [event.status for event in heard.exits] == [STATUS]
        assert listing.processes == []
        asked = [op for op, _ in agent.requests]
        assert asked == ["list", "process.start", "process.forget", "list"]  # each once
        return cutter


@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_a_conversation_cut_at_every_byte_is_the_same(tmp_path: Path, direction: Direction) -> None:
    stdin = b"some words for the process"
    uncut = await whole_conversation(tmp_path, stdin)
    for count in range(uncut.passed[direction]):
        cutter = await whole_conversation(tmp_path, stdin, Cut(direction, count))
        assert cutter.cut.is_set()


@pytest.mark.parametrize("seed", range(40))
async def test_a_long_conversation_cut_at_many_places_is_the_same(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    cuts = [Cut(dice.choice(DIRECTIONS), dice.choice([300, 3000, 30_000]) + dice.randrange(3000)) for _ in range(8)]
    await whole_conversation(tmp_path, dice.randbytes(300_000), *cuts)


async def test_a_line_cut_before_its_first_hello_is_made_again(tmp_path: Path) -> None:
    await whole_conversation(tmp_path, b"x", *[Cut("to guest", 0)] * 4, *[Cut("to host", 0)] * 4)


async def spew(client: AgentClient, size: int, heard: Heard) -> None:
    """What a host process does until it vanishes."""
    client.on_exit = heard.exited
    first = client.new_streams(2)
    streams = {"stdout": first, "stderr": first + 1}
    await client.call("process.start", id="p", container="c", args=["spew", f"{size}", "9", "3"], streams=streams)
    await asyncio.gather(log(client.output(first), heard.stdout), log(client.output(first + 1), heard.stderr))


async def first_life(folder: Path, size: int, heard: Heard, cutter: Cutter) -> None:
    """A host process that dies when its line is cut."""
    client = await AgentClient.connect(folder / "cut", timeout_s=50)
    try:
        await spew(client, size, heard)
        await heard.ended.wait()
    finally:
        await client.close()


async def second_life(folder: Path, size: int, heard: Heard) -> int:
    """Its successor: goes on where the logs end, and learns the exit status."""
    client = await AgentClient.connect(folder / "agent", timeout_s=50)
    known = client.known.processes
    if not known:  # it was never started
        await spew(client, size, heard)
        await heard.ended.wait()
        await client.close()
        return heard.exits[-1].status
    client.on_exit = heard.exited
    [process] = known
    outputs = [
        client.output(process.streams.stdout, len(heard.stdout)),
        client.output(process.streams.stderr, len(heard.stderr)),
    ]
    await asyncio.gather(log(outputs[0], heard.stdout), log(outputs[1], heard.stderr))
    if process.running:
        await heard.ended.wait()
    assert [output.missed for output in outputs] == [0, 0]
    await client.close()
    return heard.exits[-1].status if process.running else process.status


async def two_lives(folder: Path, size: int, *cuts: Cut) -> Cutter:
    async with line(folder, *cuts) as (_, cutter), asyncio.timeout(60):
        before, heard = Heard(), Heard()
        life = asyncio.create_task(first_life(folder, size, before, cutter))
        death = asyncio.create_task(cutter.cut.wait())
        await asyncio.wait([life, death], return_when=asyncio.FIRST_COMPLETED)
        for task in (life, death):
            task.cancel()
        ends = await asyncio.gather(life, death, return_exceptions=True)
        assert ends[0] is None or isinstance(ends[0], asyncio.CancelledError | HyperError), ends
        heard.stdout, heard.stderr = before.stdout, before.stderr
        assert await second_life(folder, size, heard) == 3
        assert heard.stdout == pattern(size)
        assert heard.stderr == pattern(9)
        return cutter


@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_a_host_that_vanished_at_any_byte_is_succeeded_without_loss(tmp_path: Path, direction: Direction) -> None:
    uncut = await two_lives(tmp_path, 20)
    for count in range(uncut.passed[direction]):
        assert (await two_lives(tmp_path, 20, Cut(direction, count))).cut.is_set()


@pytest.mark.parametrize("seed", range(40))
async def test_a_host_that_vanished_amid_much_output_is_succeeded_without_loss(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    await two_lives(tmp_path, 600_000, Cut(dice.choice(DIRECTIONS), dice.choice([1000, 10_000]) + dice.randrange(9000)))


async def test_input_goes_on_in_a_new_session_where_the_guest_had_consumed_it(
    agent: FakeAgent, client: AgentClient, tmp_path: Path
) -> None:
    got: list[bytes] = []
    more = asyncio.Event()

    async def three_then_all(process: FakeProcess) -> int:
        got.append(await process.read(3))
        await more.wait()
        while data := await process.read():
            got.append(data)
        return 0

    agent.programs["slow"] = three_then_all
    streams = {"stdin": client.new_streams(1)}
    await client.call("process.start", id="p", container="c", args=["slow"], streams=streams)
    await client.input(streams["stdin"]).write(b"abcdef")
    await client.ping()
    await client.close()
    async with asyncio.timeout(60):
        other = await AgentClient.connect(tmp_path / "agent", timeout_s=10)
        exited = asyncio.Event()
        other.on_exit = lambda event: exited.set()
        stdin = other.input(other.known.processes[0].streams.stdin)
        await stdin.write(b"DEF")
        stdin.close()
        more.set()
        await exited.wait()
        await other.close()
    assert b"".join(got) == b"abcDEF"


async def test_a_stopped_stream_stays_stopped_after_a_break(agent: FakeAgent, client: AgentClient) -> None:
    first = client.new_streams(1)
    agent.unanswered.add("ping")
    await client.call("process.start", id="p", container="c", args=["spew", "9000000"], streams={"stdout": first})
    exited = asyncio.Event()
    client.on_exit = lambda event: exited.set()
    agent.drop_connection()
    client.stop(first)  # while nobody listens
    async with asyncio.timeout(60):
        await exited.wait()


async def test_a_guest_that_forgot_the_conversation_ends_it(agent: FakeAgent, client: AgentClient) -> None:
    agent.forget_session()
    agent.drop_connection()
    async with asyncio.timeout(60):
        assert "another conversation" in str(await client.ended())


async def test_an_exit_heard_before_anybody_listens_is_told_later(agent: FakeAgent, client: AgentClient) -> None:
    await client.call("process.start", id="p", container="c", args=["true"])
    await client.ping()
    heard = Heard()
    client.on_exit = heard.exited
    async with asyncio.timeout(60):
        await heard.ended.wait()
