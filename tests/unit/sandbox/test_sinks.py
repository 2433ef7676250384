"""Where output goes: what is said of each kind holds, and a container's output reaches all of them, once."""

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal

import pytest

from hypercontainer.agent.streams import OutputStream, Receiver
from hypercontainer.agent.wire import WINDOW
from hypercontainer.errors import GuestDied, InvalidInput
from hypercontainer.lib import files
from hypercontainer.model.record import RawSinkRecord
from hypercontainer.sandbox import output as output_module
from hypercontainer.sandbox.cri_log import LONGEST, CriLog
from hypercontainer.sandbox.log import Log, Reader, Wanted
from hypercontainer.sandbox.output import Listener, Output
from hypercontainer.sandbox.raw import Raw, handed_over
from hypercontainer.sandbox.sink import UNWANTED, Mark, Position
from hypercontainer.testing.sink_contract import Make, SinkContract, Taken, give

NAMES: dict[int, Literal["stdout", "stderr"]] = {1: "stdout", 2: "stderr"}


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


def a_log(folder: Path) -> Log:
    return Log(folder / "log", max_bytes=1 << 20, files=2)


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

    async def test_it_goes_on_in_the_file_that_was_renamed_until_it_is_opened_again(
        self, tmp_path: Path, taken: Taken
    ) -> None:
        """Also when hyperd was killed in between: the kubelet, to whom nobody answered, names the file back."""
        log = a_cri_log(tmp_path)
        log.open(1)
        await give(log, 1, b"first\n")
        (tmp_path / "0.log").rename(tmp_path / "0.log.1")
        again = a_cri_log(tmp_path)
        again.open(1)
        await give(again, 1, b"second\n")
        assert not (tmp_path / "0.log").exists()
        (tmp_path / "0.log.1").rename(tmp_path / "0.log")
        assert taken() == (b"first\nsecond\n", b"")
        (tmp_path / "0.log").rename(tmp_path / "0.log.1")
        again.reopen()
        last = a_cri_log(tmp_path)  # killed before it has written to the new one
        last.open(1)
        await give(last, 1, b"third\n")
        assert cri_streams((tmp_path / "0.log").read_bytes()) == (b"third\n", b"")
        assert taken() == (b"first\nsecond\nthird\n", b"")

    @pytest.mark.parametrize("trouble", ["no folder", "no room"])
    async def test_one_that_cannot_be_opened_again_goes_on_where_it_was(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
    ) -> None:
        def full(position: Position, mark: Mark) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        folder = tmp_path / "logs"
        folder.mkdir()
        log = CriLog(folder / "0.log", tmp_path / "position")
        log.open(1)
        await give(log, 1, b"first\n")
        if trouble == "no folder":
            folder.rename(tmp_path / "away")
        else:
            (folder / "0.log").rename(folder / "0.log.1")
        with monkeypatch.context() as m:
            if trouble == "no room":
                m.setattr(Position, "write", full)
            with pytest.raises(OSError, match="No such file" if trouble == "no folder" else "No space"):
                log.reopen()
        await give(log, 1, b"second\n")
        [kept] = [path for path in tmp_path.rglob("0.log*") if path.stat().st_size]
        assert cri_streams(kept.read_bytes()) == (b"first\nsecond\n", b"")

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


def a_record(path: Path, *streams: Literal["stdout", "stderr"]) -> RawSinkRecord:
    """Of what is at `path` now."""
    file = path.stat()
    return RawSinkRecord(path=str(path), streams=list(streams), device=file.st_dev, inode=file.st_ino)


