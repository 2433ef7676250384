"""update: other limits for a container, as flags or in a document."""

from __future__ import annotations

from typing import Any

from hypercontainer.runv.create import read
from hypercontainer.runv.door import Door
from hypercontainer.runv.flags import UsageError, Words

NUMBERS = {  # flags, and where their values are in OCI's resources
    "cpu-idle": ("cpu", "idle"),
    "cpu-period": ("cpu", "period"),
    "cpu-quota": ("cpu", "quota"),
    "cpu-share": ("cpu", "shares"),
    "memory": ("memory", "limit"),
    "memory-reservation": ("memory", "reservation"),
    "memory-swap": ("memory", "swap"),
    "pids-limit": ("pids", "limit"),
}
WORDS = {"cpuset-cpus": ("cpu", "cpus"), "cpuset-mems": ("cpu", "mems")}
UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
WITH_UNITS = ("memory", "memory-reservation", "memory-swap")


def update(door: Door, owner: str, words: Words) -> None:
    path = words.values.get("resources")
    resources = flagged(words) if path is None else read("/dev/stdin" if path == "-" else path)
    door.call("update", owner=owner, id=words.arguments[0], resources=resources)


def flagged(words: Words) -> dict[str, Any]:
    """Resources of the flags. UsageError: a value makes no sense, or a machine has no such limit."""
    resources: dict[str, Any] = {}
    for flag, value in words.values.items():
        section, key = NUMBERS.get(flag) or WORDS.get(flag) or _refuse(flag)
        number = flag in NUMBERS
        resources.setdefault(section, {})[key] = _number(flag, value) if number else value
    return resources


def _refuse(flag: str) -> tuple[str, str]:
    raise UsageError(f"--{flag}: a virtual machine has no such limit")


def _number(flag: str, value: str) -> int:
    digits = value.lower().removesuffix("b") if flag in WITH_UNITS else value
    unit = digits[-1:] if flag in WITH_UNITS and not digits[-1:].isdecimal() else ""
    try:
        return int(digits.removesuffix(unit)) * UNITS[unit]
    except (KeyError, ValueError):
        raise UsageError(f"invalid value {value!r} for --{flag}: it is no number") from None
