"""Samples: how they are taken and what is said of them."""

import os
import select
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass
class Series:
    """Samples of one thing, in `unit`. More is better only for rates."""

    name: str
    unit: str = "ms"
    samples: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def p95(self) -> float:
        """The worst of the usual: for rates the low end."""
        ordered = sorted(self.samples, reverse=self.unit in ("MB/s", "/s"))
        return ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]


class CommandFailed(Exception):
    """A measured command did not end with status 0: what it took means nothing."""


def ended(process: subprocess.Popen[bytes], timeout_s: float) -> int:
    """Its status. subprocess itself, with a limit and without a pipe, looks whether it has ended every 50 ms."""
    fd = os.pidfd_open(process.pid)
    try:
        if not select.select([fd], [], [], timeout_s)[0]:
            process.kill()
            raise CommandFailed(f"{process.args!r}: it has not ended within {timeout_s:g} s")
    finally:
        os.close(fd)
    return process.wait()


def wall_ms(argv: Sequence[str], *, env: dict[str, str] | None = None, timeout_s: float = 300) -> float:
    """Run `argv` to its end and return the milliseconds that it took."""
    begin = time.perf_counter()
    done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s)
    took = (time.perf_counter() - begin) * 1e3
    if done.returncode:
        raise CommandFailed(
            f"{' '.join(argv)}: status {done.returncode}: {done.stderr.decode(errors='replace')[-500:]}"
        )
    return took


def first_output_ms(argv: Sequence[str], *, env: dict[str, str] | None = None) -> tuple[float, float, str]:
    """Return (milliseconds to the first byte of stdout, to the end, what was said on stderr)."""
    begin = time.perf_counter()
    with subprocess.Popen(
        argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        os.read(process.stdout.fileno(), 1)
        first = (time.perf_counter() - begin) * 1e3
        process.stdout.read()
        said = process.stderr.read().decode(errors="replace")
    if process.returncode:
        raise CommandFailed(f"{' '.join(argv)}: status {process.returncode}: {said[-500:]}")
    return first, (time.perf_counter() - begin) * 1e3, said


def interleave(rounds: int, steps: Sequence[Callable[[], None]], say: Callable[[str], None]) -> None:
    """Take one sample of each step in turn, `rounds` times: what disturbs the machine disturbs all alike.

    The round before the first warms caches and is thrown away by the caller, who clears its series then."""
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for step in steps:
            step()


def table(results: Sequence[Series]) -> str:
    width = max(len(series.name) for series in results)
    lines = [f"{'':{width}}  {'median':>9}  {'p95':>9}  unit  samples"]
    lines += [f"{s.name:{width}}  {s.median:>9.1f}  {s.p95:>9.1f}  {s.unit:<4}  {len(s.samples):>7}" for s in results]
    return "\n".join(lines)
