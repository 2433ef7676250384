"""Virtual machines: a start and its split, exec, throughput of its streams, memory of an idle one."""

import json
import re
import subprocess
import time
from pathlib import Path

from bench.measure import CommandFailed, Series, first_output_ms, wall_ms
from hypercontainer.testing.daemon import PrivateDaemon

MEGABYTES = 100
STEP = re.compile(r"^(\S.*?)\s{2,}(?:[\d.]+ ms\s+)?([\d.]+) ms", re.MULTILINE)  # the last figure: what it took


class Starts:
    """Virtual machines that come and go; `how` names where they come from."""

    def __init__(self, daemon: PrivateDaemon, image: str, how: str) -> None:
        self.daemon, self.image = daemon, image
        self.first = Series(f"{how}: hyperctl run --rm IMAGE echo, first output")
        self.whole = Series(f"{how}: hyperctl run --rm IMAGE true, whole command")
        self.steps: dict[str, Series] = {}
        self._how = how

    def run_echo(self) -> None:
        argv = self.daemon.argv("run", "--rm", self.image, "echo", "hello")
        self.first.samples.append(first_output_ms(argv, env=self.daemon.env)[0])

    def run_true(self) -> None:
        argv = self.daemon.argv("run", "--rm", "--timings", self.image, "true")
        begin = time.perf_counter()
        done = subprocess.run(argv, env=self.daemon.env, stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
        self.whole.samples.append((time.perf_counter() - begin) * 1e3)
        said = done.stderr.decode()
        if done.returncode:
            raise CommandFailed(f"hyperctl run: {said}")
        for name, took in STEP.findall(said):
            self.steps.setdefault(name, Series(f"  {self._how}, of it: {name}")).samples.append(float(took))

    @property
    def series(self) -> list[Series]:
        return [self.first, self.whole, *self.steps.values()]


class Guests:
    """One pod that stays, for exec and streams; idle ones for their memory."""

    def __init__(self, daemon: PrivateDaemon, image: str) -> None:
        self.daemon, self.image = daemon, image
        self.exec_series = Series("hyperctl exec true")
        self.stdin = Series(f"exec, {MEGABYTES} MB to stdin", "MB/s")
        self.stdout = Series(f"exec, {MEGABYTES} MB from stdout", "MB/s")
        self.memory = Series("memory (PSS) of an idle VM, QEMU and helpers", "MiB")
        started = daemon.ctl("run", "-d", "--name", "stays", image, "sleep", "86400")
        if started.status:
            raise CommandFailed(f"hyperctl run: {started.err}")

    def exec(self) -> None:
        self.exec_series.samples.append(wall_ms(self.daemon.argv("exec", "stays", "true"), env=self.daemon.env))

    def write(self) -> None:
        """`hyperctl exec -i` reads 100 MB of zeros from us. (Not busybox's wc or head: they go byte by byte.)"""
        argv = self.daemon.argv("exec", "-i", "stays", "sh", "-c", "cat > /dev/null")
        self.stdin.samples.append(self._rate(argv, bytes(MEGABYTES * 1_000_000)))

    def read(self) -> None:
        argv = self.daemon.argv("exec", "stays", "dd", "if=/dev/zero", "bs=1000000", f"count={MEGABYTES}")
        self.stdout.samples.append(self._rate(argv, b""))

    def _rate(self, argv: list[str], data: bytes) -> float:
        """MB/s of a command that moves MEGABYTES, its own start included."""
        begin = time.perf_counter()
        done = subprocess.run(argv, env=self.daemon.env, input=data, stdout=subprocess.PIPE, timeout=300, check=True)
        took = time.perf_counter() - begin
        assert data or len(done.stdout) == MEGABYTES * 1_000_000, len(done.stdout)
        return MEGABYTES / took

    def idle(self, count: int) -> None:
        """Boot `count` more VMs and read what each one holds, shared pages divided among those who share them."""
        names = [f"idle{n}" for n in range(count)]
        for name in names:
            self.daemon.ctl("run", "-d", "--name", name, self.image, "sleep", "86400")
        inspected = [json.loads(self.daemon.ctl("inspect", name).out)[0] for name in names]
        self.memory.samples.extend(pss_mib(document["Vm"]["Pid"]) for document in inspected)
        self.daemon.ctl("rm", "-f", *names)

    @property
    def series(self) -> list[Series]:
        return [self.exec_series, self.stdin, self.stdout, self.memory]


def pss_mib(pid: int) -> float:
    """Proportional set size of `pid` and its descendants."""
    total = 0
    for process in [pid, *descendants(pid)]:
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        total += int(re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)[1])  # type: ignore[index]
    return total / 1024


def descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [found for child in map(int, children) for found in (child, *descendants(child))]
