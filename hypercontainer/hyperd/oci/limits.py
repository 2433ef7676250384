"""linux.resources of a bundle -> limits inside the machine, and who may use which devices there. Pure."""

import re
from collections.abc import Sequence

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.oci import document
from hypercontainer.model.bundle import BundleUpdate
from hypercontainer.model.container import Device, DeviceRule

MAX_RULES = 64
USUAL = {("c", 1, 3), ("c", 1, 5), ("c", 1, 7), ("c", 1, 8), ("c", 1, 9), ("c", 5, 0), ("c", 5, 1), ("c", 5, 2)}
PTS = 136
LETTERS = set("rwm")


def device_rules(found: Sequence[document.DeviceRule], devices: Sequence[Device]) -> list[DeviceRule] | None:
    """Those that change something, where all but the usual devices is denied at first, anything may be made, and the
    usual devices may be used always. None: they say what a guest does without rules, which lets `devices` be used."""
    rules = [_rule(each) for each in found]
    denied = [n for n, rule in enumerate(rules) if not rule.allow and rule.type == "a" and set(rule.access) == LETTERS]
    rules = [rule for rule in rules[denied[-1] + 1 if denied else 0 :] if _matters(rule)]
    if len(rules) > MAX_RULES:
        raise InvalidInput(f"invalid linux.resources.devices: {len(rules)} rules: {MAX_RULES} at most")
    listed = [DeviceRule(allow=True, type=d.type, major=d.major, minor=d.minor) for d in devices]
    return None if rules == [rule for rule in listed if _matters(rule)] else rules


def _rule(found: document.DeviceRule) -> DeviceRule:
    type, access = found.type or "a", found.access or "rwm"
    if type not in ("a", "b", "c") or set(access) - LETTERS:
        what = f"type {type[:10]!r}" if type not in ("a", "b", "c") else f"access {access[:10]!r}"
        raise InvalidInput(f"invalid linux.resources.devices: {what}: there is no such thing")
    major, minor = (-1 if type == "a" or number is None else number for number in (found.major, found.minor))
    if not -1 <= major <= 4095 or not -1 <= minor <= 1048575:
        raise InvalidInput(f"invalid linux.resources.devices: there is no device {major}:{minor}")
    return DeviceRule(allow=found.allow, type=type, major=major, minor=minor, access=access)  # type: ignore[arg-type]


def _matters(rule: DeviceRule) -> bool:
    usual = (rule.type, rule.major, rule.minor) in USUAL or (rule.type, rule.major) == ("c", PTS)
    return not usual and set(rule.access) != {"m"}


def update(found: document.Resources) -> BundleUpdate:
    """Limits that are said; -1 lifts one. InvalidInput names what no group of version 2 can do."""
    _refuse(found)
    memory, cpu, pids = found.memory or document.Memory(), found.cpu or document.Cpu(), found.pids or document.Pids()
    unified = {
        "memory.low": _lifted(memory.reservation, "0"),
        "cpuset.cpus": cpu.cpus,
        "cpuset.mems": cpu.mems,
        "cpu.idle": str(cpu.idle) if cpu.idle else "",
        "cpu.max.burst": str(cpu.burst) if cpu.burst else "",
        "io.weight": _weight(found.block_io.weight if found.block_io else None),
        **{f"hugetlb.{_page(each)}.max": str(each.limit) for each in found.hugepage_limits or []},
        **(found.unified or {}),
    }
    return BundleUpdate(
        memory_bytes=_limit(memory.limit),
        cpu_quota_us=_limit(cpu.quota),
        cpu_period_us=cpu.period or None,
        cpu_shares=cpu.shares or None,
        pids=_limit(pids.limit),
        unified={file: text for file, text in unified.items() if text},
    )


def _limit(said: int | None) -> int | None:
    """0 is what callers say who mean nothing by it."""
    return max(0, said) if said else None


def _lifted(said: int | None, none: str) -> str:
    return "" if not said else none if said < 0 else str(said)


def _page(found: document.HugepageLimit) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,3}[KMG]B", found.page_size):
        raise InvalidInput(f"invalid hugepageLimits: there are no pages of {found.page_size[:20]!r}")
    return found.page_size


def _weight(said: int | None) -> str:
    """10 to 1000 of version 1 on 1 to 10000, as other runtimes have it."""
    if not said:
        return ""
    if not 10 <= said <= 1000:
        raise InvalidInput(f"invalid blockIO.weight {said}: it is 10 to 1000")
    return str(1 + (said - 10) * 9999 // 990)


def _refuse(found: document.Resources) -> None:
    cpu, io = found.cpu or document.Cpu(), found.block_io or document.BlockIo()
    kernel, host = "its kernel has version 2 of cgroups, which has none", "devices of this host are not in the machine"
    for name, value, why in (
        ("memory.disableOOMKiller", found.memory and found.memory.disable_oom_killer, kernel),
        ("cpu.realtimeRuntime", cpu.realtime_runtime, kernel),
        ("cpu.realtimePeriod", cpu.realtime_period, kernel),
        ("network", found.network and any(found.network.values() if isinstance(found.network, dict) else [1]), kernel),
        ("rdma", found.rdma, host),
        ("blockIO.leafWeight", io.leaf_weight, kernel),
        ("blockIO.weightDevice", io.weight_device, host),
        ("blockIO.throttleReadBpsDevice", io.throttle_read_bps_device, host),
        ("blockIO.throttleWriteBpsDevice", io.throttle_write_bps_device, host),
        ("blockIO.throttleReadIOPSDevice", io.throttle_read_iops_device, host),
        ("blockIO.throttleWriteIOPSDevice", io.throttle_write_iops_device, host),
    ):
        if value:
            raise InvalidInput(f"cannot limit the container by linux.resources.{name}: {why}")
