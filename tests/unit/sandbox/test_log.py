"""A container's log: what is appended is read back, over rotations and crashes, and it knows how far it got."""

import os
import re
import tracemalloc
from collections import deque
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.model.documents import LogEntry
from hypercontainer.sandbox import rows
from hypercontainer.sandbox.log import Log, Reader, Wanted


def a_log(path: Path, *, max_bytes: int = 1 << 20, files: int = 3, run: int = 1) -> Log:
    log = Log(path, max_bytes=max_bytes, files=files)
    log.open(run)
    return log


def entries(log: Log, *, tail: int | None = None, **wanted: Any) -> list[LogEntry]:
    with closing(Reader(log, Wanted(**wanted), tail)) as reader:
        return [entry for batch in reader.past() for entry in batch]


def text(log: Log, *, tail: int | None = None, **wanted: Any) -> bytes:
    return b"".join(entry.data for entry in entries(log, tail=tail, **wanted))


def news(reader: Reader) -> bytes:
    """All there are."""
    found = b""
    while (batch := reader.news()) is not None:
        found += b"".join(entry.data for entry in batch)
    assert not reader.behind
    return found


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.append(1, b"to stdout\n", 10)
    log.append(2, b"\xff not UTF-8\n", 20)
    assert [(e.stream, e.time_ns, e.data) for e in entries(log)] == [
        (1, 10, b"to stdout\n"),
        (2, 20, b"\xff not UTF-8\n"),
    ]
    assert text(log, streams=frozenset({2})) == b"\xff not UTF-8\n"
    assert text(log, since_ns=15) == b"\xff not UTF-8\n"
    assert text(log, until_ns=15) == b"to stdout\n"


