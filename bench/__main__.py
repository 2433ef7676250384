"""Measures this machine beside its peers and prints one table: `make bench`.

python -m bench [--rounds 20] [--without PART,… | --only PART,…]. Parts: starts, oci, engines, files, streams,
terminals, docker, builds, kubelet, in-a-row, architectures, machines, at-once, fleet, images
"""

import argparse
import json
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import bare, density, parts, plot
from bench.fleet import Fleet, Point
from bench.images import ImageLoad
from bench.measure import Series, interleave, table
from bench.parts import Bench
from bench.places import CHECKOUT, IMAGE, KERNELS, OUT, load_image, our_kernel, say
from hypercontainer.model.settings import Settings
from hypercontainer.testing.daemon import free_subnet, private_daemon

FLEET = (1, 10, 25, 50, 75)
BARE = 20
PARTS = (
    "starts", "oci", "engines", "files", "streams", "terminals", "docker", "builds", "kubelet", "in-a-row",
    "architectures", "machines", "at-once", "fleet", "images",
)  # fmt: skip


def fleet(bench: Bench, largest: int) -> list[Point]:
    """Up to `largest` idle virtual machines of the usual size: what they take."""
    with private_daemon(KERNELS, {**bench.usual, "factory": "template", "subnet": free_subnet(20)}) as daemon:
        load_image(daemon)
        many = Fleet(daemon, IMAGE)
        say(Point.HEAD)
        points = density.measure(many, FLEET, density.Bounds(largest, 0.9, 10.0), say)
        last = points[-1]
        each = Series(f"{last.count} idle VMs: PSS of each", "MiB", many.pss_mib())
        bench.results += [
            each,
            bare.pss(min(BARE, largest), bench.kernel, Settings().memory_mib, accelerator=bench.accelerator),
            Series(f"{last.count} idle VMs: hyperd's RSS", "MiB", [last.hyperd_rss_mib]),
            Series(f"{last.count} idle VMs: processor, all of them", "%", [last.guests_cpu]),
            Series(f"{last.count} idle VMs: processor, hyperd", "%", [last.hyperd_cpu]),
        ]
        if not density.check_and_end(many, say):
            bench.absent.append("fleet: not all answered, or something was left: see above")
        return points


def keep(results: list[Series], points: list[Point], rounds: int) -> Path:
    """Write every sample to bench/out, for comparison with another day."""
    OUT.mkdir(exist_ok=True)
    path = OUT / time.strftime("%Y%m%d-%H%M%S.json")
    host = {"kernel": platform.release(), "machine": platform.machine(), "rounds": rounds}
    samples: Mapping[str, object] = {s.name.strip(): {"unit": s.unit, "samples": s.samples} for s in results}
    curve = [point.document() for point in points]
    path.write_text(json.dumps({"host": host, "series": samples, "fleet": curve}, indent=1))
    return path


def named(words: str) -> set[str]:
    """Parts, by commas."""
    found = set(filter(None, words.split(",")))
    if wrong := found - set(PARTS):
        raise argparse.ArgumentTypeError(f"there is no part {', '.join(sorted(wrong))}")
    return found


@contextmanager
def measuring(kernel: str, accelerator: str) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="hyper-bench-") as folder, ExitStack() as stack:
        yield Bench(stack, Path(folder), kernel, accelerator)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--without", type=named, default=set(), metavar="PART,…", help="parts to leave out")
    which.add_argument("--only", type=named, default=set(PARTS), metavar="PART,…", help="parts to measure")
    parser.add_argument("--kernel", default=our_kernel(), help="a bundle's name (default: our own, where one is built)")
    parser.add_argument("--accelerator", default="auto", choices=("auto", "kvm", "tcg"), help="of our guests")
    parser.add_argument("--fleet", type=int, default=100, help="idle virtual machines at most (default: %(default)s)")
    args = parser.parse_args()
    wanted = args.only - args.without
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: ended"))  # what was started ends with its block
    points: list[Point] = []
    say(f"kernel {args.kernel or 'as hyperd chooses'}")
    with measuring(args.kernel, args.accelerator) as bench:
        if "starts" in wanted:
            parts.starts(bench, args.rounds, streams="streams" in wanted)
        if "oci" in wanted:
            parts.oci(bench, args.rounds)
        if "engines" in wanted:
            parts.with_engines(bench, args.rounds)
        if "files" in wanted:
            parts.files(bench, max(2, args.rounds // 10))
        if "terminals" in wanted:
            parts.terminals(bench, max(3, args.rounds // 4))
        if "docker" in wanted:
            parts.docker_clients(bench, max(3, args.rounds // 2))
        if "builds" in wanted:
            parts.builds(bench, max(3, args.rounds // 4))
        if "images" in wanted:
            say("image load: making 20,000 files")
            load = ImageLoad(bench.daemon(factory="direct"), bench.folder)
            interleave(3, [load.load, load.unpack], say)
            bench.keep(load)
        results, absent = bench.results, bench.absent
    with measuring(args.kernel, args.accelerator) as bench:  # nothing else runs beside these
        if "kubelet" in wanted:
            parts.kubelets(bench, args.rounds)
        if "in-a-row" in wanted:
            parts.in_a_row(bench, max(3, args.rounds // 4))
        if "architectures" in wanted:
            parts.architectures(bench, max(3, args.rounds // 4))
        if "machines" in wanted:
            parts.machine_types(bench, max(3, args.rounds // 2))
        if "at-once" in wanted:
            parts.at_once(bench, args.rounds)
        if "fleet" in wanted:
            points = fleet(bench, args.fleet)
        results, absent = results + bench.results, absent + bench.absent
    results = [series for series in results if series.samples]
    if points:
        print("\n\n".join(plot.text(curve) for curve in density.curves(points)), "\n")
    print(table(results) if results else "nothing was measured")
    print("\n".join(dict.fromkeys(absent)), end="\n" if absent else "")
    print(f"every sample: {keep(results, points, args.rounds).relative_to(CHECKOUT)}; our promises: bench/targets.md")
    print("further, to 500 and 1,000 virtual machines: make density")
    return 0


if __name__ == "__main__":
    sys.exit(main())
