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
    nr_periods: int = field(4, "uint64")
    nr_throttled: int = field(5, "uint64")
    throttled_usec: int = field(6, "uint64")


@dataclass(frozen=True, kw_only=True)
class MemoryStat:
    """Of swap nothing is said: a guest has none."""

    anon: int = field(1, "uint64")
    file: int = field(2, "uint64")
    file_mapped: int = field(7, "uint64")
    inactive_file: int = field(13, "uint64")
    pgfault: int = field(18, "uint64")
    pgmajfault: int = field(19, "uint64")
    usage: int = field(32, "uint64")
    usage_limit: int = field(33, "uint64")


@dataclass(frozen=True, kw_only=True)
class MemoryEvents:
    max: int = field(3, "uint64")
    oom_kill: int = field(5, "uint64")


@dataclass(frozen=True, kw_only=True)
class IOEntry:
    """Of all disks and shares together: the numbers of a device are 0."""

    rbytes: int = field(3, "uint64")
    wbytes: int = field(4, "uint64")
    rios: int = field(5, "uint64")
    wios: int = field(6, "uint64")


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
            nr_periods=found.periods,
            nr_throttled=found.throttled_periods,
            throttled_usec=found.throttled_ns // 1000,
        ),
        memory=MemoryStat(
            anon=found.anon_bytes,
            file=found.file_bytes,
            file_mapped=found.mapped_bytes,
            inactive_file=found.inactive_file_bytes,
            pgfault=found.page_faults,
            pgmajfault=found.major_page_faults,
            usage=found.memory_bytes,
            usage_limit=found.memory_limit_bytes,
        ),
        io=IOStat(
            usage=[IOEntry(rbytes=found.read_bytes, wbytes=found.written_bytes, rios=found.reads, wios=found.writes)]
        ),
        memory_events=MemoryEvents(max=found.memory_limit_hits or 0, oom_kill=found.oom_kills),
    )
    return m.any_of(f"{PACKAGE}.Metrics", shape)
