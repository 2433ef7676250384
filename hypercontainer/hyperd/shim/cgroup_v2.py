"""io.containerd.cgroups.v2.Metrics: what a container uses, as clients expect it where the host's control groups have
version 2. Names, numbers and kinds are containerd's."""

from dataclasses import dataclass

from hypercontainer.hyperd.shim import messages as m
from hypercontainer.lib.protobuf import field, message, repeated
from hypercontainer.model.bundle import BundleUsage

PACKAGE = "io.containerd.cgroups.v2"


@dataclass(frozen=True, kw_only=True)
class PidsStat:
    current: int = field(1, "uint64")
    limit: int = field(2, "uint64")


@dataclass(frozen=True, kw_only=True)
class CPUStat:
    usage_usec: int = field(1, "uint64")
    user_usec: int = field(2, "uint64")
    system_usec: int = field(3, "uint64")


@dataclass(frozen=True, kw_only=True)
class MemoryStat:
    inactive_file: int = field(13, "uint64")
    usage: int = field(32, "uint64")
    usage_limit: int = field(33, "uint64")


@dataclass(frozen=True, kw_only=True)
class MemoryEvents:
    oom_kill: int = field(5, "uint64")


@dataclass(frozen=True, kw_only=True)
class IOEntry:
    """Of all disks and shares together: the numbers of a device are 0."""

    rbytes: int = field(3, "uint64")
    wbytes: int = field(4, "uint64")


@dataclass(frozen=True, kw_only=True)
class IOStat:
    usage: list[IOEntry] = repeated(1, "message", IOEntry)


@dataclass(frozen=True, kw_only=True)
class Metrics:
    pids: PidsStat | None = message(1, PidsStat)
    cpu: CPUStat | None = message(2, CPUStat)
    memory: MemoryStat | None = message(4, MemoryStat)
    io: IOStat | None = message(6, IOStat)
    memory_events: MemoryEvents | None = message(8, MemoryEvents)


def metrics(found: BundleUsage) -> m.Any:
    shape = Metrics(
        pids=PidsStat(current=found.pids, limit=found.pids_limit),
        cpu=CPUStat(
            usage_usec=found.cpu_ns // 1000,
            user_usec=found.user_ns // 1000,
            system_usec=found.system_ns // 1000,
        ),
        memory=MemoryStat(
            inactive_file=found.inactive_file_bytes,
            usage=found.memory_bytes,
            usage_limit=found.memory_limit_bytes,
        ),
        io=IOStat(usage=[IOEntry(rbytes=found.read_bytes, wbytes=found.written_bytes)]),
        memory_events=MemoryEvents(oom_kill=found.oom_kills),
    )
    return m.any_of(f"{PACKAGE}.Metrics", shape)
