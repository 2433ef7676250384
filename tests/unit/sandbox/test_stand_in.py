"""Stand-ins, the program itself: bytes both ways, over connections that break; signals, sizes, and the status."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.agent.streams import InputStream, Sender, Source
from hypercontainer.agent.wire import Decoder
from hypercontainer.agent.wire import Kind as WireKind
from hypercontainer.errors import InvalidInput
from hypercontainer.lib import stand_in as starter
from hypercontainer.model.record import ProcessRef, StandInRecord
from hypercontainer.sandbox.stand_in import Frame, Hello, Kind, StandIn, read_frame, read_hello

LIMIT_S = 60
BIG = bytes(range(256)) * 4000


class Nobody:
    def ready(self, stream: Source) -> None:
        pass


class FakeProcess:
    """One in a guest, as a stand-in is told of it."""

    def __init__(self) -> None:
        self.sender = Sender(1, Nobody())
        self.stdin: InputStream | None = InputStream(self.sender)
        self._decoder = Decoder(0)
        self._decoder.lost = False  # nobody greets here
        self.read = bytearray()
        self.ended = False
        self.start = asyncio.Event()
        self.exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.signals: asyncio.Queue[int] = asyncio.Queue()
        self.sizes: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self.hung_up: asyncio.Queue[int] = asyncio.Queue()

    async def begun(self) -> None:
        await self.start.wait()

    async def wait(self) -> int:
        return await asyncio.shield(self.exit)

    async def signal(self, number: int) -> None:
        self.signals.put_nowait(number)

    async def resize(self, rows: int, columns: int) -> None:
        self.sizes.put_nowait((rows, columns))

    async def hang_up(self, stream: int) -> None:
        self.hung_up.put_nowait(stream)

    def taken(self) -> bytes:
        """What has come to stdin, all that is there now too."""
        while data := self.sender.next_frame():
            for frame in self._decoder.feed(data):
                self.read += frame.payload
                self.ended |= frame.kind == WireKind.EOF
        self.sender.take_ack(self.sender.length + self.ended)
        return bytes(self.read)


class Deaf(asyncio.StreamWriter):
    """Nobody is told anything."""

    def __init__(self) -> None:
        pass

    def write(self, data: object) -> None:
        pass

    def close(self) -> None:
        pass

    def __del__(self) -> None:
        pass


class Hyperd:
    """Listens where stand-ins connect, for one of them."""

    def __init__(self, folder: Path) -> None:
        self.path, self.folder = folder / "socket", folder
        self.process = FakeProcess()
        self.sink: StandIn | None = None
        self.writers: list[asyncio.StreamWriter] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        hello = read_hello(await read_frame(reader))
        if self.sink is None:
            record = StandInRecord(key=hello.key, process=ProcessRef(pid=1, start_time=1))
            self.sink = StandIn(record, self.folder / "mark")
            self.sink.open(1)
        try:
            await self.sink.serve(reader, writer, hello, self.process)
        finally:
            writer.close()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        server = await asyncio.start_unix_server(self._serve, self.path)
        try:
            yield
        finally:
            server.close()
            for writer in self.writers:
                writer.close()
            self.path.unlink()


async def until(true: object) -> None:
    assert callable(true)
    async with asyncio.timeout(LIMIT_S):
        while not true():  # noqa: ASYNC110  of another process: there is nothing to wait for
            await asyncio.sleep(0.005)


async def status(pid: int) -> int:
    return os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, pid, 0))[1])


@pytest.fixture
async def hyperd(tmp_path: Path) -> Hyperd:
    return Hyperd(tmp_path)


@contextmanager
def started(hyperd: Hyperd, *words: str) -> Iterator[tuple[starter.StandIn, int, int]]:
    """One, with the other ends of its stdin and stdout; stderr goes where stdout goes."""
    given, stdin = os.pipe()
    stdout, taken = os.pipe()
    made = starter.start(str(hyperd.path), (given, taken, taken))
    os.close(given)
    os.close(taken)
    try:
        yield made, stdin, stdout
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(made.pid, signal.SIGKILL)
            os.waitpid(made.pid, 0)
        made.ours.close()
        os.close(stdout)


def everything(fd: int) -> bytes:
    return b"".join(iter(lambda: os.read(fd, 65536), b""))


async def test_bytes_go_both_ways_and_the_status_comes_last(hyperd: Hyperd) -> None:
    with started(hyperd) as (made, stdin, stdout):
        async with hyperd.listening():
            made.go()
            await until(lambda: hyperd.sink)
            hyperd.process.start.set()
            writing = asyncio.create_task(asyncio.to_thread(os.write, stdin, BIG[:100_000]))
            await until(lambda: len(hyperd.process.taken()) == 100_000)
            assert await writing == 100_000
            assert hyperd.process.taken() == BIG[:100_000]
            os.close(stdin)
            await until(lambda: hyperd.process.taken() and hyperd.process.ended)
            reading = asyncio.create_task(asyncio.to_thread(everything, stdout))
            assert hyperd.sink
            await hyperd.sink.write(1, BIG, 0)
            await hyperd.sink.write(2, b"last words", 0)
            assert hyperd.sink.offsets == (len(BIG), 10)
            hyperd.process.exit.set_result(7)
            assert await status(made.pid) == 7
            assert await reading == BIG + b"last words"


async def test_a_connection_that_breaks_loses_and_doubles_nothing(hyperd: Hyperd) -> None:
    with started(hyperd) as (made, stdin, stdout):
        made.go()
        reading = asyncio.create_task(asyncio.to_thread(everything, stdout))
        writing = asyncio.create_task(asyncio.to_thread(os.write, stdin, BIG[:200_000]))
        hyperd.process.start.set()
        telling: asyncio.Task[None] | None = None
        for part in range(4):
            async with hyperd.listening():
                before = len(hyperd.writers)
                await until(lambda before=before: len(hyperd.writers) > before and hyperd.sink)
                assert hyperd.sink
                telling = telling or asyncio.create_task(hyperd.sink.write(1, BIG, 0))
                wanted = min(200_000, 60_000 * (part + 1))
                await until(lambda wanted=wanted: len(hyperd.process.taken()) >= wanted)
        async with hyperd.listening():
            assert telling
            await telling
            await until(lambda: len(hyperd.process.taken()) == 200_000)
            assert hyperd.process.taken() == BIG[:200_000] and await writing == 200_000
            os.close(stdin)
            hyperd.process.exit.set_result(0)
            assert await status(made.pid) == 0
        assert await reading == BIG


async def test_a_reader_sees_the_end_of_a_stream_while_the_process_runs(hyperd: Hyperd) -> None:
    """Also when it is told on a later connection."""
    with started(hyperd) as (made, stdin, stdout):
        made.go()
        async with hyperd.listening():
            await until(lambda: hyperd.sink)
            assert hyperd.sink
            await hyperd.sink.write(1, b"first", 0)
            hyperd.sink.end(1)
            assert await asyncio.to_thread(os.read, stdout, 100) == b"first"
            await hyperd.sink.write(2, b"second", 0)  # which goes to the same pipe
            assert await asyncio.to_thread(os.read, stdout, 100) == b"second"
        hyperd.sink.end(2)
        async with hyperd.listening():
            assert await asyncio.to_thread(everything, stdout) == b""
            assert await asyncio.to_thread(os.waitpid, made.pid, os.WNOHANG) == (0, 0)
            hyperd.process.start.set()
            hyperd.process.exit.set_result(3)
            assert await status(made.pid) == 3
    os.close(stdin)


async def test_a_stand_in_that_knows_no_end_is_told_none(hyperd: Hyperd) -> None:
    class Telling(Deaf):
        told = b""

        def write(self, data: object) -> None:
            assert isinstance(data, bytes)
            self.told += data

    sink = StandIn(StandInRecord(key="k" * 32, process=ProcessRef(pid=1, start_time=1)), hyperd.folder / "mark")
    sink.open(1)
    sink.end(1)
    for knows in (0, 1):
        reader, writer = asyncio.StreamReader(), Telling()
        reader.feed_eof()
        await sink.serve(reader, writer, Hello("k" * 32, 0, 0, 0, knows), hyperd.process)
        assert writer.told == (Frame(Kind.END, 1, 0).encode() if knows else b"")


async def test_signals_reach_the_process(hyperd: Hyperd) -> None:
    with started(hyperd) as (made, stdin, _):
        async with hyperd.listening():
            made.go()
            await until(lambda: hyperd.sink)
            for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
                os.kill(made.pid, number)
                async with asyncio.timeout(LIMIT_S):
                    assert await hyperd.process.signals.get() == number
    os.close(stdin)


async def test_that_nobody_reads_is_told_and_told_again(hyperd: Hyperd) -> None:
    given, stdin = os.pipe()
    stdout, taken = os.pipe()
    made = starter.start(str(hyperd.path), (given, taken, taken))
    for fd in (given, taken, stdout):
        os.close(fd)
    async with asyncio.timeout(LIMIT_S):
        async with hyperd.listening():
            made.go()
            await until(lambda: hyperd.sink)
            assert hyperd.sink and hyperd.process.hung_up.empty()
            await hyperd.sink.write(1, BIG, 0)  # is taken, and goes nowhere
            assert await hyperd.process.hung_up.get() == 1
        async with hyperd.listening():
            assert await hyperd.process.hung_up.get() == 1
            await hyperd.sink.write(1, BIG, 0)
            hyperd.process.start.set()
            hyperd.process.exit.set_result(141)
            assert await status(made.pid) == 141
    os.close(stdin)


async def test_a_terminal_that_is_hung_up_is_no_signal(hyperd: Hyperd) -> None:
    master, slave = os.openpty()
    made = starter.start(str(hyperd.path), (slave, slave, slave), terminal=True)
    os.close(slave)
    async with asyncio.timeout(LIMIT_S), hyperd.listening():
        made.go()
        await until(lambda: hyperd.sink)
        hyperd.process.start.set()
        os.close(master)
        assert await hyperd.process.hung_up.get() == 1
        os.kill(made.pid, signal.SIGHUP)
        assert await hyperd.process.signals.get() == signal.SIGHUP
        assert hyperd.process.signals.empty()
        hyperd.process.exit.set_result(129)
        assert await status(made.pid) == 129


async def test_it_ends_when_its_starter_gives_up(hyperd: Hyperd) -> None:
    with started(hyperd) as (made, stdin, _):
        made.ours.close()
        assert await status(made.pid) == 1
    os.close(stdin)


@pytest.mark.parametrize(
    "said",
    [
        Frame(Kind.DATA, 0, 5, b"before what came"),
        Frame(Kind.END, 0, 9),
        Frame(Kind.SIGNAL, 0, 0),
        Frame(Kind.SIGNAL, 0, 65),
        Frame(Kind.ACK, 3, 0),
        Frame(Kind.EXIT, 0, 0),
        Frame(99, 0, 0),
    ],
)
async def test_a_caller_who_breaks_a_rule_is_not_heard_on(hyperd: Hyperd, tmp_path: Path, said: Frame) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(said.encode())
    reader.feed_eof()
    sink = StandIn(StandInRecord(key="k" * 32, process=ProcessRef(pid=1, start_time=1)), tmp_path / "mark")
    sink.open(1)
    with pytest.raises(InvalidInput):
        await sink.serve(reader, Deaf(), Hello("k" * 32, 0, 0, 0), hyperd.process)


@given(st.binary(max_size=200))
async def test_whatever_comes_first_is_a_hello_or_refused(data: bytes) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    with pytest.raises(InvalidInput):
        read_hello(await read_frame(reader))


async def test_what_is_taken_after_the_end_is_not_written_down(tmp_path: Path) -> None:
    """Its container may have been removed, with its folder, before the last was said."""
    folder = tmp_path / "container"
    record = StandInRecord(key="0" * 32, process=ProcessRef(pid=1, start_time=1))
    sink = StandIn(record, folder / "sinks/0")
    sink.begin(1, (0, 0))
    assert (folder / "sinks/0").exists()
    sink.close()
    shutil.rmtree(folder)
    reader = asyncio.StreamReader()
    reader.feed_data(Frame(Kind.ACK, 1, 7).encode())
    reader.feed_eof()
    await sink.serve(reader, Deaf(), Hello(record.key, 0, 5, 0), FakeProcess())
    assert sink.offsets == (7, 0) and not folder.exists()
