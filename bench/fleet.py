"""Many idle virtual machines of one hyperd: started, measured, asked, ended."""

import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import calls, memory
from hypercontainer.client.http import Client
from hypercontainer.errors import HyperError
from hypercontainer.testing.daemon import PrivateDaemon

TOGETHER = 4  # calls under way at once where only the result counts
SINGLE = 5  # starts one after the other whose time is what a point says
SAMPLED = 40  # virtual machines whose memory is read, at most: their pages are walked for it
LEAVING_S = 10.0  # a keeper writes down how its VMM ended, after that is gone
SETTLE_S = 10.0  # what a guest still does right after its start is not what it does when idle


@dataclass(frozen=True, kw_only=True)
class Point:
    """What it costs to have `count` virtual machines."""

    count: int
    start_ms: float  # of one more, create and start, median
    pss_mib: float  # of one of them, its keeper included
    used_mib: float  # of the host, more than before the first of them
    hyperd_rss_mib: float
    hyperd_cpu: float  # % of a core while nobody asks for anything
    guests_cpu: float  # % of a core, all of them together

    HEAD = "   VMs  start ms  PSS/VM MiB  host MiB  host/VM  hyperd MiB  hyperd CPU %  all VMs CPU %"

    def __str__(self) -> str:
        each = self.used_mib / self.count
        return (
            f"{self.count:6}  {self.start_ms:8.0f}  {self.pss_mib:10.1f}  {self.used_mib:8.0f}  {each:7.1f}"
            f"  {self.hyperd_rss_mib:10.1f}  {self.hyperd_cpu:12.2f}  {self.guests_cpu:13.2f}"
        )

    def document(self) -> dict[str, float]:
        return asdict(self)


class Fleet:
    """The virtual machines that this object started in `daemon`, which runs nothing else."""

    def __init__(self, daemon: PrivateDaemon, image: str) -> None:
        self.daemon, self.image = daemon, image
        self.pids: dict[str, int] = {}  # container -> VMM
        self.before_mib = memory.used_mib()
        self._known: set[int] = set()  # every process that one of them was
        self._cgroups: set[Path] = set()

    def grow(self, count: int, enough: Callable[[], bool] = lambda: False) -> list[float]:
        """Start more until there are `count` of them or it is `enough`; milliseconds of the last few, which are
        started alone unless it was `enough` before."""
        missing = max(0, count - len(self.pids))
        quick = max(0, missing - SINGLE)
        shares = [len(range(n, quick, TOGETHER)) for n in range(TOGETHER)]
        with self._callers(TOGETHER) as callers, ThreadPoolExecutor(TOGETHER) as pool:
            parts = list(pool.map(lambda caller, share: self._several(caller, share, enough), callers, shares))
        with calls.client(self.daemon) as caller:
            alone = self._several(caller, missing - quick, enough)
        return alone or [took for part in parts for took in part[-1:]]

    def _several(self, caller: Client, count: int, enough: Callable[[], bool]) -> list[float]:
        took: list[float] = []
        while len(took) < count and not enough():
            took.append(self._one(caller))
        return took

    def warm_up(self) -> None:
        """Have made whatever the first start makes: it is no part of what one more costs."""
        with calls.client(self.daemon) as caller:
            calls.remove(caller, calls.idle(caller, self.image)[0])
        self.before_mib = memory.used_mib()

    def _one(self, caller: Client) -> float:
        container, took = calls.idle(caller, self.image)
        self.pids[container] = pid = calls.vmm_pid(caller, container)
        self._known.update(memory.vmm(pid))
        self._cgroups.update(memory.cgroups(pid))
        return took

    def measure(self, starts_ms: list[float], window_s: float) -> Point:
        """What they take now, while nobody asks for anything during `window_s`."""
        time.sleep(SETTLE_S)
        assert self.daemon.process is not None
        hyperd = [self.daemon.process.pid]
        guests = [pid for vmm in self.pids.values() for pid in memory.vmm(vmm)]
        begin = time.perf_counter()
        spent = memory.processor_ms(hyperd), memory.processor_ms(guests)
        time.sleep(window_s)
        later = memory.processor_ms(hyperd), memory.processor_ms(guests)
        percent = 0.1 / (time.perf_counter() - begin)
        return Point(
            count=len(self.pids),
            start_ms=statistics.median(starts_ms),
            pss_mib=statistics.median(self.pss_mib()),
            used_mib=memory.used_mib() - self.before_mib,
            hyperd_rss_mib=memory.rss_mib(hyperd[0]),
            hyperd_cpu=(later[0] - spent[0]) * percent,
            guests_cpu=(later[1] - spent[1]) * percent,
        )

    def pss_mib(self) -> list[float]:
        """Of each, of some of them where there are many."""
        some = list(self.pids.values())[:: len(self.pids) // SAMPLED + 1]
        return [memory.pss_mib(memory.vmm(pid)) for pid in some]

    def silent(self) -> list[str]:
        """The containers in which no process can be run now."""
        return list(self._failed(self._answers))

    def end(self) -> list[str]:
        """Remove all of them; those that could not be."""
        failed = list(self._failed(_removed))
        self.pids = {container: self.pids[container] for container in failed}
        return failed

    def left(self) -> list[str]:
        """What is there on the host although nothing runs any more, some time after the last has ended."""
        deadline = time.monotonic() + LEAVING_S
        while (found := self._found()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return found

    def _found(self) -> list[str]:
        bridge = str(self.daemon.settings["bridge"])
        ports = Path(f"/sys/class/net/{bridge}/brif")
        nft = ["nft", "list", "table", "bridge", bridge]
        rules = subprocess.run(nft, capture_output=True, text=True, timeout=60).stdout.split("\n")
        return [
            *(f"process {pid}" for pid in self._known if (Path("/proc") / str(pid)).exists()),
            *(f"cgroup {folder}" for folder in self._cgroups if folder.exists()),
            *(f"tap {port.name}" for port in (ports.iterdir() if ports.is_dir() else [])),
            *(line.strip() for line in rules if line.strip().startswith("chain hy")),
            *(f"folder {path}" for path in (self.daemon.folder / "run/pods").glob("*")),
            *(f"folder {path}" for path in (self.daemon.root / "pods").glob("*")),
        ]

    @staticmethod
    def _answers(caller: Client, container: str) -> bool:
        try:
            return calls.answers(caller, container)
        except (HyperError, RuntimeError, OSError):
            return False

    def _failed(self, act: Callable[[Client, str], bool]) -> Iterator[str]:
        """Do `act` to each, several at a time; the containers for which it is not true."""
        with self._callers(TOGETHER) as callers, ThreadPoolExecutor(TOGETHER) as pool:
            parts = [list(self.pids)[n::TOGETHER] for n in range(TOGETHER)]
            for part in pool.map(lambda caller, part: [c for c in part if not act(caller, c)], callers, parts):
                yield from part

    @contextmanager
    def _callers(self, count: int) -> Iterator[list[Client]]:
        callers = [calls.client(self.daemon) for _ in range(count)]
        try:
            yield callers
        finally:
            for caller in callers:
                caller.close()


def _removed(caller: Client, container: str) -> bool:
    calls.remove(caller, container)
    return True
