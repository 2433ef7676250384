"""known.toml: what is known to fail, and why."""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

TABLE = Path(__file__).with_suffix(".toml")
CAP_SYS_RESOURCE = 24


class Known(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cases that one runtime fails for the same reason, on every host or on some."""

    why: str
    cases: list[str]  # FILE::FUNCTION, or FILE::FUNCTION[PARAMETER]
    host: Literal["any", "without CAP_SYS_RESOURCE", "with cgroup v1"] = "any"
    always: bool = True  # or by chance: a case that loses a race may pass as well


@cache
def table() -> Mapping[str, list[Known]]:
    """By the name of the runtime."""
    return msgspec.convert(tomllib.loads(TABLE.read_text()), dict[str, list[Known]])


def find(runtime: str, case: str) -> Known | None:
    """Why the runtime is known to fail the case on this host."""
    names = {case, case.partition("[")[0]}
    for known in table().get(runtime, []):
        if is_here(known.host) and names & set(known.cases):
            return known
    return None


@cache
def is_here(host: str) -> bool:
    match host:
        case "without CAP_SYS_RESOURCE":
            lines = Path("/proc/self/status").read_text().splitlines()
            [effective] = [int(line.split()[1], 16) for line in lines if line.startswith("CapEff")]
            return not effective >> CAP_SYS_RESOURCE & 1
        case "with cgroup v1":
            return not Path("/sys/fs/cgroup/cgroup.controllers").exists()
    return True
