"""What CRI has of late: lists that are streams, and pods whose size changes while they run."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Status

from hypercontainer.testing.daemon import PrivateDaemon
from tests.interop.cri import IMAGE, WAITS, Cri, calling, of_hyperd
from tests.interop.test_pod_events import pytestmark  # noqa: F401

MIB = 1 << 20
MEMORY = "sed -n 's/^MemTotal: *//p' /proc/meminfo"


@pytest.fixture
async def cri(frakti: PrivateDaemon, tmp_path: Path) -> AsyncIterator[Cri]:
    async with calling(of_hyperd(frakti), tmp_path) as made:
        yield made
        await made.clear()


async def all_of(cri: Cri, method: str, field: str, **fields: Any) -> list[Any]:
    async with cri.streamed(method, **fields) as answers:
        return [each async for answer in answers for each in getattr(answer, field)]


async def test_lists_that_are_streams(cri: Cri) -> None:
    assert await all_of(cri, "StreamPodSandboxes", "pod_sandboxes") == []
    pod, other = await cri.pod(), await cri.pod("other")
    one = await cri.started(pod, "one", *WAITS)
    assert {each.id for each in await all_of(cri, "StreamPodSandboxes", "pod_sandboxes")} == {pod, other}
    [found] = await all_of(cri, "StreamPodSandboxes", "pod_sandboxes", filter={"id": other})
    assert found.id == other
    [container] = await all_of(cri, "StreamContainers", "containers")
    [stats] = await all_of(cri, "StreamContainerStats", "container_stats")
    assert container.id == stats.attributes.id == one
    assert len(await all_of(cri, "StreamPodSandboxStats", "pod_sandbox_stats")) == 2
    assert len(await all_of(cri, "StreamPodSandboxMetrics", "pod_sandbox_metrics")) == 2
    assert [each.repo_tags for each in await all_of(cri, "StreamImages", "images")] == [[IMAGE]]


async def test_a_pod_grows_while_it_runs(cri: Cri) -> None:
    pod = await cri.pod()
    one = await cri.started(pod, "one", *WAITS)

    async def has() -> tuple[int, int]:
        kib, _, _ = (await cri.exec(one, "sh", "-c", MEMORY)).partition(" ")
        return int(await cri.exec(one, "nproc")), int(kib) // 1024

    before = await has()
    overhead, more = {"memory_limit_in_bytes": 64 * MIB}, {"cpu_quota": 150_000, "cpu_period": 100_000}
    resources = {"memory_limit_in_bytes": 384 * MIB, **more}
    await cri("UpdatePodSandboxResources", pod_sandbox_id=pod, overhead=overhead, resources=resources)
    cpus, memory_mib = await has()
    assert (before[0], cpus) == (1, 2) and memory_mib >= before[1] + 150
    await cri("UpdatePodSandboxResources", pod_sandbox_id=pod, resources={"memory_limit_in_bytes": 64 * MIB})
    assert await has() == (cpus, memory_mib)  # a machine never shrinks
    asked = {"pod_sandbox_id": pod, "resources": {"memory_limit_in_bytes": 1 << 50}}
    assert await cri.refused("UpdatePodSandboxResources", **asked) == Status.INVALID_ARGUMENT
    assert await cri.refused("UpdatePodSandboxResources", pod_sandbox_id="none") == Status.NOT_FOUND
    await cri("StopPodSandbox", pod_sandbox_id=pod)
    assert await cri.refused("UpdatePodSandboxResources", pod_sandbox_id=pod) == Status.FAILED_PRECONDITION
