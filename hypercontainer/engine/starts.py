"""How long starts took, and what took it: counted since hyperd began."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Literal

from hypercontainer.lib.trace import Timings
from hypercontainer.model.figures import Family, Figure

BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
What = Literal["pod", "container"]


class _Times:
    """A histogram."""

    def __init__(self) -> None:
        self._within = [0] * len(BOUNDS_S)
        self._count, self._sum_s = 0, 0.0

    def note(self, took_s: float) -> None:
        self._count += 1
        self._sum_s += took_s
        for n, bound_s in enumerate(BOUNDS_S):
            self._within[n] += took_s <= bound_s

    def figures(self, labels: Mapping[str, str]) -> Iterator[Figure]:
        for bound_s, count in zip(BOUNDS_S, self._within, strict=True):
            yield Figure(count, {**labels, "le": f"{bound_s:g}"}, "bucket")
        yield Figure(self._count, {**labels, "le": "+Inf"}, "bucket")
        yield Figure(self._sum_s, labels, "sum")
        yield Figure(self._count, labels, "count")


class Starts:
    def __init__(self) -> None:
        self._whole: defaultdict[str, _Times] = defaultdict(_Times)
        self._steps: defaultdict[str, _Times] = defaultdict(_Times)

    def note(self, what: What, trace: Timings) -> None:
        """One that was done, and all its steps. A machine that was there for a container already took no step."""
        self._whole[what].note(max((step.begin_ms + step.took_ms for step in trace.steps), default=0.0) / 1e3)
        for step in trace.steps:
            self._steps[step.name].note(step.took_ms / 1e3)

    def families(self) -> list[Family]:
        whole, steps = "How long starts took that were done", "How long each step of those took"
        return [
            Family("hyperd_start_seconds", whole, "histogram", list(_figures("what", self._whole))),
            Family("hyperd_start_step_seconds", steps, "histogram", list(_figures("step", self._steps))),
        ]


def _figures(label: str, times: Mapping[str, _Times]) -> Iterator[Figure]:
    for name, each in sorted(times.items()):
        yield from each.figures({label: name})
