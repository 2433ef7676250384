"""What a list is to show."""

import pytest

from hypercontainer.hyperd.docker import filters


@pytest.mark.parametrize(
    ("word", "moment"),
    [
        ("1h", "6400.000000000"),
        ("1h30m", "4600.000000000"),
        ("1.5s", "9998.500000000"),
        ("9h", "0.000000000"),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("1700000000.5", "1700000000.5"),
        ("1x", "1x"),
        ("h", "h"),
    ],
)
def test_a_duration_is_a_moment_ago(word: str, moment: str) -> None:
    assert filters.moment(word, 10_000.0) == moment


def test_until_may_be_a_duration() -> None:
    [moment] = filters.read('{"until": {"1h": true}}')["until"]
    assert float(moment) > 1.7e9
    assert filters.read('{"label": ["1h"]}') == {"label": ["1h"]}
