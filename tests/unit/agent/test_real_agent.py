"""The client against hyperstart itself, run as an ordinary process: the same promises, the real peer."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hypercontainer.agent import messages as m
from hypercontainer.agent.client import AgentClient
from hypercontainer.agent.streams import OutputStream
from hypercontainer.errors import GuestError
from hypercontainer.testing.cutter import Cut, Cutter, Direction
from tests.unit.guest.conftest import Guest, hyperstart, lower

__all__ = ["hyperstart", "lower"]  # fixtures

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="hyperstart makes namespaces and mounts: run as root")

DIRECTIONS: list[Direction] = ["to guest", "to host"]
LIMIT_S = 30.0
SPEW = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; echo done >&2; exit 3"
SPOKEN = b"".join(b"line %d\n" % i for i in range(20000))


@pytest.fixture(scope="module")
def guest(hyperstart: Path, lower: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """With a container c1 whose first process sleeps, and no host."""
    guest = Guest(hyperstart, tmp_path_factory.mktemp("guest"), lower)
    guest.container()
    guest.first()
    guest.host.close()
    yield guest
    guest.close()


@asynccontextmanager
async def dialled(path: Path) -> AsyncIterator[AgentClient]:
    client = await AgentClient.connect(path, timeout_s=LIMIT_S)
    try:
        async with asyncio.timeout(LIMIT_S):
            yield client
    finally:
        await client.close()


@pytest.fixture
async def client(guest: Guest) -> AsyncIterator[AgentClient]:
    async with dialled(guest.path) as client:
        yield client


async def read_all(stream: OutputStream, into: bytearray) -> None:
    while data := await stream.read():
        into += data
        stream.consumed(len(data))


async def start(client: AgentClient, name: str, *words: str, stdin: bool = False) -> m.StreamSet:
    first = client.new_streams(3)
    streams = m.StreamSet(stdin=first if stdin else 0, stdout=first + 1, stderr=first + 2)
    await client.start_process(
        m.ProcessStart(id=name, container="c1", args=list(words), env=["PATH=/bin"], streams=streams)
    )  # fmt: skip
    return streams


def exit_of(client: AgentClient, name: str) -> "asyncio.Future[int]":
    status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    client.on_exit = lambda event: status.set_result(event.status) if event.process == name else None
    return status


async def converse(client: AgentClient, name: str, stdin: bytes) -> tuple[bytes, int]:
    """`cat` in the container, its end, and forgetting it."""
    ended = exit_of(client, name)
    streams = await start(client, name, "cat", stdin=True)
    said = bytearray()

    async def feed() -> None:
        stream = client.input(streams.stdin)
        await stream.write(stdin)
        stream.close()

    await asyncio.gather(feed(), read_all(client.output(streams.stdout), said))
    status = await ended
    await client.forget_process(name)
    return bytes(said), status


async def test_every_answer_has_the_shape_that_we_expect(client: AgentClient) -> None:
    await client.ping()
    assert (await client.info()).memory_total_kib > 0
    listing = await client.list()
    assert [(p.id, p.running) for p in listing.processes] == [("first", True)]
    assert (await client.container_stats("c1")).cpu_usec > 0
    assert [row.command for row in (await client.container_processes("c1")).processes] == ["sleep 1000"]
    await client.freeze_container("c1", True)
    await client.freeze_container("c1", False)
    with pytest.raises(GuestError, match=r"^cannot ") as refused:
        await client.signal_process("nobody", 15)
    assert refused.value.errno == 3
    with pytest.raises(GuestError) as refused:
        await client.call("nonsense")
    assert refused.value.errno in (22, 38)


async def test_a_start_that_fails_has_execs_errno(client: AgentClient) -> None:
    with pytest.raises(GuestError) as refused:
        await start(client, "no", "/bin/nosuch")
    assert refused.value.errno == 2


async def test_files_travel_as_archives(client: AgentClient) -> None:
    first = client.new_streams(2)
    streams = m.StreamSet(stdout=first, stderr=first + 1)
    ended = exit_of(client, "pack")
    await client.start_archive(
        m.ProcessArchive(id="pack", container="c1", mode="read", path="/data/file", streams=streams)
    )
    said = bytearray()
    await read_all(client.output(first), said)
    assert b"of the image\n" in said
    assert await ended == 0
    await client.forget_process("pack")


async def test_signals_are_128_and_n(client: AgentClient) -> None:
    ended = exit_of(client, "sleeper")
    await start(client, "sleeper", "sleep", "1000")
    await client.signal_process("sleeper", 15)
    assert await ended == 128 + 15
    await client.forget_process("sleeper")


async def test_a_megabyte_each_way(client: AgentClient) -> None:
    data = random.Random(1).randbytes(1 << 20)
    assert await converse(client, "cat", data) == (data, 0)


@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_a_conversation_cut_at_any_byte_is_the_same(guest: Guest, tmp_path: Path, direction: Direction) -> None:
    async def talk(name: str, *cuts: Cut) -> Cutter:
        (tmp_path / "cut").unlink(missing_ok=True)
        cutter = Cutter(guest.path, cuts)
        await cutter.serve(tmp_path / "cut")
        try:
            async with dialled(tmp_path / "cut") as client:
                assert await converse(client, name, b"some words") == (b"some words", 0)
                assert [p.id for p in (await client.list()).processes] == ["first"]
        finally:
            await cutter.close()
        return cutter

    uncut = await talk("uncut")
    for count in range(0, uncut.passed[direction], 7):
        assert (await talk(f"cut{count}", Cut(direction, count))).cut.is_set()


@pytest.mark.parametrize("seed", range(10))
async def test_a_long_conversation_cut_at_many_places_is_the_same(guest: Guest, tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    cuts = [Cut(dice.choice(DIRECTIONS), dice.choice([300, 3000, 30_000]) + dice.randrange(3000)) for _ in range(8)]
    data = dice.randbytes(300_000)
    cutter = Cutter(guest.path, cuts)
    await cutter.serve(tmp_path / "cut")
    async with dialled(tmp_path / "cut") as client:
        assert await converse(client, f"long{seed}", data) == (data, 0)
    await cutter.close()


@pytest.mark.parametrize("seed", range(10))
async def test_a_host_that_vanished_is_succeeded_without_loss(guest: Guest, tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    name = f"spew{seed}"
    cutter = Cutter(guest.path, [Cut("to host", 3000 + dice.randrange(150_000))])
    await cutter.serve(tmp_path / "cut")
    out, err = bytearray(), bytearray()
    first = await AgentClient.connect(tmp_path / "cut", timeout_s=LIMIT_S)
    streams = await start(first, name, "sh", "-c", SPEW)
    reading = asyncio.create_task(read_all(first.output(streams.stdout), out))
    async with asyncio.timeout(LIMIT_S):
        await cutter.cut.wait()
    reading.cancel()
    await first.close()
    await cutter.close()
    async with dialled(guest.path) as client:
        [process] = [p for p in client.known.processes if p.id == name]
        ended = exit_of(client, name)
        outputs = client.output(streams.stdout, len(out)), client.output(streams.stderr)
        await asyncio.gather(read_all(outputs[0], out), read_all(outputs[1], err))
        assert (bytes(out), bytes(err)) == (SPOKEN, b"done\n")
        assert (await ended if process.running else process.status) == 3
        assert outputs[0].missed == 0
    async with dialled(guest.path) as client:  # a third host: EOF is still there to be read
        again = client.output(streams.stdout, len(SPOKEN))
        assert await again.read() == b""
        await client.forget_process(name)
