"""What processes take on the host: memory and processor time, read from /proc."""

import os
import re
import time
from collections.abc import Iterable
from pathlib import Path


def pss_mib(pids: Iterable[int]) -> float:
    """Proportional set size: what several processes share is divided among them."""
    return sum(_kib(f"/proc/{pid}/smaps_rollup", "Pss") for pid in pids) / 1024


def rss_mib(pid: int) -> float:
    return _kib(f"/proc/{pid}/status", "VmRSS") / 1024


def used_mib() -> float:
    """Of the whole host: what is not available to a program that starts now."""
    return (_kib("/proc/meminfo", "MemTotal") - _kib("/proc/meminfo", "MemAvailable")) / 1024


def total_mib() -> float:
    return _kib("/proc/meminfo", "MemTotal") / 1024


def _kib(path: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(path).read_text(), re.MULTILINE)
    if found is None:
        raise LookupError(f"{path} has no {name}")
    return int(found[1])


def descendants(pid: int) -> list[int]:
    """`pid`, its children, and theirs."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(found for child in map(int, children) for found in descendants(child))]


def vmm(pid: int) -> list[int]:
    """The processes of the virtual machine whose VMM is `pid`: that, and the one that keeps it."""
    keeper = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return descendants(keeper)


def processor_ms(pids: Iterable[int]) -> float:
    """Processor time that `pids` have taken so far, those threads with it that have ended, exactly (`stat` counts in
    10 ms)."""
    clocks = [~pid << 3 | 2 for pid in pids]  # as clock_getcpuclockid(3) makes them
    return sum(time.clock_gettime_ns(clock) for clock in clocks) / 1e6


def busy_ms() -> float:
    """Processor time that this whole host has spent, in steps of 10 ms."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    return (user + nice + system + sum(interrupts)) * 1000 / os.sysconf("SC_CLK_TCK")


def cgroups(pid: int) -> list[Path]:
    """The folders of the cgroups that `pid` is in and its caller is not, in each hierarchy that is mounted."""
    own = set(Path("/proc/self/cgroup").read_text().split("\n"))
    lines = [line for line in Path(f"/proc/{pid}/cgroup").read_text().split("\n") if line not in own]
    roots = [(line.split(":", 2)[1] or ".", line.split(":", 2)[2].lstrip("/")) for line in lines]
    return [Path("/sys/fs/cgroup") / root / path for root, path in roots if path]
