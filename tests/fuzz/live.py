"""A hyperd of one's own, and callers at its doors who are nobody: python -m tests.fuzz.live SECONDS SEED.

Nobody's role is `user`: what is asked for by accident does not reach this host. What they leave is removed as they go,
so that few guests run at a time.
"""

import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypercontainer.testing.busybox import write_archive
from hypercontainer.testing.daemon import PrivateDaemon, Value, private_daemon
from tests.conftest import KERNELS
from tests.fuzz.callers import Callers
from tests.fuzz.door import Door, Wrong

SETTINGS: dict[str, Value] = {"accelerator": "tcg", "memory_mib": 256, "factory": "template"}
FAULTS = re.compile(r"internal error|Traceback|never retrieved|never awaited| (ERROR|CRITICAL) ")
SPARE = 16  # descriptors: what comes and goes by itself
SETTLED_S = 120.0


@contextmanager
def visited(kernels: Path) -> Iterator[Callers]:
    """Callers of a new hyperd. Wrong if they hurt it: a fault in its log, descriptors that it still holds."""
    with tempfile.TemporaryDirectory(prefix="hyd-") as folder:
        Path(folder).chmod(0o711)  # for nobody to find the doors
        doors = {dialect: Door(Path(folder, dialect)) for dialect in ("rest", "docker")}
        tables = [
            {"path": str(door.path), "dialect": name, "mode": 0o666, "role": "user"} for name, door in doors.items()
        ]
        busybox = Path(folder, "busybox.tar")
        write_archive(busybox)
        with private_daemon(kernels, {**SETTINGS, "door": tables}) as hyperd:
            callers = Callers(doors, busybox)
            try:
                callers.furnish()
                callers.leave()
                held = descriptors(hyperd)
                yield callers
                callers.leave()
                settle(hyperd, held)
            finally:
                if faults := [line for line in hyperd.log().splitlines() if FAULTS.search(line)]:
                    Path("failed.log").write_text(hyperd.log())
                    raise Wrong(f"hyperd's log, which is in failed.log: {faults[:5]}")


def descriptors(hyperd: PrivateDaemon) -> int:
    assert hyperd.process
    return len(os.listdir(f"/proc/{hyperd.process.pid}/fd"))


def settle(hyperd: PrivateDaemon, held: int) -> None:
    """Wrong if it does not come back to as many descriptors."""
    deadline = time.monotonic() + SETTLED_S
    while (now := descriptors(hyperd)) > held + SPARE:
        if time.monotonic() > deadline:
            raise Wrong(f"hyperd holds {now} descriptors, {held} before")
        time.sleep(0.1)


if __name__ == "__main__":
    seconds, seed = float(sys.argv[1]), int(sys.argv[2])
    with visited(KERNELS) as callers:
        callers.furnish()
        callers.refused()
        ran = callers.tables(seed, each=10, until=time.monotonic() + seconds)
        print(f"tables: {ran} calls of both APIs; nothing found", flush=True)
        ran = callers.strangers(seed, until=time.monotonic() + seconds)
        print(f"strangers: {ran} inputs; nothing found", flush=True)
