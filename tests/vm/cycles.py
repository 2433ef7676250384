"""Containers that come and go by runv, one after the other, and what hyperd is like meanwhile.

    python -m tests.vm.cycles [--count 300]

After each sixth of them hyperd's descriptors are counted and its memory is measured (PSS), once all guests that are to
wait do; in the end nothing of any container is left.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

from tests.vm.deaths import Deaths, Wrong, deaths
from tests.vm.test_pool import full

GROWTH_KIB = 4 << 10  # from the first sixth on: what Python's allocator and its caches take, not a container's


class Sample(NamedTuple):
    after: int
    descriptors: int
    threads: int
    pss_kib: int


def cycles(run: Deaths, count: int) -> list[Sample]:
    """create, start and delete, `count` times; Wrong when something of one is left."""
    samples = []
    for n in range(1, count + 1):
        run.lives()
        if n % max(1, count // 6) == 0:
            full(run.hyper)
            samples.append(sample(n, run))
            print(*(f"{key} {value}" for key, value in samples[-1]._asdict().items()), sep=", ", flush=True)
    run.end()
    first, last = samples[0], samples[-1]
    if last.pss_kib > first.pss_kib + GROWTH_KIB:
        raise Wrong(f"hyperd grows: {first}, {last}")
    return samples


def sample(n: int, run: Deaths) -> Sample:
    hyperd = run.hyper.process
    assert hyperd
    rollup = Path(f"/proc/{hyperd.pid}/smaps_rollup").read_text().splitlines()
    [pss] = [int(line.split()[1]) for line in rollup if line.startswith("Pss:")]
    threads = len(list(Path(f"/proc/{hyperd.pid}/task").iterdir()))
    return Sample(n, len(run.descriptors()), threads, pss)


def main() -> int:
    p = argparse.ArgumentParser(prog="cycles", description=__doc__)
    p.add_argument("--count", type=int, default=300)
    arguments = p.parse_args()
    try:
        with deaths(0) as run:
            cycles(run, arguments.count)
    except Wrong as e:
        print(f"cycles: {e}", file=sys.stderr)
        return 1
    print(f"{arguments.count} containers, nothing left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