class Pair:
    """Two Raw sinks as one, for what the contract says of both streams."""

    def __init__(self, folder: Path) -> None:
        self.where = str(folder)
        self.kinds = {n: Raw(a_record(folder / f"{n}", NAMES[n]), folder / f"position-{n}") for n in (1, 2)}

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

    async def test_a_write_that_waits_ends_when_it_is_closed(self, make: Make, readers: list[int]) -> None:
        sink = make()
        sink.open(1)
        raw = sink.kinds[1]  # type: ignore[attr-defined]
        writing = [asyncio.create_task(give(raw, 1, b"x" * 300_000)) for _ in range(2)]
        while not raw._waiting:  # noqa: ASYNC110  nobody is told of that
            await asyncio.sleep(0)
        sink.close()
        for write in writing:
            with pytest.raises(OSError, match="closed"):
                await write
        assert raw.offsets[0] == len(os.read(readers[0], 300_000))

    async def test_nothing_is_put_in_it_while_nobody_reads(self, tmp_path: Path) -> None:
        path = tmp_path / "fifo"
        os.mkfifo(path)
        raw = Raw(a_record(path, "stdout"), tmp_path / "position")
        raw.open(1)
        with pytest.raises(OSError, match="nobody reads it"):
            await give(raw, 1, b"hello")
        for word in (b"hello", b" world"):  # whoever reads may go, and come again
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            await give(raw, 1, word)
            assert os.read(fd, 100) == word
            os.close(fd)
            with pytest.raises(BrokenPipeError):
                await give(raw, 1, b"x")
        assert raw.offsets[0] == len(b"hello world")
        raw.close()


def test_what_has_a_name_can_be_handed_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    for path in (tmp_path / "fifo", tmp_path / "file"):
        fd = os.open(path, os.O_RDWR)
        assert handed_over(fd, ["stderr"]) == a_record(path, "stderr")
        path.unlink()
        with pytest.raises(InvalidInput, match="has no name"):
            handed_over(fd, ["stderr"])
        os.close(fd)
    for fd in (*os.pipe(), os.open("/dev/null", os.O_WRONLY)):
        with pytest.raises(InvalidInput, match="has no name"):
            handed_over(fd, ["stdout"])
        os.close(fd)


@pytest.mark.parametrize("other", ["missing", "another", "link", "folder"])
async def test_only_what_was_handed_over_is_written_to(tmp_path: Path, other: str) -> None:
    """Whatever has its path by now; when it is back all of it is there."""
    path, aside, secret = tmp_path / "file", tmp_path / "aside", tmp_path / "secret"
    path.touch()
    secret.touch()
    raw = Raw(a_record(path, "stdout"), tmp_path / "position")
    raw.open(1)
    await give(raw, 1, b"one\n")
    raw.close()
    path.rename(aside)
    match other:
        case "another":
            path.touch()
        case "link":
            path.symlink_to(secret)
        case "folder":
            path.mkdir()
    again = Raw(a_record(aside, "stdout"), tmp_path / "position")
    again._record.path = str(path)
    assert again.open(1) == (4, UNWANTED)
    with pytest.raises(OSError, match="No such file" if other == "missing" else "it is not what was handed over"):
        await give(again, 1, b"two\n")
    assert again.offsets == (4, UNWANTED) and secret.read_bytes() == b""
    if other == "folder":
        path.rmdir()
    aside.replace(path)
    await give(again, 1, b"two\n")
    again.close()
    assert path.read_bytes() == b"one\ntwo\n"


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
    log, cri = a_log(tmp_path), a_cri_log(tmp_path)
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
    path, aside = tmp_path / "file", tmp_path / "aside"
    path.touch()
    raw = Raw(a_record(path, "stdout"), tmp_path / "position")
    path.rename(aside)
    output = Output(a_log(tmp_path), raw)
    output.open(1)
    stream, receiver = a_stream(0, b"one\ntwo\n")
    output.begin(stream, None)
    while not output.stuck:  # noqa: ASYNC110  nobody is told of that
        await asyncio.sleep(0)
    assert (list(output.stuck), output.stalled, receiver.consumed) == ([raw], "", 0)
    aside.rename(path)
    await output.drained()
    assert (output.stuck, receiver.consumed, path.read_bytes()) == ({}, 8, b"one\ntwo\n")
    await output.end()


