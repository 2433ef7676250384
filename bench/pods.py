"""What pods of an engine's containers take of the host's memory: machines that `runv` made, which do nothing."""

import re
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from bench import memory
from bench.engines import new_name
from bench.measure import Series
from bench.runtimes import Runtime
from hypercontainer.testing.daemon import PrivateDaemon, stand_ins

SETTLE_S = 5.0
GUEST = re.compile(r"^\S+-\S+ \S+ \S+ \S+ \d+ +(\S.*)?$")  # the first line of a mapping, in smaps


def measure(daemon: PrivateDaemon, runtime: Runtime, count: int) -> list[Series]:
    """Memory of each of `count` pods, MiB: in all, and what of it is not the guest's."""
    each, guest, vmm, beside = (
        Series(f"{count} pods of runv: {what}", "MiB")
        for what in (
            "PSS of each, all of it",
            "  of it the guest's memory",
            "  of it QEMU and virtiofsd",
            "  of it beside these",
        )
    )
    hyperd = Series(f"{count} pods of runv: hyperd's PSS", "MiB")
    ids = [new_name() for _ in range(count)]
    try:
        for id in ids:
            runtime.run("create", "--bundle", str(runtime.long), id)
            runtime.run("start", id)
        time.sleep(SETTLE_S)
        beside_each = stand_ins(daemon.folder)
        for folder in (daemon.folder / "run/pods").iterdir():
            machine = [pid for name in ("qemu", "virtiofsd") for pid in of(folder / f"{name}.pid")]
            keepers = [pid for pid in machine if _is_keeper(pid)]
            memory_mib = _guest_mib(machine)
            all_mib = memory.pss_mib(machine)
            keepers_mib = memory.pss_mib(keepers) + memory.pss_mib(beside_each) / len(beside_each)
            each.samples.append(all_mib + memory.pss_mib(beside_each) / len(beside_each))
            guest.samples.append(memory_mib)
            vmm.samples.append(all_mib - memory_mib - memory.pss_mib(keepers))
            beside.samples.append(keepers_mib)
        assert daemon.process is not None
        hyperd.samples.append(memory.pss_mib([daemon.process.pid]))
    finally:
        for id in ids:
            subprocess.run([*runtime.argv, "delete", "--force", id], capture_output=True, timeout=60)
    return [each, guest, vmm, beside, hyperd]


def of(path: Path) -> list[int]:
    """The process that keeps the one that this is of, and all below it."""
    if not path.exists():
        return []
    pid = int(path.read_text().split()[0])
    return memory.descendants(pid) if _is_keeper(pid) else memory.vmm(pid)


def _is_keeper(pid: int) -> bool:
    return words(pid).partition(" ")[0].endswith("/hyper-jail")


def pids(name: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text().strip() == name:
                found.append(int(path.parent.name))
        except OSError:
            pass  # it has ended
    return found


def words(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def _guest_mib(pids: Iterable[int]) -> float:
    """What is mapped of the guest's memory, and is theirs."""
    kib = 0
    for pid in pids:
        ours = False
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            if found := GUEST.match(line):
                ours = "guest memory" in (found[1] or "")
            elif ours and line.startswith("Pss:"):
                kib += int(line.split()[1])
    return kib / 1024
