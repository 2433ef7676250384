"""Measures this machine and prints one table: `make bench`, or python -m bench [--rounds 10] [--guests-only]."""

import argparse
import json
import platform
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench.guests import Guests, Starts
from bench.images import ImageLoad
from bench.measure import Series, interleave
from bench.peers import runc
from hypercontainer.testing.busybox import write_archive
from hypercontainer.testing.daemon import private_daemon

CHECKOUT = Path(__file__).parents[1]
KERNELS = CHECKOUT / ".cache/hyper/kernels"
IMAGE = "busybox"
IDLE = 3


def say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)


def measure(rounds: int, folder: Path, *, images: bool) -> list[Series]:
    with ExitStack() as stack:
        daemon = stack.enter_context(private_daemon(KERNELS, {"factory": "template"}))
        booting = stack.enter_context(private_daemon(KERNELS, {"factory": "direct"}))
        peer = stack.enter_context(runc(folder / "runc"))
        write_archive(folder / "busybox.tar")
        for one in (daemon, booting):
            loaded = one.ctl("load", "-i", str(folder / "busybox.tar"))
            if loaded.status:
                raise SystemExit(loaded.err)
        say("starting a virtual machine")
        cold, clones, guests = Starts(booting, IMAGE, "cold"), Starts(daemon, IMAGE, "clone"), Guests(daemon, IMAGE)
        quick = [clones.run_echo, cold.run_echo, peer.run, clones.run_true, cold.run_true]
        quick += [guests.exec, peer.exec, guests.write, guests.read]
        say("one round to warm up, not counted")
        interleave(1, quick, lambda _: None)
        measured = (cold, clones, guests, peer)
        for series in (series for part in measured for series in part.series):
            series.samples.clear()
        interleave(rounds, quick, say)
        say(f"memory of {IDLE} idle virtual machines")
        guests.idle(IDLE)
        results = [series for part in measured for series in part.series]
        if images:
            say("image load: making 20,000 files")
            load = ImageLoad(daemon, folder)
            interleave(max(2, rounds // 3), [load.load, load.unpack], say)
            results += load.series
        return results


def table(results: list[Series]) -> str:
    width = max(len(series.name) for series in results)
    lines = [f"{'':{width}}  {'median':>9}  {'p95':>9}  unit  samples"]
    lines += [f"{s.name:{width}}  {s.median:>9.1f}  {s.p95:>9.1f}  {s.unit:<4}  {len(s.samples):>7}" for s in results]
    return "\n".join(lines)


def keep(results: list[Series], rounds: int) -> Path:
    """Write every sample to bench/out, for comparison with another day."""
    out = CHECKOUT / "bench/out"
    out.mkdir(exist_ok=True)
    path = out / time.strftime("%Y%m%d-%H%M%S.json")
    host = {"kernel": platform.release(), "machine": platform.machine(), "rounds": rounds}
    samples = {s.name.strip(): {"unit": s.unit, "samples": s.samples} for s in results}
    path.write_text(json.dumps({"host": host, "series": samples}, indent=1))
    return path


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description="Measure this machine.")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--guests-only", action="store_true", help="leave out image load, which takes a minute")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hyper-bench-") as folder:
        results = [s for s in measure(args.rounds, Path(folder), images=not args.guests_only) if s.samples]
    print(table(results))
    print(f"every sample: {keep(results, args.rounds).relative_to(CHECKOUT)}; our promises: bench/targets.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
