"""What containers and pods use, as their guests count it."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from hypercontainer.errors import HyperError, NotFound, TimedOut, WrongState
from hypercontainer.hyperd.cri import container, sandbox
from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri.service import Call
from hypercontainer.lib import clock
from hypercontainer.model.api import Engine
from hypercontainer.model.bundle import BundleUsage
from hypercontainer.model.documents import NetworkStats
from hypercontainer.model.kube import KubeContainerState, KubeFiles, KubePodState

ANSWER_S = 5.0  # of one guest, which may be held up
MOST = (1 << 63) - 1


class Sample(NamedTuple):
    container: KubeContainerState
    used: BundleUsage
    disk: int  # bytes that it has written there
    time_ns: int
    files: KubeFiles = KubeFiles()  # where they were asked for


class Stats:
    def __init__(self, engine: Engine) -> None:
        self._kube = engine.kube

    def calls(self) -> Mapping[str, Call]:
        return {
            "ContainerStats": self.of_container,
            "ListContainerStats": self.of_containers,
            "PodSandboxStats": self.of_pod,
            "ListPodSandboxStats": self.of_pods,
        }

    async def of_container(self, request: pb.ContainerStatsRequest) -> pb.ContainerStatsResponse:
        found = await self._kube.container(request.container_id)
        if found.state != "running":
            raise WrongState("measure", found.id, found.state)
        if not (samples := await self._measured(found.pod, [found])):
            raise NotFound("container", found.id)  # it goes just now
        return pb.ContainerStatsResponse(stats=told(samples[0]))

    async def of_containers(self, request: pb.ListContainerStatsRequest) -> pb.ListContainerStatsResponse:
        wanted = request.filter
        asked = pb.ContainerFilter(
            id=wanted.id, pod_sandbox_id=wanted.pod_sandbox_id, label_selector=wanted.label_selector
        )
        found = [each for each in await self._kube.containers() if container.matches(each, asked)]
        return pb.ListContainerStatsResponse(stats=[told(sample) for sample in await self._of(found)])

    async def of_pod(self, request: pb.PodSandboxStatsRequest) -> pb.PodSandboxStatsResponse:
        [found] = await self._of_pods([await self._kube.state(request.pod_sandbox_id)])
        return pb.PodSandboxStatsResponse(stats=found)

    async def of_pods(self, request: pb.ListPodSandboxStatsRequest) -> pb.ListPodSandboxStatsResponse:
        asked = pb.PodSandboxFilter(id=request.filter.id, label_selector=request.filter.label_selector)
        found = [pod for pod in await self._kube.list() if pod.ready and sandbox.matches(pod, asked)]
        return pb.ListPodSandboxStatsResponse(stats=await self._of_pods(found))

    async def _of_pods(self, pods: Sequence[KubePodState]) -> list[pb.PodSandboxStats]:
        return [whole(pod, samples) for pod, samples in await self.sampled(pods)]

    async def sampled(self, pods: Sequence[KubePodState]) -> list[tuple[KubePodState, list[Sample]]]:
        """Each with those of its containers that run."""
        samples: dict[str, list[Sample]] = {pod.id: [] for pod in pods}
        for each in await self._of([each for each in await self._kube.containers() if each.pod in samples]):
            samples[each.container.pod].append(each)
        return [(pod, samples[pod.id]) for pod in pods]

    async def _of(self, containers: Iterable[KubeContainerState]) -> list[Sample]:
        """Of those that run, and whose guest answers, which is asked once for all of its own."""
        pods: dict[str, list[KubeContainerState]] = {}
        for each in containers:
            if each.state == "running":
                pods.setdefault(each.pod, []).append(each)
        found = await asyncio.gather(*(self._measured(*each) for each in pods.items()), return_exceptions=True)
        for answer in found:
            if isinstance(answer, BaseException) and not isinstance(answer, HyperError):
                raise answer
        return [sample for answer in found if isinstance(answer, list) for sample in answer]

    async def _measured(self, pod: str, containers: Sequence[KubeContainerState]) -> list[Sample]:
        """One that ends meanwhile is none of them any more."""
        try:
            async with asyncio.timeout(ANSWER_S):
                used = await self._kube.usage(pod)
        except TimeoutError as e:
            raise TimedOut(f"pod {pod} was not measured: its machine does not answer") from e
        now = clock.now_ns()
        return [Sample(each, *used[each.id], now) for each in containers if each.id in used]

    async def with_files(self, sample: Sample) -> Sample:
        """Of who does not answer that as well the rest is true."""
        try:
            async with asyncio.timeout(ANSWER_S):
                return sample._replace(files=await self._kube.files(sample.container.id))
        except (TimeoutError, HyperError):
            return sample


def told(sample: Sample) -> pb.ContainerStats:
    found, time_ns = sample.container, sample.time_ns
    return pb.ContainerStats(
        attributes=pb.ContainerAttributes(
            id=found.id,
            metadata=container.metadata(found.container),
            labels=found.container.labels,
            annotations=found.container.annotations,
        ),
        cpu=_cpu([sample.used], time_ns),
        memory=_memory([sample.used], time_ns, sample.used.memory_limit_bytes),
        writable_layer=pb.FilesystemUsage(timestamp=time_ns, used_bytes=number(sample.disk)),
    )


def whole(pod: KubePodState, samples: Sequence[Sample]) -> pb.PodSandboxStats:
    now, used = clock.now_ns(), [sample.used for sample in samples]
    attributes = pb.PodSandboxAttributes(
        id=pod.id, metadata=sandbox.metadata(pod.pod), labels=pod.pod.labels, annotations=pod.pod.annotations
    )
    linux = pb.LinuxPodSandboxStats(
        cpu=_cpu(used, now),
        memory=_memory(used, now, _limit(samples)),
        process=pb.ProcessUsage(timestamp=now, process_count=number(sum(each.pids for each in used))),
        containers=[told(sample) for sample in samples],
    )
    if used:
        linux.network.CopyFrom(_network(used[0].networks, now))  # which is the same for all of them
    return pb.PodSandboxStats(attributes=attributes, linux=linux)


def number(value: int) -> pb.UInt64Value:
    """Of what a guest says, which is anything, and sums of that."""
    return pb.UInt64Value(value=min(max(0, value), MOST))


def _cpu(used: Iterable[BundleUsage], time_ns: int) -> pb.CpuUsage:
    return pb.CpuUsage(timestamp=time_ns, usage_core_nano_seconds=number(sum(each.cpu_ns for each in used)))


def _limit(samples: Sequence[Sample]) -> int:
    """What a pod's containers may take together: one without a limit of its own has all of the machine."""
    free = [each.used.memory_limit_bytes for each in samples if not each.container.resources.memory_bytes]
    return max(free) if free else sum(each.used.memory_limit_bytes for each in samples)


