"""The pure parts: frames, times, filters, signals."""

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.rest.frames import DETACH, MAX_PAYLOAD, RESIZE, SIGNAL, STDIN, STDIN_END, frames, pieces
from hypercontainer.lib import clock
from hypercontainer.model import signals

FRAMES = st.lists(
    st.tuples(st.just(STDIN), st.binary(max_size=300))
    | st.tuples(st.sampled_from([RESIZE, SIGNAL, DETACH, STDIN_END]), st.binary(max_size=100))
)


@given(wanted=FRAMES, cuts=st.lists(st.integers(1, 50), min_size=1))
def test_frames_come_whole_however_they_are_cut(wanted: list[tuple[int, bytes]], cuts: list[int]) -> None:
    data = b"".join(pieces(kind, payload) for kind, payload in wanted)
    buffer, found, at, turn = bytearray(), [], 0, 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        buffer += data[at : at + size]
        found += list(frames(buffer))
        at, turn = at + size, turn + 1
    assert found == wanted
    assert not buffer


@given(data=st.binary(max_size=200))
def test_random_bytes_are_frames_or_refused(data: bytes) -> None:
    buffer = bytearray(data)
    try:
        list(frames(buffer))
    except InvalidInput:
        pass
    assert len(buffer) <= len(data)


@given(size=st.integers(0, 3 * MAX_PAYLOAD))
def test_pieces_hold_everything(size: int) -> None:
    buffer = bytearray(pieces(STDIN, b"x" * size))
    found = list(frames(buffer))
    assert sum(len(payload) for _, payload in found) == size
    assert all(len(payload) <= MAX_PAYLOAD for _, payload in found)


@given(ns=st.integers(0, 99_999_999_999_999_999_999))
def test_times_are_exact(ns: int) -> None:
    assert clock.nanoseconds(f"{ns // 10**9}.{ns % 10**9:09d}") == ns


@given(text=st.text(max_size=60))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    try:
        clock.nanoseconds(text)
    except InvalidInput:
        pass


@pytest.mark.parametrize(
    ("text", "number"),
    [("TERM", 15), ("SIGTERM", 15), ("sigterm", 15), ("15", 15), ("64", 64), ("RTMIN+3", signal.SIGRTMIN + 3)],
)
def test_signals(text: str, number: int) -> None:
    assert signals.number(text) == number


@pytest.mark.parametrize(
    "bad", ["", "0", "65", "-1", "SIG", "NONE", "1.5", "٣", "RTMIN+99", "RTMIN+", "9" * 30, "_DFL"]
)
def test_what_is_no_signal(bad: str) -> None:
    with pytest.raises(InvalidInput):
        signals.number(bad)
