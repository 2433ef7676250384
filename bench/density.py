"""How many virtual machines this host holds, and what each more of them costs: `make density`.

python -m bench.density [--limit 1000] [--memory 0.9] [--minutes 20] [--memory-mib 128] [--kernel NAME]
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import memory, plot
from bench.fleet import Fleet, Point
from bench.places import IMAGE, KERNELS, OUT, load_image, our_kernel, say
from hypercontainer.testing.daemon import free_subnet, private_daemon

STEPS = (1, 10, 25, 50, 75, *range(100, 501, 50), *range(600, 1001, 100))
WINDOW_S = 5.0
STARTING = 0.6  # of the time; the rest is for asking each and ending all


class Bounds:
    """Enough is enough: as many as were asked for, as much memory, as much time."""

    def __init__(self, limit: int, share: float, minutes: float) -> None:
        self.limit, self.share = limit, share
        self._deadline = time.monotonic() + minutes * 60 * STARTING
        self.why = ""

    def reached(self) -> bool:
        if not self.why and memory.used_mib() > self.share * memory.total_mib():
            self.why = f"{self.share:.0%} of the host's memory is used"
        if not self.why and time.monotonic() > self._deadline:
            self.why = "the time is up"
        return bool(self.why)


def measure(fleet: Fleet, steps: Sequence[int], bounds: Bounds, tell: Callable[[str], None]) -> list[Point]:
    """Start more and more; a point for each step."""
    fleet.warm_up()
    points: list[Point] = []
    for count in [step for step in steps if step < bounds.limit] + [bounds.limit]:
        starts = fleet.grow(count, bounds.reached)
        if not fleet.pids or (points and len(fleet.pids) == points[-1].count):
            break
        points.append(fleet.measure(starts, WINDOW_S))
        tell(str(points[-1]))
        if bounds.reached():
            break
    return points


def check_and_end(fleet: Fleet, tell: Callable[[str], None]) -> bool:
    """Ask each, end all, look for what is left. False if anything is wrong."""
    count, begin = len(fleet.pids), time.monotonic()
    silent = fleet.silent()
    tell(f"{count - len(silent)} of {count} answer; asked in {time.monotonic() - begin:.0f} s")
    begin = time.monotonic()
    stay = fleet.end()
    tell(f"{count - len(stay)} of {count} ended in {time.monotonic() - begin:.0f} s")
    left = fleet.left()
    tell(f"left behind: {'; '.join(left[:20])}" if left else "nothing is left")
    return not (silent or stay or left)


def keep(points: list[Point], folder: Path, caption: str) -> Path:
    """The figures and the picture, below `folder`."""
    folder.mkdir(exist_ok=True)
    path = folder / time.strftime("density-%Y%m%d-%H%M%S.json")
    host = {"kernel": platform.release(), "memory_mib": memory.total_mib()}
    path.write_text(json.dumps({"host": host, "points": [point.document() for point in points]}, indent=1))
    path.with_suffix(".svg").write_text(plot.svg(caption, "virtual machines that run", curves(points)))
    return path


def curves(points: list[Point]) -> list[plot.Curve]:
    x = [point.count for point in points]
    return [
        plot.Curve(title="one more start, create and start, ms", x=x, y=[p.start_ms for p in points]),
        plot.Curve(title="memory of one (PSS), MiB", x=x, y=[p.pss_mib for p in points]),
        plot.Curve(title="memory of the host, GiB", x=x, y=[p.used_mib / 1024 for p in points]),
        plot.Curve(title="hyperd's memory (RSS), MiB", x=x, y=[p.hyperd_rss_mib for p in points]),
        plot.Curve(title="processor while idle, all, % of a core", x=x, y=[p.guests_cpu for p in points]),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.density", description=__doc__)
    parser.add_argument("--limit", type=int, default=1000, help="virtual machines (default: %(default)s)")
    parser.add_argument("--memory", type=float, default=0.9, help="share of the host's memory (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=20.0, help="all of it (default: %(default)s)")
    parser.add_argument("--memory-mib", type=int, default=128, help="of each virtual machine (default: %(default)s)")
    parser.add_argument("--kernel", default=our_kernel(), help="a bundle's name (default: our own, where one is built)")
    args = parser.parse_args()
    bounds, begin = Bounds(args.limit, args.memory, args.minutes), time.monotonic()
    settings = {"kernel": args.kernel, "memory_mib": args.memory_mib, "factory": "template", "subnet": free_subnet(20)}
    with private_daemon(KERNELS, settings) as daemon:
        load_image(daemon)
        fleet = Fleet(daemon, IMAGE)
        say(f"{args.memory_mib} MiB each, kernel {args.kernel or 'as hyperd chooses'}")
        print(Point.HEAD, flush=True)
        points = measure(fleet, STEPS, bounds, lambda line: print(line, flush=True))
        say(f"{len(fleet.pids)} run after {time.monotonic() - begin:.0f} s: {bounds.why or 'as many as asked for'}")
        right = check_and_end(fleet, say)
    print("\n\n".join(plot.text(curve) for curve in curves(points)))
    starts = statistics.median(point.start_ms for point in points)
    caption = f"{points[-1].count} virtual machines of {args.memory_mib} MiB; a start takes {starts:.0f} ms"
    path = keep(points, OUT, caption)
    print(f"figures: {path}, picture: {path.with_suffix('.svg')}; all in {time.monotonic() - begin:.0f} s")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