async def test_when_a_sink_is_given_up_the_others_have_all(tmp_path: Path) -> None:
    path, data = tmp_path / "fifo", os.urandom(WINDOW)
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    fifo, log, cri = Raw(a_record(path, "stdout"), tmp_path / "position"), a_log(tmp_path), a_cri_log(tmp_path)
    output = Output(fifo, log, cri)
    assert output.open(1) == (0, 0)
    out, receiver = a_stream(0, data)
    err, _ = a_stream(0, b"error\n")
    output.begin(out, err)
    while not fifo._waiting:  # noqa: ASYNC110  nobody is told of that
        await asyncio.sleep(0)
    assert (output.taken[2], output.give_up(), output.give_up()) == ((0, 6), True, False)
    await output.drained()
    assert (logged(log, 1), logged(log, 2), receiver.consumed) == (data, b"error\n", len(data))
    assert cri_streams((tmp_path / "0.log").read_bytes()) == (data, b"error\n")
    assert os.read(reader, 1 << 20) == data[: fifo.offsets[0]]
    os.close(reader)
    await output.end()
    assert output.open(2) == (0, 0) and not output._given_up
    output.close()


async def test_a_client_that_comes_while_a_sink_waits_hears_nothing_twice(tmp_path: Path) -> None:
    """What the log has by then is the log's to tell."""
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    fifo, log = Raw(a_record(tmp_path / "fifo", "stdout"), tmp_path / "position"), a_log(tmp_path)
    output, said = Output(fifo, log), os.urandom(WINDOW)
    output.open(1)
    first = output.listen({1})
    output.begin(a_stream(0, said)[0], None)
    while not fifo._waiting:  # noqa: ASYNC110  nobody is told of that
        await asyncio.sleep(0)
    second = output.listen({1})
    assert logged(log, 1) == said and output.give_up()
    await output.drained()
    await output.end()
    os.close(reader)
    assert [[data async for _, data in client] for client in (first, second)] == [[said], []]


async def test_what_a_full_disk_keeps_waiting_is_not_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(output_module, "RETRY_S", 0.001)
    cri = a_cri_log(tmp_path)
    output = Output(cri)
    output.open(1)
    stream, _ = a_stream(0, b"one\n")
    with monkeypatch.context() as m:
        m.setattr(files, "write", full)
        output.begin(stream, None)
        while not output.stuck:  # noqa: ASYNC110  nobody is told of that
            await asyncio.sleep(0)
        assert (output.stalled, output.give_up()) == (cri.where, False)
    await output.drained()
    assert cri_streams((tmp_path / "0.log").read_bytes()) == (b"one\n", b"")
    await output.end()


async def test_what_nobody_keeps_is_for_those_who_are_attached(tmp_path: Path) -> None:
    """A stream that no sink wants begins where the guest has it."""
    (tmp_path / "out").touch()
    output = Output(Raw(a_record(tmp_path / "out", "stdout"), tmp_path / "position"))
    assert output.open(1) == (0, 0)
    client = output.listen({1, 2})
    (out, _), (err, receiver) = a_stream(0, b"out"), a_stream(0, b"err")
    output.begin(out, err)
    await output.drained()
    assert (output.offsets, receiver.consumed) == ((3, 3), 3)
    await output.end()
    assert sorted([piece async for piece in client]) == [(1, b"out"), (2, b"err")]
    assert Output().open(1) == (0, 0)


async def test_a_guest_that_dies_is_no_fault_of_the_output() -> None:
    class Gone:
        async def read(self) -> bytes:
            raise GuestDied("the virtual machine ended")

    output = Output()
    output.begin(Gone(), None)  # type: ignore[arg-type]
    [pump] = output._pumps
    await output.drained()
    assert pump.exception() is None
