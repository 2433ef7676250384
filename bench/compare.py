"""Measures this checkout beside another one, as before and after a change: one table, all rows in one run.

python -m bench.compare OTHER [--rounds 20] [--streams 5]

OTHER is the root of a checkout that was set up (`make setup`). Both have this one's kernel, and daemons of their own.
"""

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench.guests import Guests
from bench.measure import Series, interleave
from bench.places import CHECKOUT, IMAGE, KERNELS, load_image, our_kernel, say
from bench.starts import Calls, Starts, until_full
from hypercontainer.testing.daemon import PrivateDaemon, Value, private_daemon


class Checkout:
    """What is measured of one checkout: starts from everywhere, calls, exec, streams."""

    def __init__(self, stack: ExitStack, root: Path, kernel: str) -> None:
        def daemon(factory: str, **more: Value) -> PrivateDaemon:
            settings: dict[str, Value] = {"kernel": kernel, "factory": factory, **more}
            made = stack.enter_context(private_daemon(KERNELS, settings, root / ".venv/bin"))
            load_image(made)
            return made

        pooling, cloning = daemon("cache", pool=[{"cache": 2}]), daemon("template")
        full = until_full(pooling)
        self.starts = [
            Starts(pooling, IMAGE, "pool", full),
            Starts(cloning, IMAGE, "template"),
            Starts(daemon("direct"), IMAGE, "cold"),
        ]
        self.calls = Calls(pooling, IMAGE, "pool", full)
        self.guests = Guests(cloning, IMAGE)

    @property
    def steps(self) -> list[Callable[[], None]]:
        starts = [step for start in self.starts for step in (start.run_true, start.run_echo)]
        return [*starts, self.calls.run_start, self.calls.run_output, self.guests.exec]

    @property
    def streams(self) -> list[Callable[[], None]]:
        return [self.guests.write, self.guests.read]

    @property
    def series(self) -> list[Series]:
        """Without the steps of a start, which another checkout may call otherwise."""
        starts = [series for start in self.starts for series in (start.whole, start.first)]
        return [*starts, *self.calls.series, *self.guests.series]


def in_turn(before: list[Callable[[], None]], after: list[Callable[[], None]]) -> list[Callable[[], None]]:
    """Each step of both, one after the other; who is first changes from step to step."""
    pairs = [pair if number % 2 else pair[::-1] for number, pair in enumerate(zip(before, after, strict=True))]
    return [step for pair in pairs for step in pair]


def table(before: list[Series], after: list[Series]) -> str:
    width = max(len(series.name) for series in after)
    lines = [f"{'':{width}}  {'before':>8}  {'after':>8}  {'after/before':>12}  unit  samples"]
    for old, new in zip(before, after, strict=True):
        ratio = new.median / old.median
        numbers = f"{old.median:>8.1f}  {new.median:>8.1f}  {ratio:>12.3f}  {new.unit:<4}  {len(new.samples):>7}"
        lines.append(f"{new.name:{width}}  {numbers}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.compare", description=__doc__)
    parser.add_argument("other", type=Path, help="root of the checkout of before")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--streams", type=int, default=5, help="rounds of 100 MB each way")
    args = parser.parse_args()
    kernel = our_kernel()
    with ExitStack() as stack:
        before, after = (Checkout(stack, root, kernel) for root in (args.other.resolve(), CHECKOUT))
        steps, streams = in_turn(before.steps, after.steps), in_turn(before.streams, after.streams)
        say("one round to warm up, not counted")
        interleave(1, [*steps, *streams], lambda _: None)
        for series in before.series + after.series:
            series.samples.clear()
        interleave(args.rounds, steps, say)
        interleave(args.streams, streams, lambda line: say(f"streams, {line}"))
        print(table(before.series, after.series))
    return 0


if __name__ == "__main__":
    sys.exit(main())
