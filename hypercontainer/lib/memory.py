"""Memory of this host, and of its processes."""

import re
from pathlib import Path

AVAILABLE = re.compile(rb"^MemAvailable: +([0-9]+) kB", re.MULTILINE)
TOTAL = re.compile(rb"^MemTotal: +([0-9]+) kB", re.MULTILINE)
PSS = re.compile(rb"^Pss: +([0-9]+) kB", re.MULTILINE)


def host_kib() -> tuple[int, int]:
    """All that this host has, and what of it processes may take without swapping: proc(5), meminfo."""
    said = Path("/proc/meminfo").read_bytes()
    return _said(TOTAL, said), _said(AVAILABLE, said)


def pss_kib(pid: int) -> int:
    """Of a process, of what it shares its part: proc(5), smaps_rollup. 0: it has just ended."""
    try:
        return _said(PSS, Path(f"/proc/{pid}/smaps_rollup").read_bytes())
    except OSError:
        return 0


def _said(what: re.Pattern[bytes], text: bytes) -> int:
    found = what.search(text)
    return int(found[1]) if found else 0
