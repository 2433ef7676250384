"""Metrics as kubelets pass them on: what is described is what is told."""

import msgspec
import pytest

from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri import metrics, stats
from hypercontainer.hyperd.cri.stats import Sample
from hypercontainer.model.bundle import BundleUsage
from hypercontainer.model.container import Resources
from hypercontainer.model.documents import NetworkStats
from hypercontainer.model.kube import KubeContainer, KubeContainerState, KubeFiles, KubePod, KubePodState

POD = KubePodState(
    id="p1", pod=KubePod(name="web", uid="u1", namespace="default", request="r"), ready=True, created_ns=1
)
SECOND = 1_000_000_000
FILES = KubeFiles(disk_bytes=1 << 30, inodes=100, inodes_free=90, descriptors=7, sockets=2)
NEEDED = {each.name for each in msgspec.structs.fields(BundleUsage) if each.required}
COUNTED = ("_total", "_failcnt")


def network(**said: int) -> NetworkStats:
    return NetworkStats(**{name: said.get(name, 0) for name in NetworkStats.__struct_fields__})


def sample(**used: int) -> Sample:
    counts = {name: 0 for name in BundleUsage.__struct_fields__ if name != "networks"}
    found = KubeContainerState(
        id="c1",
        pod="p1",
        container=KubeContainer(name="one", image="docker.io/library/busybox:latest", request="r"),
        image_id="sha256:1",
        state="running",
        created_ns=1,
        started_ns=7 * SECOND + 5,
        resources=Resources(memory_bytes=64 << 20, cpu_quota_us=50_000),
    )
    networks = {"eth0": network(rx_bytes=5), "eth1": network(rx_packets=7)}
    return Sample(found, BundleUsage(**{**counts, **used}, networks=networks), 4096, 9 * SECOND, FILES)


def told(samples: list[Sample]) -> list[pb.Metric]:
    found = metrics.of_pod(POD, samples)
    return [*found.metrics, *(each for one in found.container_metrics for each in one.metrics)]


def value(name: str, samples: list[Sample], *labels: str) -> int:
    [found] = [each for each in told(samples) if each.name == name and set(labels) <= set(each.label_values)]
    return found.value.value


def test_what_is_described_is_told_with_these_labels() -> None:
    described = {each.name: each for each in metrics.descriptors()}
    assert len(described) == len(metrics.descriptors()) and all(each.help for each in described.values())
    found = told([sample()])
    assert {each.name for each in found} == described.keys()
    assert all(len(each.label_values) == len(described[each.name].label_keys) for each in found)
    rows = [(each.name, *each.label_values) for each in found]
    assert len(rows) == len(set(rows))
    counters = {each.name for each in found if each.metric_type == pb.COUNTER}
    assert counters == {name for name in described if name.endswith(COUNTED)} - {"container_fs_inodes_total"}


@pytest.mark.parametrize(("limits", "available"), [((64, 32), 90), ((0, 32), 122), ((0, 0), 122)])
def test_a_pod_has_its_machine_once(limits: tuple[int, int], available: int) -> None:
    """In a machine of 128 MiB."""
    samples = []
    for limit in limits:
        one = sample(memory_bytes=3 << 20, memory_limit_bytes=(limit or 128) << 20)
        container = msgspec.structs.replace(one.container, resources=Resources(memory_bytes=limit << 20))
        samples.append(one._replace(container=container))
    assert stats.whole(POD, samples).linux.memory.available_bytes.value == available << 20


def test_whose_they_are() -> None:
    found = metrics.of_pod(POD, [sample()])
    assert found.pod_sandbox_id == "p1" and found.container_metrics[0].container_id == "c1"
    assert list(found.metrics[0].label_values) == ["web", "default", "", "p1", "", "eth0"]
    first = found.container_metrics[0].metrics[0].label_values
    assert list(first) == ["web", "default", "one", "c1", "docker.io/library/busybox:latest"]


@pytest.mark.parametrize(
    ("name", "used", "labels", "wanted"),
    [
        ("container_cpu_usage_seconds_total", {"cpu_ns": 3 * SECOND + 1}, (), 3),
        ("container_memory_working_set_bytes", {"memory_bytes": 9, "inactive_file_bytes": 4}, (), 5),
        ("container_memory_working_set_bytes", {"memory_bytes": 4, "inactive_file_bytes": 9}, (), 0),
        ("container_memory_failures_total", {"page_faults": 8, "major_page_faults": 2}, ("pgfault",), 8),
        ("container_memory_failures_total", {"page_faults": 8, "major_page_faults": 2}, ("pgmajfault",), 2),
        ("container_fs_usage_bytes", {}, ("/",), 4096),
        ("container_fs_writes_total", {"writes": 3}, ("/",), 3),
        ("container_processes", {"pids": 2}, (), 2),
        ("container_start_time_seconds", {}, (), 7),
        ("container_spec_memory_limit_bytes", {}, (), 64 << 20),
        ("container_spec_memory_swap_limit_bytes", {"swap_limit_bytes": 0}, (), 0),
        ("container_memory_max_usage_bytes", {"memory_bytes": 4, "memory_peak_bytes": 9}, (), 9),
        ("container_memory_failcnt", {"memory_limit_hits": 3}, (), 3),
        ("container_threads_max", {"pids": 1, "threads_limit": 50}, (), 50),
        ("container_blkio_device_usage_total", {"read_bytes": 5, "written_bytes": 6}, ("Write",), 6),
        ("container_fs_limit_bytes", {}, ("/",), 1 << 30),
        ("container_fs_inodes_free", {}, ("/",), 90),
        ("container_file_descriptors", {}, (), 7),
        ("container_sockets", {}, (), 2),
        ("container_network_receive_bytes_total", {}, ("eth0",), 5),
        ("container_network_receive_packets_total", {}, ("eth1",), 7),
    ],
)
def test_what_they_say(name: str, used: dict[str, int], labels: tuple[str, ...], wanted: int) -> None:
    assert value(name, [sample(**used)], *labels) == wanted


def test_what_a_guest_does_not_tell_is_left_out() -> None:
    older = sample()
    late = BundleUsage(**dict.fromkeys(NEEDED, 0))  # type: ignore[arg-type]  # of all but the networks
    found = {each.name for each in told([older._replace(used=late, files=KubeFiles())])}
    missing = {each.name for each in told([older])} - found
    assert missing == {
        *(f"container_{name}" for name in ("file_descriptors", "sockets", "threads_max")),
        *(f"container_fs_{name}" for name in ("limit_bytes", "inodes_total", "inodes_free")),
        *(f"container_memory_{name}" for name in ("max_usage_bytes", "kernel_usage", "swap", "failcnt")),
        "container_spec_memory_swap_limit_bytes",
        *(each.name for each in metrics.OF_POD),
    }


def test_a_pod_that_nobody_is_in_is_told_of() -> None:
    found = metrics.of_pod(POD, [])
    assert (found.pod_sandbox_id, len(found.metrics), len(found.container_metrics)) == ("p1", 0, 0)
