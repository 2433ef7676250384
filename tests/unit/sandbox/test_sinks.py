"""Where output goes: what is said of each kind holds, and a container's output reaches all of them, once."""

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hypercontainer.agent.streams import OutputStream, Receiver
from hypercontainer.agent.wire import WINDOW
from hypercontainer.errors import InvalidInput
from hypercontainer.lib import files
from hypercontainer.sandbox import output as output_module
from hypercontainer.sandbox.cri_log import LONGEST, CriLog
from hypercontainer.sandbox.log import Log, Reader, Wanted
from hypercontainer.sandbox.output import Listener, Output
from hypercontainer.sandbox.raw import Raw, name_of
from hypercontainer.sandbox.sink import UNWANTED, Mark, Position
from hypercontainer.testing.sink_contract import Make, SinkContract, Taken, give


class Killed(BaseException):
    """The process ended here."""


def logged(log: Log, stream: int) -> bytes:
    with closing(Reader(log, Wanted(frozenset({stream})))) as reader:
        return b"".join(entry.data for batch in reader.past() for entry in batch)


class TestLog(SinkContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        return lambda: Log(tmp_path, max_bytes=1 << 20, files=2)

    @pytest.fixture
    def taken(self, tmp_path: Path) -> Taken:
        def of(stream: int) -> bytes:
            return logged(Log(tmp_path, max_bytes=1, files=2), stream)

        return lambda: (of(1), of(2))


class TestListener(SinkContract):
    @pytest.fixture
    def listener(self) -> Listener:
        return Listener({1, 2})

    @pytest.fixture
    def make(self, listener: Listener) -> Make:
        return lambda: listener

    @pytest.fixture
    def taken(self, listener: Listener) -> Taken:
        got = {1: b"", 2: b""}

        async def read() -> None:
            async for stream, data in listener:
                got[stream] += data

        def all_of_it() -> tuple[bytes, bytes]:
            reader = threading.Thread(target=lambda: asyncio.run(read()))
            reader.start()
            reader.join()
            return got[1], got[2]

        return all_of_it


def cri_streams(rows: bytes) -> tuple[bytes, bytes]:
    """As the kubelet reads them."""
    got = {b"stdout": b"", b"stderr": b""}
    for row in rows.split(b"\n")[:-1]:
        time, stream, tag, content = row.split(b" ", 3)
        assert time.endswith(b"Z")
        assert len(content) <= LONGEST
        got[stream] += content + {b"F": b"\n", b"P": b""}[tag]
    return got[b"stdout"], got[b"stderr"]


def a_cri_log(folder: Path) -> CriLog:
    return CriLog(folder / "0.log", folder / "state" / "cri")


class TestCriLog(SinkContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        return lambda: a_cri_log(tmp_path)

    @pytest.fixture
    def taken(self, tmp_path: Path) -> Taken:
        def all_files() -> tuple[bytes, bytes]:
            older = sorted(path for path in tmp_path.glob("0.log.*"))
            return cri_streams(b"".join(path.read_bytes() for path in [*older, tmp_path / "0.log"] if path.exists()))

        return all_files

    async def test_its_rows_are_kubernetes(self, tmp_path: Path) -> None:
        log = a_cri_log(tmp_path)
        log.open(1)
        await give(log, 1, b"line\npart")
        await give(log, 2, b"\n")
        assert (tmp_path / "0.log").read_bytes() == (
            b"2016-10-06T00:09:17.669794202Z stdout F line\n"
            b"2016-10-06T00:09:17.669794202Z stdout P part\n"
            b"2016-10-06T00:09:17.669794202Z stderr F \n"
        )

    @pytest.mark.parametrize("length", [LONGEST - 1, LONGEST, LONGEST + 1, 3 * LONGEST])
    async def test_a_long_line_is_cut(self, tmp_path: Path, taken: Taken, length: int) -> None:
        log = a_cri_log(tmp_path)
        log.open(1)
        await give(log, 1, b"x" * length + b"\nnext")
        assert taken() == (b"x" * length + b"\nnext", b"")

    async def test_it_goes_on_in_a_new_file_when_it_is_opened_again(self, tmp_path: Path, taken: Taken) -> None:
        log = a_cri_log(tmp_path)
        log.open(1)
        await give(log, 1, b"first\n")
        (tmp_path / "0.log").rename(tmp_path / "0.log.1")
        await give(log, 1, b"renamed\n")
        log.reopen()
        assert (tmp_path / "0.log").read_bytes() == b""
        await give(log, 1, b"new\n")
        assert cri_streams((tmp_path / "0.log.1").read_bytes()) == (b"first\nrenamed\n", b"")
        assert taken() == (b"first\nrenamed\nnew\n", b"")
        log.close()
        (tmp_path / "0.log.1").unlink()
        assert a_cri_log(tmp_path).open(1) == (18, 0)

    @pytest.mark.parametrize("renamed", [False, True])
    @pytest.mark.parametrize("cut", range(0, 120, 7))
    async def test_a_write_that_a_sigkill_cut_goes_on(
        self, tmp_path: Path, taken: Taken, monkeypatch: pytest.MonkeyPatch, cut: int, renamed: bool
    ) -> None:
        def half(fd: int, data: bytes) -> None:
            os.write(fd, data[:cut])
            raise Killed

        log, data = a_cri_log(tmp_path), b"one\ntwo\nand a part"
        log.open(1)
        await give(log, 2, b"before\n")
        with monkeypatch.context() as m:
            m.setattr(files, "write", half)
            with pytest.raises(Killed):
                await give(log, 1, data)
        if renamed:
            (tmp_path / "0.log").rename(tmp_path / "0.log.20161006")
        again = a_cri_log(tmp_path)
        out, err = again.open(1)
        await give(again, 1, data[out:])
        assert (taken(), err) == ((data, b"before\n"), 7)

    async def test_a_full_disk_leaves_no_half_row(
        self, tmp_path: Path, taken: Taken, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(fd: int, data: bytes) -> None:
            os.write(fd, data[:9])
            raise OSError(errno.ENOSPC, "No space left on device")

        log = a_cri_log(tmp_path)
        log.open(1)
        with monkeypatch.context() as m:
            m.setattr(files, "write", full)
            with pytest.raises(OSError, match="No space"):
                await give(log, 1, b"a line\n")
        assert log.offsets == (0, 0)
        await give(log, 1, b"a line\n")
        assert taken() == (b"a line\n", b"")


class Pair:
    """Two Raw sinks as one, for what the contract says of both streams."""

    def __init__(self, folder: Path) -> None:
        self.where = str(folder)
        self.kinds = {n: Raw(folder / f"{n}", {n}, folder / f"position-{n}") for n in (1, 2)}

    @property
    def offsets(self) -> tuple[int, int]:
        first, second = self.kinds[1].offsets, self.kinds[2].offsets
        assert first[1] == second[0] == UNWANTED
        return first[0], second[1]

    def open(self, run: int) -> tuple[int, int]:
        for raw in self.kinds.values():
            raw.open(run)
        return self.offsets

    def begin(self, run: int, offsets: tuple[int, int]) -> None:
        for raw in self.kinds.values():
            raw.begin(run, offsets)

    async def write(self, stream: int, data: bytes, time_ns: int) -> None:
        for raw in self.kinds.values():
            await raw.write(stream, data, time_ns)

    def close(self) -> None:
        for raw in self.kinds.values():
            raw.close()


class TestRawFile(SinkContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        for n in (1, 2):
            (tmp_path / f"{n}").touch()
        return lambda: Pair(tmp_path)

    @pytest.fixture
    def taken(self, tmp_path: Path) -> Taken:
        return lambda: ((tmp_path / "1").read_bytes(), (tmp_path / "2").read_bytes())

    @pytest.mark.parametrize("written", [0, 5, 11])
    async def test_a_write_that_a_sigkill_cut_goes_on(
        self, tmp_path: Path, make: Make, taken: Taken, monkeypatch: pytest.MonkeyPatch, written: int
    ) -> None:
        sink = make()
        sink.open(1)
        await give(sink, 1, b"before\n")
        monkeypatch.setattr(Position, "write", _once(Position.write))
        with pytest.raises(Killed):
            await give(sink, 1, b"hello world"[:written] if written else b"x")
        if not written:
            os.truncate(tmp_path / "1", len(b"before\n"))
        monkeypatch.undo()
        again = make()
        assert again.open(1) == (7 + written, 0)
        await give(again, 1, b"hello world"[written:])
        assert taken() == (b"before\nhello world", b"")


def _once(write: Callable[[Position, Mark], None]) -> Callable[[Position, Mark], None]:
    """A Position.write that is reached once more before the process ends."""
    calls: list[int] = []

    def killed(position: Position, mark: Mark) -> None:
        calls.append(1)
        if len(calls) > 1:
            raise Killed
        write(position, mark)

    return killed


class TestFifo(SinkContract):
    more = 0

    @pytest.fixture
    def readers(self, tmp_path: Path) -> Iterator[list[int]]:
        fds = []
        for n in (1, 2):
            os.mkfifo(tmp_path / f"{n}")
            fds.append(os.open(tmp_path / f"{n}", os.O_RDONLY | os.O_NONBLOCK))
        yield fds
        for fd in fds:
            os.close(fd)

    @pytest.fixture
    def make(self, tmp_path: Path, readers: list[int]) -> Make:
        return lambda: Pair(tmp_path)

    @pytest.fixture
    def taken(self, readers: list[int]) -> Taken:
        def all_of(fd: int) -> bytes:
            try:
                return os.read(fd, 1 << 16)
            except BlockingIOError:
                return b""

        return lambda: (all_of(readers[0]), all_of(readers[1]))

    async def test_it_waits_for_its_reader(self, make: Make, readers: list[int]) -> None:
        sink, data = make(), os.urandom(300_000)
        sink.open(1)
        writing, got = asyncio.create_task(give(sink, 1, data)), b""
        while len(got) < len(data):
            await asyncio.sleep(0)
            try:
                got += os.read(readers[0], 1000)
            except BlockingIOError:
                continue
        await writing
        assert (got, sink.offsets) == (data, (len(data), 0))
        sink.close()
        assert os.read(readers[0], 1) == b""  # EOF


def test_what_has_a_name_can_be_handed_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    for path in (tmp_path / "fifo", tmp_path / "file"):
        fd = os.open(path, os.O_RDWR)
        assert name_of(fd) == path
        path.unlink()
        with pytest.raises(InvalidInput, match="has no name"):
            name_of(fd)
        os.close(fd)
    for fd in (*os.pipe(), os.open("/dev/null", os.O_WRONLY)):
        with pytest.raises(InvalidInput, match="has no name"):
            name_of(fd)
        os.close(fd)


class Nobody:
    def ready(self, stream: object) -> None:
        pass


def a_stream(offset: int, data: bytes) -> tuple[OutputStream, Receiver]:
    """One that ends, of a guest that still has `data` from `offset` on."""
    receiver = Receiver(5, Nobody(), offset=offset)
    assert len(data) <= WINDOW
    receiver.take_data(offset, data)
    receiver.take_eof(offset + len(data))
    return OutputStream(receiver), receiver


async def test_each_sink_gets_what_it_has_not(tmp_path: Path) -> None:
    """The log had all of a chunk when hyperd was killed, the other one a part, a client what the log has not."""
    log, cri = Log(tmp_path / "log", max_bytes=1 << 20, files=2), a_cri_log(tmp_path)
    log.open(1)
    log.append(1, b"one\ntwo\n", 1)
    cri.open(1)
    await give(cri, 1, b"one\n")
    output = Output(log, cri)
    output.close()
    assert output.open(1) == (4, 0)
    client = output.listen({1, 2})
    stream, receiver = a_stream(4, b"two\nthree\n")
    output.begin(stream, None)
    await output.drained()
    await output.end()
    assert b"".join([data async for _, data in client]) == b"three\n"
    assert cri_streams((tmp_path / "0.log").read_bytes()) == (b"one\ntwo\nthree\n", b"")
    assert logged(log, 1) == b"one\ntwo\nthree\n"
    assert receiver.consumed == 14


async def test_a_sink_that_takes_nothing_keeps_the_container_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_module, "RETRY_S", 0.001)
    path = tmp_path / "file"
    output = Output(Log(tmp_path / "log", max_bytes=1 << 20, files=2), Raw(path, {1}, tmp_path / "position"))
    output.open(1)
    stream, receiver = a_stream(0, b"one\ntwo\n")
    output.begin(stream, None)
    while not output.stalled:  # noqa: ASYNC110  nobody is told of that
        await asyncio.sleep(0)
    assert (output.stalled, receiver.consumed) == (str(path), 0)
    path.touch()
    await output.drained()
    assert (output.stalled, receiver.consumed, path.read_bytes()) == ("", 8, b"one\ntwo\n")
    await output.end()
