"""A container's log: what is appended is read back, over rotations and crashes, and it knows how far it got."""

import re
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.sandbox.log import Log

BOTH = {1, 2}


def a_log(path: Path, *, max_bytes: int = 1 << 20, files: int = 3, run: int = 1) -> Log:
    log = Log(path, max_bytes=max_bytes, files=files)
    log.open(run)
    return log


def text(log: Log, **how: object) -> bytes:
    wanted: dict[str, object] = {"since_ns": 0, "until_ns": 0, "tail": None, "streams": BOTH, **how}
    return b"".join(entry.data for entry in log.read(**wanted))  # type: ignore[arg-type]


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.append(1, 1, b"to stdout\n", 10)
    log.append(1, 2, b"\xff not UTF-8\n", 20)
    entries = log.read(since_ns=0, until_ns=0, tail=None, streams=BOTH)
    assert [(e.stream, e.time_ns, e.data) for e in entries] == [(1, 10, b"to stdout\n"), (2, 20, b"\xff not UTF-8\n")]
    assert text(log, streams={2}) == b"\xff not UTF-8\n"
    assert text(log, since_ns=15) == b"\xff not UTF-8\n"
    assert text(log, until_ns=15) == b"to stdout\n"


def test_a_line_that_came_in_pieces_is_one_line_to_tail(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    for n, piece in enumerate((b"one\ntw", b"o\nthr", b"ee\n")):
        log.append(1, 1, piece, n)
    assert text(log, tail=2) == b"two\nthree\n"
    assert text(log, tail=0) == b""


def last_lines(chunks: list[tuple[int, bytes]], tail: int) -> bytes:
    """Slowly: a line is what one stream writes up to its newline, or until the other one comes between."""
    lines: list[tuple[int, bytes]] = []
    for stream, data in chunks:
        for piece in re.findall(rb"[^\n]*\n|[^\n]+", data):
            if lines and lines[-1][0] == stream and not lines[-1][1].endswith(b"\n"):
                lines[-1] = stream, lines[-1][1] + piece
            else:
                lines.append((stream, piece))
    return b"".join(line for _, line in lines[-tail:])


@given(
    chunks=st.lists(st.tuples(st.sampled_from([1, 2]), st.text("a\n", min_size=1, max_size=6).map(str.encode))),
    tail=st.integers(1, 8),
)
def test_the_last_lines_however_they_came(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[tuple[int, bytes]], tail: int
) -> None:
    log = a_log(tmp_path_factory.mktemp("log"))
    for n, (stream, data) in enumerate(chunks):
        log.append(1, stream, data, n)
    assert text(log, tail=tail) == last_lines(chunks, tail)


def test_neither_a_line_without_an_end_nor_lines_without_content_take_more_than_their_file(tmp_path: Path) -> None:
    log = a_log(tmp_path, max_bytes=64 << 20)
    for n in range(200):
        log.append(1, 1, b"x" * 32_000, n)
    log.append(1, 1, b"\n" * 32_000, 200)
    log.append(1, 1, b"next\n", 201)
    tracemalloc.start()
    for tail in (None, 1, 1_000_000):
        assert text(log, tail=tail).endswith(b"next\n")
        assert max(len(e.data) for e in log.read(since_ns=0, until_ns=0, tail=tail, streams=BOTH)) <= 32_000
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 4 * log.path.stat().st_size


def test_offsets_outlive_the_process_but_not_the_run(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.append(1, 1, b"12345", 1)
    log.append(1, 2, b"678", 2)
    assert Log(tmp_path, max_bytes=1 << 20, files=3).open(1) == (5, 3)
    assert Log(tmp_path, max_bytes=1 << 20, files=3).open(2) == (0, 0)


def test_a_run_may_begin_in_the_middle_of_its_streams_and_says_nothing_of_that(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.append(1, 1, b"before\n", 1)
    log.begin(2, (1000, 7))
    assert (log.offsets, text(log)) == ((1000, 7), b"before\n")
    place = log.end()
    log.append(2, 2, b"after\n", 2)
    assert [entry.data for entry in log.after(place)[0]] == [b"after\n"]
    assert a_log(tmp_path, run=2).offsets == (1000, 13)


def test_rotation_keeps_the_newest_and_the_offsets(tmp_path: Path) -> None:
    log = a_log(tmp_path, max_bytes=400, files=2)
    for n in range(50):
        log.append(1, 1, b"line %d\n" % n, n)
    assert text(log).endswith(b"line 48\nline 49\n")
    assert not text(log).startswith(b"line 0\n")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2 * 400
    assert a_log(tmp_path, max_bytes=400, files=2).open(1) == (sum(len(b"line %d\n" % n) for n in range(50)), 0)


@pytest.mark.parametrize("cut", [1, 7, 30])
def test_a_last_line_cut_short_by_a_crash_was_never_written(tmp_path: Path, cut: int) -> None:
    log = a_log(tmp_path)
    log.append(1, 1, b"whole\n", 1)
    log.append(1, 1, b"torn\n", 2)
    path = tmp_path / "container.log"
    path.write_bytes(path.read_bytes()[:-cut])
    again = Log(tmp_path, max_bytes=1 << 20, files=3)
    assert again.open(1) == (6, 0)
    again.append(1, 1, b"torn\n", 3)
    assert text(again) == b"whole\ntorn\n"


def test_followers_read_on_over_a_rotation(tmp_path: Path) -> None:
    log = a_log(tmp_path, max_bytes=300, files=3)
    place, seen = log.end(), b""
    for n in range(20):
        log.append(1, 1, b"line %d\n" % n, n)
        while True:
            entries, after = log.after(place)
            seen += b"".join(entry.data for entry in entries)
            if after == place:
                break
            place = after
    assert seen == b"".join(b"line %d\n" % n for n in range(20))


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(min_size=1, max_size=200)), max_size=20))
def test_any_bytes_come_back(tmp_path_factory: pytest.TempPathFactory, chunks: list[tuple[int, bytes]]) -> None:
    log = a_log(tmp_path_factory.mktemp("log"))
    for n, (stream, data) in enumerate(chunks):
        log.append(1, stream, data, n)
    for stream in (1, 2):
        assert text(log, streams={stream}) == b"".join(data for s, data in chunks if s == stream)
