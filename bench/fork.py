"""Copies of a running container."""

import time
from collections.abc import Callable

from bench import calls
from bench.measure import Series
from hypercontainer.testing.daemon import PrivateDaemon


class Forks:
    """One container that runs, and copies of it that come and go."""

    def __init__(
        self, daemon: PrivateDaemon, image: str, *, at_once: int = 5, ready: Callable[[], None] = lambda: None
    ) -> None:
        """`ready` is called before each sample, and not counted. `close` removes the container."""
        self.at_once, self.ready = at_once, ready
        self.one = Series("fork: HTTP alone, one copy")
        self.many = Series(f"fork: HTTP alone, {at_once} copies at once")
        self.asleep = Series("suspend: HTTP alone")
        self.awake = Series("resume: HTTP alone")
        self._caller = calls.client(daemon)
        self._source, _ = calls.idle(self._caller, image)

    def run_one(self) -> None:
        self._fork(1, self.one)

    def run_many(self) -> None:
        self._fork(self.at_once, self.many)

    def _fork(self, count: int, series: Series) -> None:
        self.ready()
        begin = time.perf_counter()
        made = self._caller.post(f"/v1/containers/{self._source}/fork", {"count": count})["Ids"]
        series.samples.append((time.perf_counter() - begin) * 1e3)
        for container in made:
            calls.remove(self._caller, container)

    def run_suspend(self) -> None:
        self.ready()
        times = [time.perf_counter()]
        for verb in ("suspend", "resume"):
            self._caller.post(f"/v1/containers/{self._source}/{verb}")
            times.append(time.perf_counter())
        self.asleep.samples.append((times[1] - times[0]) * 1e3)
        self.awake.samples.append((times[2] - times[1]) * 1e3)

    @property
    def series(self) -> list[Series]:
        return [self.one, self.many, self.asleep, self.awake]

    def close(self) -> None:
        calls.remove(self._caller, self._source)
        self._caller.close()