def test_a_line_that_came_in_pieces_is_one_line_to_tail(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    for n, piece in enumerate((b"one\ntw", b"o\nthr", b"ee\n")):
        log.append(1, piece, n)
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
        log.append(stream, data, n)
    assert text(log, tail=tail) == last_lines(chunks, tail)


@pytest.mark.parametrize("tail", [None, 1, 3, 1_000_000])
@pytest.mark.parametrize("times", [20, 400])
def test_reading_takes_no_more_memory_for_a_larger_log(tmp_path: Path, tail: int | None, times: int) -> None:
    """A line without an end, lines without content, bytes of which JSON makes six times as many: a step reads and holds
    some pieces."""
    log = a_log(tmp_path, max_bytes=1 << 30)
    for n in range(times):
        log.append(1, b"x" * 32_000, n)
    for data in (b"\n" * 32_000, b"\0" * (1 << 18), b"next\n"):
        log.append(1, data, times)
    tracemalloc.start()
    with closing(Reader(log, Wanted(), tail)) as reader:
        last = deque((batch[-1].data for batch in reader.past() if batch), maxlen=1)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert last == deque([b"next\n"])
    assert most < 16 * rows.MAX_ROW


def test_what_is_no_row_is_passed_over_however_long(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.append(1, b"before\n", 1)
    with open(log.path, "ab") as f:
        f.write(b"x" * (3 * rows.MAX_ROW) + b"\n")
    log.append(1, b"behind\n", 2)
    assert text(log) == text(log, tail=2) == b"before\nbehind\n"
    assert text(log, tail=1) == b"behind\n"


def test_offsets_outlive_the_process_but_not_the_run(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.append(1, b"12345", 1)
    log.append(2, b"678", 2)
    assert Log(tmp_path, max_bytes=1 << 20, files=3).open(1) == (5, 3)
    assert Log(tmp_path, max_bytes=1 << 20, files=3).open(2) == (0, 0)


def test_a_run_may_begin_in_the_middle_of_its_streams_and_says_nothing_of_that(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.append(1, b"before\n", 1)
    log.begin(2, (1000, 7))
    assert (log.offsets, text(log)) == ((1000, 7), b"before\n")
    with closing(Reader(log, Wanted())) as reader:
        log.append(2, b"after\n", 2)
        assert news(reader) == b"after\n"
    assert a_log(tmp_path, run=2).offsets == (1000, 13)


def test_rotation_keeps_the_newest_and_the_offsets(tmp_path: Path) -> None:
    log = a_log(tmp_path, max_bytes=400, files=2)
    for n in range(50):
        log.append(1, b"line %d\n" % n, n)
    assert text(log).endswith(b"line 48\nline 49\n")
    assert not text(log).startswith(b"line 0\n")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2 * 400
    assert a_log(tmp_path, max_bytes=400, files=2).open(1) == (sum(len(b"line %d\n" % n) for n in range(50)), 0)


@pytest.mark.parametrize("cut", [1, 7, 30])
def test_a_last_line_cut_short_by_a_crash_was_never_written(tmp_path: Path, cut: int) -> None:
    log = a_log(tmp_path)
    log.append(1, b"whole\n", 1)
    log.append(1, b"torn\n", 2)
    path = tmp_path / "container.log"
    path.write_bytes(path.read_bytes()[:-cut])
    again = Log(tmp_path, max_bytes=1 << 20, files=3)
    assert again.open(1) == (6, 0)
    again.append(1, b"torn\n", 3)
    assert text(again) == b"whole\ntorn\n"


@pytest.mark.parametrize("every", [1, 7, 14])
def test_followers_read_on_over_rotations(tmp_path: Path, every: int) -> None:
    log = a_log(tmp_path, max_bytes=300, files=8)
    seen = b""
    with closing(Reader(log, Wanted())) as reader:
        for n in range(28):
            log.append(1, b"line %d\n" % n, n)
            if n % every == every - 1:
                assert reader.behind
                seen += news(reader)
    assert seen == b"".join(b"line %d\n" % n for n in range(28))


def test_who_follows_too_slowly_goes_on_with_what_is_left(tmp_path: Path) -> None:
    log = a_log(tmp_path, max_bytes=300, files=2)
    log.append(1, b"past\n", 0)
    with closing(Reader(log, Wanted())) as reader:
        for n in range(50):
            log.append(1, b"line %d\n" % n, n)
        kept = text(log)
        assert [entry.data for batch in reader.past() for entry in batch] == [b"past\n"]  # though its file is gone
        seen = news(reader)
    assert kept.endswith(b"line 49\n") and seen.endswith(kept)
    first, rest = seen[: -len(kept)].split(b"\n"), kept.split(b"\n")
    assert first[0] == b"line 0" and rest[0] != b"line 0"


def test_a_chunk_of_which_json_makes_six_times_as_much_is_news_too(tmp_path: Path) -> None:
    log = a_log(tmp_path, max_bytes=16 << 20)
    with closing(Reader(log, Wanted())) as reader:
        assert not reader.behind
        log.append(1, b"\0" * (1 << 18), 1)
        assert news(reader) == b"\0" * (1 << 18)


def test_a_half_line_is_no_news_and_what_replaces_it_is(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.append(1, b"whole\n", 1)
    log.append(1, b"torn, and longer than what comes\n", 2)
    log.close()
    os.truncate(log.path, log.path.stat().st_size - 7)
    with closing(Reader(log, Wanted())) as reader:
        assert not reader.behind and reader.news() is None
        log.append(1, b"new\n", 3)
        assert news(reader) == b"new\n"


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(min_size=1, max_size=200)), max_size=20))
def test_any_bytes_come_back(tmp_path_factory: pytest.TempPathFactory, chunks: list[tuple[int, bytes]]) -> None:
    log = a_log(tmp_path_factory.mktemp("log"))
    for n, (stream, data) in enumerate(chunks):
        log.append(stream, data, n)
    for stream in (1, 2):
        assert text(log, streams=frozenset({stream})) == b"".join(data for s, data in chunks if s == stream)
