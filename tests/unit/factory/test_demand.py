"""Demand: what was needed at once lately, and no longer."""

import time

import pytest

from hypercontainer.factory.demand import KEPT_S, Demand


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def asked(times: int) -> Demand:
    made = Demand()
    for _ in range(times):
        made.asked()
    return made


def test_starts_in_a_row_need_one_each() -> None:
    assert Demand().needed() == 0
    assert asked(5).needed() == 5


def test_starts_that_others_are_made_between_need_one() -> None:
    lately = Demand()
    for _ in range(100):
        lately.asked()
        lately.made()
    assert lately.needed() == 1


def test_what_was_once_behind_is_needed_again() -> None:
    lately = asked(8)
    for _ in range(20):
        lately.made()
    assert lately.needed() == 8
    lately.asked()
    assert lately.needed() == 8


def test_who_can_not_be_made_is_waited_for_no_more() -> None:
    """Where there is room for few, starts later do not need what these lacked, and theirs."""
    lately = asked(8)
    lately.met()
    lately.asked()
    assert lately.needed() == 8


def test_what_was_needed_is_forgotten_after_a_time(clock: list[float]) -> None:
    lately = asked(8)
    lately.met()
    clock[0] += KEPT_S / 2
    lately.asked()
    assert lately.needed() == 8
    clock[0] += KEPT_S / 2 + 1
    assert lately.needed() == 1
    clock[0] += KEPT_S
    assert lately.needed() == 0
