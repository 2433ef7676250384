"""io.containerd.cgroups.v1.Metrics: what a container uses, as clients expect it where the host's control groups have
version 1, or both. Names, numbers and kinds are containerd's."""

from dataclasses import dataclass

from hypercontainer.hyperd.shim import messages as m
from hypercontainer.lib.protobuf import field, message, repeated
from hypercontainer.model.bundle import BundleUsage

PACKAGE = "io.containerd.cgroups.v1"


@dataclass(frozen=True, kw_only=True)
class PidsStat:
    current: int = field(1, "uint64")
    limit: int = field(2, "uint64")


@dataclass(frozen=True, kw_only=True)
class CPUUsage:
    total: int = field(1, "uint64")
    kernel: int = field(2, "uint64")
    user: int = field(3, "uint64")


@dataclass(frozen=True, kw_only=True)
class Throttle:
    """Clients look into this one unasked: it is there without a quota, too."""

    periods: int = field(1, "uint64")
    throttled_periods: int = field(2, "uint64")
    throttled_time: int = field(3, "uint64")


@dataclass(frozen=True, kw_only=True)
class CPUStat:
    usage: CPUUsage | None = message(1, CPUUsage)
    throttling: Throttle | None = message(2, Throttle)


@dataclass(frozen=True, kw_only=True)
class MemoryEntry:
    limit: int = field(1, "uint64")
    usage: int = field(2, "uint64")
    max: int = field(3, "uint64")
    failcnt: int = field(4, "uint64")


@dataclass(frozen=True, kw_only=True)
class MemoryStat:
    """Of swap nothing is said: a guest has none."""

    cache: int = field(1, "uint64")
    rss: int = field(2, "uint64")
    mapped_file: int = field(4, "uint64")
    pg_fault: int = field(9, "uint64")
    pg_maj_fault: int = field(10, "uint64")
    inactive_file: int = field(13, "uint64")
    hierarchical_memory_limit: int = field(16, "uint64")
    total_cache: int = field(18, "uint64")
    total_rss: int = field(19, "uint64")
    total_mapped_file: int = field(21, "uint64")
    total_pg_fault: int = field(26, "uint64")
    total_pg_maj_fault: int = field(27, "uint64")
    total_inactive_file: int = field(30, "uint64")
    usage: MemoryEntry | None = message(33, MemoryEntry)
    kernel: MemoryEntry | None = message(35, MemoryEntry)


@dataclass(frozen=True, kw_only=True)
class MemoryOomControl:
    oom_kill: int = field(3, "uint64")


@dataclass(frozen=True, kw_only=True)
class BlkIOEntry:
    """Of all disks and shares together: there is no device's name, and its numbers are 0."""

    op: str = field(1, "string")
    value: int = field(5, "uint64")


@dataclass(frozen=True, kw_only=True)
class BlkIOStat:
    io_service_bytes_recursive: list[BlkIOEntry] = repeated(1, "message", BlkIOEntry)
    io_serviced_recursive: list[BlkIOEntry] = repeated(2, "message", BlkIOEntry)


@dataclass(frozen=True, kw_only=True)
class Metrics:
    pids: PidsStat | None = message(2, PidsStat)
    cpu: CPUStat | None = message(3, CPUStat)
    memory: MemoryStat | None = message(4, MemoryStat)
    blkio: BlkIOStat | None = message(5, BlkIOStat)
    memory_oom_control: MemoryOomControl | None = message(9, MemoryOomControl)


def metrics(found: BundleUsage) -> m.Any:
    shape = Metrics(
        pids=PidsStat(current=found.pids, limit=found.pids_limit),
        cpu=CPUStat(
            usage=CPUUsage(total=found.cpu_ns, kernel=found.system_ns, user=found.user_ns),
            throttling=Throttle(
                periods=found.periods,
                throttled_periods=found.throttled_periods,
                throttled_time=found.throttled_ns,
            ),
        ),
        memory=MemoryStat(
            cache=found.file_bytes,
            rss=found.anon_bytes,
            mapped_file=found.mapped_bytes,
            pg_fault=found.page_faults,
            pg_maj_fault=found.major_page_faults,
            inactive_file=found.inactive_file_bytes,
            hierarchical_memory_limit=found.memory_limit_bytes,
            total_cache=found.file_bytes,
            total_rss=found.anon_bytes,
            total_mapped_file=found.mapped_bytes,
            total_pg_fault=found.page_faults,
            total_pg_maj_fault=found.major_page_faults,
            total_inactive_file=found.inactive_file_bytes,
            usage=MemoryEntry(
                limit=found.memory_limit_bytes,
                usage=found.memory_bytes,
                max=found.memory_peak_bytes or 0,
                failcnt=found.memory_limit_hits or 0,
            ),
            kernel=MemoryEntry(usage=found.memory_kernel_bytes or 0),
        ),
        blkio=BlkIOStat(
            io_service_bytes_recursive=_entries(found.read_bytes, found.written_bytes),
            io_serviced_recursive=_entries(found.reads, found.writes),
        ),
        memory_oom_control=MemoryOomControl(oom_kill=found.oom_kills),
    )
    return m.any_of(f"{PACKAGE}.Metrics", shape)


def _entries(read: int, write: int) -> list[BlkIOEntry]:
    return [BlkIOEntry(op="Read", value=read), BlkIOEntry(op="Write", value=write)]
