"""The pure parts: frames, times, filters, signals."""

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.http.framing import Word
from hypercontainer.hyperd.rest.frames import HyperStream
from hypercontainer.lib import clock
from hypercontainer.model import signals, stream

SAID = st.lists(
    st.tuples(st.just(stream.STDIN), st.binary(max_size=300))
    | st.tuples(st.just(stream.RESIZE), st.just(b'{"rows":24,"columns":80}'))
    | st.tuples(st.just(stream.SIGNAL), st.just(b'{"signal":15}'))
    | st.tuples(st.just(stream.STDIN_END), st.binary(max_size=100))
)
MEANT: dict[int, Word] = {stream.RESIZE: (24, 80), stream.SIGNAL: (15,), stream.STDIN_END: None}  # type: ignore[dict-item]


@given(said=SAID, cuts=st.lists(st.integers(1, 50), min_size=1))
def test_words_come_whole_however_they_are_cut(said: list[tuple[int, bytes]], cuts: list[int]) -> None:
    data = b"".join(stream.frame(kind, payload) for kind, payload in said)
    framing, found, at, turn = HyperStream(), [], 0, 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        found += list(framing.read(data[at : at + size]))
        at, turn = at + size, turn + 1
    assert found == [MEANT.get(kind, payload) for kind, payload in said]


@given(data=st.binary(max_size=200))
def test_random_bytes_are_words_or_refused(data: bytes) -> None:
    try:
        list(HyperStream().read(data))
    except InvalidInput:
        pass


@pytest.mark.parametrize(
    "bad",
    [
        stream.frame(stream.STDOUT, b"x"),  # comes from no client
        stream.header(stream.STDIN, stream.MAX_PAYLOAD + 1),
        stream.header(stream.RESIZE, stream.MAX_CONTROL + 1),
        b"\0\0\1\0\0\0\0\0",  # padding that is not zero
        stream.frame(stream.RESIZE, b'{"rows":0,"columns":80}'),
        stream.frame(stream.SIGNAL, b'{"signal":0}'),
        stream.frame(stream.SIGNAL, b"[" * 1000),
    ],
)
def test_what_no_client_may_send(bad: bytes) -> None:
    with pytest.raises(InvalidInput):
        list(HyperStream().read(bad))


def test_more_than_the_buffer_at_once() -> None:
    data = stream.frames(stream.STDIN, bytes(range(256)) * 4096)
    assert b"".join(word for word in HyperStream().read(data) if isinstance(word, bytes)) == bytes(range(256)) * 4096


@given(size=st.integers(0, 3 * stream.MAX_PAYLOAD))
def test_frames_hold_everything(size: int) -> None:
    found = list(HyperStream().read(stream.frames(stream.STDIN, b"x" * size)))
    assert sum(len(word) for word in found if isinstance(word, bytes)) == size


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
