"""A short walk of random verbs and deaths (`make soak` takes a long one), and the proof that it sees what is wrong."""

import pytest

from tests.vm import streams
from tests.vm.walk import walk

LINES = b"".join(streams.line(n) for n in range(30))


@pytest.mark.vm
@pytest.mark.timeout(600)
def test_a_short_walk() -> None:
    assert walk(7, 25, 240.0)


@pytest.mark.parametrize(
    "log",
    [
        LINES[:90] + LINES[99:],  # a line is missing
        LINES[:91] + LINES[92:],  # a byte
        LINES[:90] + LINES[81:],  # a line twice
        LINES + LINES,  # a run too many
        LINES[9:],  # the first
        LINES[:85] + LINES,  # cut, though nothing died
    ],
)
def test_what_is_wrong_with_a_stream_is_seen(log: bytes) -> None:
    assert streams.complaint(log, 1)


@pytest.mark.parametrize(
    ("log", "runs", "copied", "torn"),
    [
        (LINES, 1, False, False),
        (b"", 1, False, False),
        (LINES[:-3], 1, False, False),
        (LINES + LINES, 2, False, False),
        (LINES[81:] + LINES, 2, True, False),
        (LINES[:85] + LINES, 2, False, True),
    ],
)
def test_a_stream_without_fault(log: bytes, runs: int, copied: bool, torn: bool) -> None:
    assert streams.complaint(log, runs, copied=copied, torn=torn) == ""
