"""Starts in a row, and by several clients at once for a while: what a CI job or an agent does with an engine."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from itertools import count

from bench.measure import CommandFailed, Series, wall_ms

ROW = 20
CLIENTS = (2, 4)
WHILE_S = 30.0
TICKS = os.sysconf("SC_CLK_TCK")


class Row:
    """`argv` again and again: by one client `ROW` times, by several for `WHILE_S`. `ready` is not counted."""

    def __init__(
        self,
        name: str,
        argv: Callable[[], Sequence[str]],
        env: dict[str, str] | None = None,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.argv, self.env, self.ready = argv, env, ready
        self.each = Series(f"{ROW} x {name} in a row, each")
        self.rates = {n: Series(f"{n} clients, {name}: starts", "/s") for n in CLIENTS}
        self.costs = {n: Series(f"  of each, with {n} clients: processor, all of the host's", "ms") for n in CLIENTS}

    def row(self) -> None:
        self.ready()
        begin = time.perf_counter()
        for _ in range(ROW):
            wall_ms(self.argv(), env=self.env)
        self.each.samples.append((time.perf_counter() - begin) * 1e3 / ROW)

    def several(self, clients: int) -> None:
        self.ready()
        starts, failed = count(), list[Exception]()
        until = time.monotonic() + WHILE_S

        def client() -> None:
            try:
                while time.monotonic() < until:
                    wall_ms(self.argv(), env=self.env)
                    next(starts)
            except CommandFailed as e:
                failed.append(e)

        began, busy = time.monotonic(), _busy_s()
        threads = [threading.Thread(target=client) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]
        done = next(starts)
        self.rates[clients].samples.append(done / (time.monotonic() - began))
        self.costs[clients].samples.append((_busy_s() - busy) * 1e3 / done)

    @property
    def series(self) -> list[Series]:
        return [self.each, *(each for n in CLIENTS for each in (self.rates[n], self.costs[n]))]


def _busy_s() -> float:
    """Seconds that the processors of this host were not idle: proc(5), stat."""
    with open("/proc/stat") as stat:
        user, nice, system, _, _, irq, softirq, *_ = map(int, stat.readline().split()[1:])
    return (user + nice + system + irq + softirq) / TICKS
