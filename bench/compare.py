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
from bench.measure import Series
from bench.places import CHECKOUT, IMAGE, KERNELS, load_image, our_kernel, say
from bench.starts import Calls, Starts, until_full
from hypercontainer.testing.daemon import PrivateDaemon, Value, private_daemon

Steps = list[Callable[[], None]]
NEW = ("address_pools", "pool_memory_mib")  # settings that a checkout of before may not know


class Checkout:
    """What is measured of one checkout: starts from everywhere, calls, exec, streams. `quiet` is called before each
    sample, and not counted."""

    def __init__(self, stack: ExitStack, root: Path, kernel: str, quiet: Callable[[], None]) -> None:
        def daemon(factory: str, **more: Value) -> PrivateDaemon:
            settings: dict[str, Value | None] = {"kernel": kernel, "factory": factory, **more, **dict.fromkeys(NEW)}
            made = stack.enter_context(private_daemon(KERNELS, settings, root / ".venv/bin"))
            load_image(made)
            return made

        pooling, cloning = daemon("cache", pool=[{"cache": 2}]), daemon("template")
        self.full, self._quiet = until_full(pooling), quiet
        self.starts = [
            Starts(pooling, IMAGE, "pool", quiet),
            Starts(cloning, IMAGE, "template", quiet),
            Starts(daemon("direct"), IMAGE, "cold", quiet),
        ]
        self.calls = Calls(pooling, IMAGE, "pool", quiet)
        self.guests = Guests(cloning, IMAGE)

    @property
    def steps(self) -> Steps:
        starts = [step for start in self.starts for step in (start.run_true, start.run_echo)]
        return [*starts, self.calls.run_start, self.calls.run_output, self._exec]

    def _exec(self) -> None:
        self._quiet()
        self.guests.exec()

    @property
    def streams(self) -> Steps:
        return [self.guests.write, self.guests.read]

    @property
    def series(self) -> list[Series]:
        """Without the steps of a start, which another checkout may call otherwise."""
        starts = [series for start in self.starts for series in (start.whole, start.first)]
        return [*starts, *self.calls.series, *self.guests.series]


def in_turn(rounds: int, before: Steps, after: Steps, say: Callable[[str], None]) -> None:
    """Each step of both, one after the other; who is first changes from round to round."""
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for pair in zip(before, after, strict=True):
            for step in pair if number % 2 else pair[::-1]:
                step()


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
    checkouts: list[Checkout] = []

    def quiet() -> None:
        for checkout in checkouts:
            checkout.full()

    with ExitStack() as stack:
        checkouts += [Checkout(stack, root, kernel, quiet) for root in (args.other.resolve(), CHECKOUT)]
        before, after = checkouts
        say("one round to warm up, not counted")
        in_turn(1, [*before.steps, *before.streams], [*after.steps, *after.streams], lambda _: None)
        for series in before.series + after.series:
            series.samples.clear()
        in_turn(args.rounds, before.steps, after.steps, say)
        in_turn(args.streams, before.streams, after.streams, lambda line: say(f"streams, {line}"))
        print(table(before.series, after.series))
    return 0


if __name__ == "__main__":
    sys.exit(main())
