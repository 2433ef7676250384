"""Where a start's time goes: named steps, in order, each with its begin and end."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple, Protocol


class Step(NamedTuple):
    name: str
    begin_ms: float  # since the trace began
    took_ms: float


class Trace(Protocol):
    """Told of each step as it begins and ends. Tests pass one that kills the process at a step of their choice."""

    now: str  # the step that goes on; "" between two

    def step(self, name: str) -> AbstractContextManager[None]: ...


class Timings:
    """Collects the steps of one request."""

    def __init__(self) -> None:
        self._zero = time.monotonic()
        self.steps: list[Step] = []
        self.now = ""

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        begin, self.now = time.monotonic(), name
        try:
            yield
        finally:
            self.now = ""
            end = time.monotonic()
            self.steps.append(Step(name, (begin - self._zero) * 1e3, (end - begin) * 1e3))
