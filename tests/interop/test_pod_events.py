"""What a kubelet is told of its pods by GetContainerEvents: by frakti as by containerd."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hypervisor.qemu.rundir import qemu_run
from hypercontainer.testing.daemon import PrivateDaemon
from tests.interop.cri import PLUGINS, WAITS, Cri, calling, of_hyperd, servers

pytestmark = [
    pytest.mark.interop,
    pytest.mark.docker,
    pytest.mark.vm,
    pytest.mark.skipif(not PLUGINS.exists(), reason="needs the package containernetworking-plugins"),
]

CREATED, STARTED = pb.CONTAINER_CREATED_EVENT, pb.CONTAINER_STARTED_EVENT
STOPPED, DELETED = pb.CONTAINER_STOPPED_EVENT, pb.CONTAINER_DELETED_EVENT
EATS = ["sh", "-c", "x=0123456789abcdef; while :; do x=$x$x; done"]


server = servers("frakti", "containerd-today")


async def until(told: AsyncIterator[Any], id: str, kind: int) -> list[pb.ContainerEventResponse]:
    """All events up to this one."""
    found = []
    async for event in told:
        found.append(event)
        if (event.container_id, event.container_event_type) == (id, kind):
            return found
    raise AssertionError(f"the stream ended: {found}")


def of(id: str, events: list[pb.ContainerEventResponse]) -> list[int]:
    return [each.container_event_type for each in events if each.container_id == id]


async def test_a_life(cri: Cri) -> None:
    async with cri.streamed("GetContainerEvents") as told:
        await cri("Version")  # it is heard by then
        pod = await cri.pod()
        one = await cri.started(pod, "one", *WAITS)
        await cri.says("one", bool)
        await cri("StopContainer", container_id=one, timeout=60)
        await cri("RemoveContainer", container_id=one)
        await cri("StopPodSandbox", pod_sandbox_id=pod)
        await cri("RemovePodSandbox", pod_sandbox_id=pod)
        events = await until(told, pod, DELETED)
    assert of(one, events) == of(pod, events) == [CREATED, STARTED, STOPPED, DELETED]
    assert all(each.pod_sandbox_status.id == pod for each in events)
    assert all(each.pod_sandbox_status.metadata.uid == "pod-uid" for each in events)
    [started] = [each for each in events if (each.container_id, each.container_event_type) == (one, STARTED)]
    [status] = started.containers_statuses
    assert (status.id, status.state, status.metadata.name) == (one, pb.CONTAINER_RUNNING, "one")
    assert started.pod_sandbox_status.state == pb.SANDBOX_READY and started.pod_sandbox_status.network.ip
    [stopped] = [each for each in events if (each.container_id, each.container_event_type) == (one, STOPPED)]
    [status] = stopped.containers_statuses
    assert (status.state, status.exit_code) == (pb.CONTAINER_EXITED, 3)
    assert status.finished_at <= stopped.created_at
    [ended] = [each for each in events if (each.container_id, each.container_event_type) == (pod, STOPPED)]
    assert ended.pod_sandbox_status.state == pb.SANDBOX_NOTREADY


async def test_several_listen_and_one_goes(cri: Cri) -> None:
    async with cri.streamed("GetContainerEvents") as stays:
        async with cri.streamed("GetContainerEvents") as goes:
            await cri("Version")
            pod = await cri.pod()
            heard = await until(goes, pod, STARTED)
        one = await cri.started(pod, "one", "true")
        events = await until(stays, one, STOPPED)
    assert of(pod, heard) == of(pod, events) == [CREATED, STARTED]
    [last] = events[-1].containers_statuses
    assert (last.state, last.exit_code, last.reason) == (pb.CONTAINER_EXITED, 0, "Completed")


async def test_one_that_takes_too_much_memory(cri: Cri) -> None:
    pod = await cri.pod()
    async with cri.streamed("GetContainerEvents") as told:
        await cri("Version")
        one = await cri.started(pod, "one", *EATS, linux={"resources": {"memory_limit_in_bytes": 32 << 20}})
        [*_, ended] = await until(told, one, STOPPED)
    assert ended.containers_statuses[0].exit_code == 137
    if cri.server.ours:  # containerd may hear of the lack of memory later
        assert ended.containers_statuses[0].reason == "OOMKilled"


async def test_the_death_of_a_machine(frakti: PrivateDaemon, tmp_path: Path) -> None:
    async with calling(of_hyperd(frakti), tmp_path) as cri:
        pod = await cri.pod()
        one = await cri.started(pod, "one", *WAITS)
        async with cri.streamed("GetContainerEvents") as told:
            await cri("Version")
            os.kill(qemu_run(Path(str(frakti.settings["run"]), "pods", pod)).processes("qemu")[-1].pid, signal.SIGKILL)
            events = await until(told, one, STOPPED)
        assert [(each.container_id, each.container_event_type) for each in events] == [(pod, STOPPED), (one, STOPPED)]
        assert events[-1].pod_sandbox_status.state == pb.SANDBOX_NOTREADY
        [status] = events[-1].containers_statuses
        assert (status.exit_code, status.reason) == (255, "Error") and status.message
        await cri.clear()


async def test_another_hyperd_tells_of_what_it_finds(frakti: PrivateDaemon, tmp_path: Path) -> None:
    async with calling(of_hyperd(frakti), tmp_path) as cri:
        pod = await cri.pod()
        one = await cri.started(pod, "one", *WAITS)
        await cri.says("one", bool)
    assert frakti.process
    frakti.process.send_signal(signal.SIGKILL)
    frakti.process.wait()
    frakti.start()
    async with calling(of_hyperd(frakti), tmp_path) as cri:
        async with cri.streamed("GetContainerEvents") as told:
            await cri("Version")
            await cri("StopContainer", container_id=one, timeout=60)
            [event] = await until(told, one, STOPPED)
        assert event.pod_sandbox_status.id == pod and event.containers_statuses[0].exit_code == 3
        await cri.clear()