def _memory(used: Sequence[BundleUsage], time_ns: int, limit: int) -> pb.MemoryUsage:
    """The working set is what the page cache could not give back, as kubelets count it."""
    working = sum(each.memory_bytes - each.inactive_file_bytes for each in used)
    return pb.MemoryUsage(
        timestamp=time_ns,
        working_set_bytes=number(working),
        available_bytes=number(limit - working),
        usage_bytes=number(sum(each.memory_bytes for each in used)),
        rss_bytes=number(sum(each.anon_bytes for each in used)),
        page_faults=number(sum(each.page_faults for each in used)),
        major_page_faults=number(sum(each.major_page_faults for each in used)),
    )


def _network(networks: Mapping[str, NetworkStats], time_ns: int) -> pb.NetworkUsage:
    made = pb.NetworkUsage(timestamp=time_ns, interfaces=[_interface(*each) for each in networks.items()])
    if made.interfaces:
        made.default_interface.CopyFrom(made.interfaces[0])
    return made


def _interface(name: str, found: NetworkStats) -> pb.NetworkInterfaceUsage:
    return pb.NetworkInterfaceUsage(
        name=name,
        rx_bytes=number(found.rx_bytes),
        rx_errors=number(found.rx_errors),
        tx_bytes=number(found.tx_bytes),
        tx_errors=number(found.tx_errors),
    )
