"""Histograms of starts: each bound counts all that is within it."""

from hypercontainer.engine.starts import BOUNDS_S, Starts
from hypercontainer.lib.trace import Step, Timings
from hypercontainer.model.figures import Figure


def start(**steps_ms: float) -> Timings:
    trace, begin_ms = Timings(), 0.0
    for name, took_ms in steps_ms.items():
        trace.steps.append(Step(name, begin_ms, took_ms))
        begin_ms += took_ms
    return trace


def found(figures: list[Figure], part: str, **labels: str) -> list[float]:
    return [each.value for each in figures if each.part == part and labels.items() <= each.labels.items()]


def test_nothing_was_started() -> None:
    assert [family.figures for family in Starts().families()] == [[], []]


def test_starts_and_their_steps_are_counted() -> None:
    starts = Starts()
    starts.note("pod", start(vmm=40.0, agent=400.0))
    starts.note("pod", start(vmm=20.0))
    starts.note("container", start())  # a machine was there
    whole, steps = (family.figures for family in starts.families())
    assert found(whole, "count", what="pod") == [2] and found(whole, "sum", what="pod") == [0.46]
    within = [sum(took <= bound for took in (0.44, 0.02)) for bound in BOUNDS_S]
    assert found(whole, "bucket", what="pod") == [*within, 2]
    assert found(whole, "bucket", what="container", le="0.01") == [1]
    assert found(steps, "count", step="vmm") == [2] and found(steps, "count", step="agent") == [1]
    for le, count in (("0.25", 0), ("0.5", 1), ("+Inf", 1)):
        assert found(steps, "bucket", step="agent", le=le) == [count]
