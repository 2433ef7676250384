"""What kubelets pass on at /metrics/cadvisor: descriptions of metrics, and what they are just now.

Names and labels are cAdvisor's, in the order that containerd has them. CRI has whole numbers alone: of seconds, too."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri.service import Call
from hypercontainer.hyperd.cri.stats import Sample, Stats, number
from hypercontainer.model.api import Engine
from hypercontainer.model.bundle import BundleUsage
from hypercontainer.model.documents import NetworkStats
from hypercontainer.model.kube import KubeContainerState, KubeFiles, KubePodState

LABELS = ("pod", "namespace", "container", "id", "image")
COUNTER, GAUGE = pb.COUNTER, pb.GAUGE
S = 1_000_000_000
DISK = {"device": "/"}  # which a machine has of its own: it has no name on this host


class Kind(NamedTuple):
    """A metric of containers. `labels`: after the usual ones, with what they say. `value` None: it is not told."""

    name: str
    help: str
    type: pb.MetricType
    value: Callable[[Sample], int | None]
    labels: Mapping[str, str]


class OfInterface(NamedTuple):
    name: str
    help: str
    value: Callable[[NetworkStats], int]


def _used(name: str, help: str, type: pb.MetricType, value: Callable[[BundleUsage], int | None], **labels: str) -> Kind:
    return Kind(f"container_{name}", help, type, lambda sample: value(sample.used), labels)


def _has(name: str, help: str, value: Callable[[KubeContainerState], int]) -> Kind:
    return Kind(f"container_{name}", help, GAUGE, lambda sample: value(sample.container), {})


def _open(name: str, help: str, value: Callable[[KubeFiles], int | None], **labels: str) -> Kind:
    return Kind(f"container_{name}", help, GAUGE, lambda sample: value(sample.files), labels)


def _device(operation: str, value: Callable[[BundleUsage], int]) -> Kind:
    labels = {**DISK, "major": "", "minor": "", "operation": operation}
    return _used("blkio_device_usage_total", "Bytes of the machine's disks", COUNTER, value, **labels)


def _faults(kind: str, value: Callable[[BundleUsage], int]) -> Kind:
    words = "Page faults: all of them (pgfault), and those that waited for a disk (pgmajfault)"
    return _used("memory_failures_total", words, COUNTER, value, failure_type=kind, scope="container")


def _working_set(used: BundleUsage) -> int:
    return used.memory_bytes - used.inactive_file_bytes


OF_CONTAINER = (
    Kind("container_last_seen", "When it was measured, in seconds since 1970", GAUGE, lambda s: s.time_ns // S, {}),
    _has("start_time_seconds", "When it started, in seconds since 1970", lambda c: c.started_ns // S),
    _used("cpu_usage_seconds_total", "Processor time", COUNTER, lambda u: u.cpu_ns // S),
    _used("cpu_user_seconds_total", "Processor time in programs", COUNTER, lambda u: u.user_ns // S),
    _used("cpu_system_seconds_total", "Processor time in the guest's kernel", COUNTER, lambda u: u.system_ns // S),
    _used("cpu_cfs_periods_total", "Periods of its quota in which it ran", COUNTER, lambda u: u.periods),
    _used("cpu_cfs_throttled_periods_total", "Periods cut short by it", COUNTER, lambda u: u.throttled_periods),
    _used("cpu_cfs_throttled_seconds_total", "Time that it was stopped for", COUNTER, lambda u: u.throttled_ns // S),
    _used("memory_usage_bytes", "Memory, with all that is cached for it", GAUGE, lambda u: u.memory_bytes),
    _used(
        "memory_working_set_bytes",
        "Memory but files not used for long",
        GAUGE,
        lambda u: u.memory_bytes - u.inactive_file_bytes,
    ),
    _used("memory_max_usage_bytes", "The most memory that it has had", GAUGE, lambda u: u.memory_peak_bytes),
    _used("memory_kernel_usage", "Memory of the guest's kernel for it", GAUGE, lambda u: u.memory_kernel_bytes),
    _used("memory_swap", "Swap of the machine", GAUGE, lambda u: u.swap_bytes),
    _used("memory_failcnt", "How often it was at its limit of memory", COUNTER, lambda u: u.memory_limit_hits),
    _used("memory_rss", "Memory that is no file's", GAUGE, lambda u: u.anon_bytes),
    _used("memory_cache", "Files in memory", GAUGE, lambda u: u.file_bytes),
    _used("memory_mapped_file", "Files that are mapped", GAUGE, lambda u: u.mapped_bytes),
    _used("memory_total_inactive_file_bytes", "Files not used for long", GAUGE, lambda u: u.inactive_file_bytes),
    _faults("pgfault", lambda u: u.page_faults),
    _faults("pgmajfault", lambda u: u.major_page_faults),
    _used("oom_events_total", "Processes that were killed for want of memory", COUNTER, lambda u: u.oom_kills),
    Kind("container_fs_usage_bytes", "What it has written, on this host's disk", GAUGE, lambda s: s.disk, DISK),
    _open("fs_limit_bytes", "Size of its file system, in the machine", lambda f: f.disk_bytes, **DISK),
    _open("fs_inodes_total", "Files that its file system has room for", lambda f: f.inodes, **DISK),
    _open("fs_inodes_free", "Of these, how many more", lambda f: f.inodes_free, **DISK),
    _device("Read", lambda u: u.read_bytes),
    _device("Write", lambda u: u.written_bytes),
    _used("fs_reads_bytes_total", "Bytes read from the machine's disks", COUNTER, lambda u: u.read_bytes, **DISK),
    _used("fs_reads_total", "Reads of the machine's disks", COUNTER, lambda u: u.reads, **DISK),
    _used("fs_writes_bytes_total", "Bytes written to the machine's disks", COUNTER, lambda u: u.written_bytes, **DISK),
    _used("fs_writes_total", "Writes to the machine's disks", COUNTER, lambda u: u.writes, **DISK),
    _used("processes", "Processes in it, with their threads", GAUGE, lambda u: u.pids),
    _used("threads", "Threads in it", GAUGE, lambda u: u.pids),
    _used("threads_max", "Threads that it may have; 0: no limit", GAUGE, lambda u: u.threads_limit),
    _open("file_descriptors", "Open files of its processes", lambda f: f.descriptors),
    _open("sockets", "Of these, sockets", lambda f: f.sockets),
    _has("spec_cpu_period", "Period of its quota, in microseconds", lambda c: c.resources.cpu_period_us),
    _has("spec_cpu_quota", "Its quota in microseconds; 0: none", lambda c: c.resources.cpu_quota_us),
    _has("spec_cpu_shares", "Its shares; 0: the usual ones", lambda c: c.resources.cpu_shares),
    _has("spec_memory_limit_bytes", "Its limit of memory; 0: none", lambda c: c.resources.memory_bytes),
    _used("spec_memory_swap_limit_bytes", "Swap that it may have; 0: none", GAUGE, lambda u: u.swap_limit_bytes),
)
OF_POD = (
    OfInterface("container_network_receive_bytes_total", "Bytes received", lambda n: n.rx_bytes),
    OfInterface("container_network_receive_packets_total", "Packets received", lambda n: n.rx_packets),
    OfInterface("container_network_receive_packets_dropped_total", "Dropped as received", lambda n: n.rx_dropped),
    OfInterface("container_network_receive_errors_total", "Errors of receiving", lambda n: n.rx_errors),
    OfInterface("container_network_transmit_bytes_total", "Bytes sent", lambda n: n.tx_bytes),
    OfInterface("container_network_transmit_packets_total", "Packets sent", lambda n: n.tx_packets),
    OfInterface("container_network_transmit_packets_dropped_total", "Dropped as sent", lambda n: n.tx_dropped),
    OfInterface("container_network_transmit_errors_total", "Errors of sending", lambda n: n.tx_errors),
)


class Metrics:
    def __init__(self, engine: Engine, stats: Stats) -> None:
        self._kube, self._stats = engine.kube, stats

    def calls(self) -> Mapping[str, Call]:
        return {"ListMetricDescriptors": self.describe, "ListPodSandboxMetrics": self.list}

    async def describe(self, request: pb.ListMetricDescriptorsRequest) -> pb.ListMetricDescriptorsResponse:
        return pb.ListMetricDescriptorsResponse(descriptors=descriptors())

    async def list(self, request: pb.ListPodSandboxMetricsRequest) -> pb.ListPodSandboxMetricsResponse:
        ready = [pod for pod in await self._kube.list() if pod.ready]
        found = await self._stats.sampled(ready)
        return pb.ListPodSandboxMetricsResponse(
            pod_metrics=await asyncio.gather(*(self._whole(*each) for each in found))
        )

    async def _whole(self, pod: KubePodState, samples: Sequence[Sample]) -> pb.PodSandboxMetrics:
        return of_pod(pod, await asyncio.gather(*map(self._stats.with_files, samples)))


def descriptors() -> list[pb.MetricDescriptor]:
    of_container = {kind.name: (kind.help, [*kind.labels]) for kind in OF_CONTAINER}
    of_pod = {kind.name: (kind.help, ["interface"]) for kind in OF_POD}
    return [
        pb.MetricDescriptor(name=name, help=help, label_keys=[*LABELS, *labels])
        for name, (help, labels) in {**of_container, **of_pod}.items()
    ]


def of_pod(pod: KubePodState, samples: Sequence[Sample]) -> pb.PodSandboxMetrics:
    """With those of its containers that run. Interfaces are the pod's: any of these tells of them."""
    networks: Mapping[str, NetworkStats] = samples[0].used.networks if samples else {}
    return pb.PodSandboxMetrics(
        pod_sandbox_id=pod.id,
        metrics=[*_of_networks(pod, networks)],
        container_metrics=[
            pb.ContainerMetrics(container_id=sample.container.id, metrics=[*_of_container(pod, sample)])
            for sample in samples
        ],
    )


def _of_networks(pod: KubePodState, networks: Mapping[str, NetworkStats]) -> Iterator[pb.Metric]:
    for name, found in networks.items():
        labels = [pod.pod.name, pod.pod.namespace, "", pod.id, "", name]
        for kind in OF_POD:
            value = number(kind.value(found))
            yield pb.Metric(name=kind.name, metric_type=COUNTER, label_values=labels, value=value)


def _of_container(pod: KubePodState, sample: Sample) -> Iterator[pb.Metric]:
    found = sample.container
    usual = [pod.pod.name, pod.pod.namespace, found.container.name, found.id, found.container.image]
    for kind in OF_CONTAINER:
        if (value := kind.value(sample)) is not None:
            labels = [*usual, *kind.labels.values()]
            yield pb.Metric(name=kind.name, metric_type=kind.type, label_values=labels, value=number(value))
