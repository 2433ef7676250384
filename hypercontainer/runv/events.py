"""events: what a container uses, and that its memory was too little, a line of JSON each."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from hypercontainer.runv.door import Door, Refused
from hypercontainer.runv.flags import UsageError

UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
WAIT_S = 30.0  # of one call
RAW = {  # words of memory.stat, and ours
    "anon": "anon_bytes",
    "file": "file_bytes",
    "file_mapped": "mapped_bytes",
    "inactive_file": "inactive_file_bytes",
    "pgfault": "page_faults",
    "pgmajfault": "major_page_faults",
}


def interval_s(text: str) -> float:
    """Of "1m30s", as Go has it."""
    parts = re.findall(r"([0-9.]+)([a-z]+)", text)
    try:
        found = sum(float(number) * UNITS_S[unit] for number, unit in parts)
    except (KeyError, ValueError):
        found = 0.0
    if "".join(number + unit for number, unit in parts) != text or not found > 0:
        raise UsageError(f"invalid value {text!r} for --interval: it is no duration, such as 5s")
    return found


def events(door: Door, owner: str, id: str, *, once: bool, every_s: float) -> None:
    """Until it has ended. `once`: what it uses now, alone. Refused when it does not run."""
    kills = 0
    usage: dict[str, Any] | None = door.call("usage", owner=owner, id=id)
    while True:
        if usage:
            for _ in range(0 if once else usage["oom_kills"] - kills):
                _print({"type": "oom", "id": id})
            kills = usage["oom_kills"]
            _print({"type": "stats", "id": id, "data": _stats(usage)})
        if once:
            return
        end = _end(door, owner, id, every_s)
        if end["ended"]:
            if end.get("oom") and not kills:
                _print({"type": "oom", "id": id})
            return
        usage = _usage(door, owner, id)


def _usage(door: Door, owner: str, id: str) -> dict[str, Any] | None:
    """None: it has ended, or is paused."""
    try:
        found: dict[str, Any] = door.call("usage", owner=owner, id=id)
        return found
    except Refused as e:
        if e.kind in ("not-found", "failed-precondition"):
            return None
        raise


def _end(door: Door, owner: str, id: str, within_s: float) -> dict[str, Any]:
    deadline = time.monotonic() + within_s
    while True:
        left_s = max(0.0, deadline - time.monotonic())
        end: dict[str, Any] = door.call("await_end", owner=owner, id=id, within_s=min(left_s, WAIT_S))
        if end["ended"] or left_s <= WAIT_S:
            return end


def _stats(usage: dict[str, Any]) -> dict[str, Any]:
    """In runc's words."""
    memory = {"limit": usage["memory_limit_bytes"], "usage": usage["memory_bytes"]}
    told = {"max": usage["memory_peak_bytes"] or 0, "failcnt": usage["memory_limit_hits"] or 0}
    kernel = {"limit": 0, "usage": usage["memory_kernel_bytes"] or 0, "failcnt": 0}
    raw = {word: usage[key] for word, key in RAW.items()}
    return {
        "cpu": {
            "usage": {"total": usage["cpu_ns"], "kernel": usage["system_ns"], "user": usage["user_ns"]},
            "throttling": {
                "periods": usage["periods"],
                "throttledPeriods": usage["throttled_periods"],
                "throttledTime": usage["throttled_ns"],
            },
        },
        "memory": {"cache": usage["file_bytes"], "usage": memory | told, "kernel": kernel, "raw": raw},
        "pids": {"current": usage["pids"], **({"limit": usage["pids_limit"]} if usage["pids_limit"] else {})},
        "blkio": {
            "ioServiceBytesRecursive": _blocks(usage["read_bytes"], usage["written_bytes"]),
            "ioServicedRecursive": _blocks(usage["reads"], usage["writes"]),
        },
        "network_interfaces": [_interface(name, nic) for name, nic in usage.get("networks", {}).items()],
    }


def _blocks(read: int, write: int) -> list[dict[str, Any]]:
    return [{"op": "Read", "value": read}, {"op": "Write", "value": write}]


def _interface(name: str, nic: dict[str, int]) -> dict[str, Any]:
    counters = {"".join(part.title() for part in key.split("_")): value for key, value in nic.items()}
    return {"Name": name, **counters}


def _print(event: dict[str, Any]) -> None:
    print(json.dumps(event), flush=True)
