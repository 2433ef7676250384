"""Trouble: each failure puts the next try off for longer, and none for ever."""

from hypercontainer.factory.trouble import FIRST_S, LASTING, MOST_S, Trouble


def test_the_wait_grows_to_a_bound_and_ends() -> None:
    trouble = Trouble()
    assert (trouble.left_s(), trouble.words()) == (0.0, "")
    waits = []
    for _ in range(10_000):
        trouble.failed("no memory")
        waits.append(trouble.left_s())
    assert 0 < waits[0] <= FIRST_S
    assert all(0 < wait <= MOST_S for wait in waits) and waits[-1] > MOST_S / 2
    assert trouble.lasting and "10000 times in a row" in trouble.words() and "no memory" in trouble.words()


def test_a_few_failures_are_worth_waiting_for() -> None:
    trouble = Trouble()
    for _ in range(LASTING - 1):
        trouble.failed("busy")
    assert not trouble.lasting
