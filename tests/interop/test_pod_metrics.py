"""What a kubelet reads of its pods for /metrics/cadvisor: of frakti as of containerd."""

import asyncio
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.testing.daemon import PrivateDaemon
from tests.interop.cri import LIMIT_S, WAITS, Cri, calling, of_hyperd, servers
from tests.interop.test_pod_events import pytestmark  # noqa: F401

server = servers("frakti", "containerd-today")
MIB = 1 << 20
ROW = re.compile(r'[a-z_]+({[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*})? [0-9.e+-]+')


async def test_what_is_told_is_described(cri: Cri) -> None:
    described = {each.name: each for each in (await cri("ListMetricDescriptors")).descriptors}
    pod = await cri.pod()
    limits = {"resources": {"memory_limit_in_bytes": 64 * MIB, "cpu_quota": 50_000, "cpu_period": 100_000}}
    one = await cri.started(pod, "one", *WAITS, linux=limits)
    ends = await cri.started(pod, "two", "true")
    await cri.ended(ends)
    await cri.exec(one, "sh", "-c", "head -c 3000000 /dev/zero > /f; sync; wget -q -O - http://127.0.0.1:1/ || true")
    [found] = (await cri("ListPodSandboxMetrics")).pod_metrics
    assert found.pod_sandbox_id == pod and [each.container_id for each in found.container_metrics] == [one]
    of_one = found.container_metrics[0].metrics
    for each in (*found.metrics, *of_one):
        assert len(each.label_values) == len(described[each.name].label_keys), each
    told = {each.name: each for each in of_one}
    assert list(told["container_last_seen"].label_values)[:4] == ["pod", "default", "one", one]
    assert told["container_memory_working_set_bytes"].value.value > 0
    assert told["container_spec_memory_limit_bytes"].value.value == 64 * MIB
    assert told["container_spec_cpu_period"].value.value == 100_000
    assert told["container_processes"].value.value >= 2
    assert told["container_fs_usage_bytes"].value.value > 2_000_000
    assert told["container_cpu_usage_seconds_total"].metric_type == pb.COUNTER
    if cri.server.ours:
        check_counts({name: each.value.value for name, each in told.items()})
    of_pod = {each.name: each for each in found.metrics}
    assert list(of_pod["container_network_receive_bytes_total"].label_values) == ["pod", "default", "", pod, "", "eth0"]


def check_counts(found: Mapping[str, int]) -> None:
    """Of a shell and a `sleep`, which wait, in a machine without swap."""
    assert found["container_memory_max_usage_bytes"] >= found["container_memory_usage_bytes"] > 0
    assert 0 < found["container_memory_kernel_usage"] < 64 * MIB
    assert 6 <= found["container_file_descriptors"] < 64
    assert found["container_sockets"] == 0
    assert found["container_memory_swap"] == found["container_spec_memory_swap_limit_bytes"] == 0
    assert found["container_fs_limit_bytes"] > 64 * MIB
    assert 0 < found["container_fs_inodes_free"] < found["container_fs_inodes_total"]
    assert found["container_threads_max"] > found["container_threads"]


async def test_a_pod_that_was_stopped_is_not_measured(cri: Cri) -> None:
    pod = await cri.pod()
    await cri("StopPodSandbox", pod_sandbox_id=pod)
    assert not (await cri("ListPodSandboxMetrics")).pod_metrics


async def test_what_prometheus_reads_of_hyperd(frakti: PrivateDaemon, tmp_path: Path) -> None:
    async with calling(of_hyperd(frakti), tmp_path) as cri:
        pod = await cri.pod()
        await cri.started(pod, "one", *WAITS)
        asked = ["curl", "-sSf", "--unix-socket", str(frakti.settings["socket"]), "http://hyper/v1/metrics"]
        done = await asyncio.to_thread(subprocess.run, asked, capture_output=True, text=True, timeout=LIMIT_S)
        assert done.returncode == 0, done
        rows = [line for line in done.stdout.splitlines() if not line.startswith("#")]
        assert [row for row in rows if not ROW.fullmatch(row)] == []
        found = {name: float(value) for name, _, value in (row.rpartition(" ") for row in rows)}
        assert found['hyperd_pods{owner="kubelet",state="running"}'] == 1
        assert found[f'hyperd_vmm_resident_bytes{{id="{pod}"}}'] > 16 * MIB
        assert found['hyperd_start_seconds_count{what="pod"}'] >= 1
        await cri.clear()
