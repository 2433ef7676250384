"""Pods as a kubelet asks for them, by gRPC: of hyperd, and of containerd with runc."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import message_factory

from bench import memory
from bench.engines import new_name
from bench.measure import CommandFailed, Series
from bench.places import IMAGE
from bench.starts import TOGETHER
from hypercontainer.hyperd.cri.service import IMAGES, RUNTIME

GROUP = "hyper-bench"  # that a kubelet has its pods in
STAYS = ["sh", "-c", "echo hello; exec sleep 86400"]
ASKED = ("Version", "ListPodSandbox", "ListContainers", "ListContainerStats")  # over and over, for all that there is
CALL_S = 600.0
LINE_S = 60.0  # from a start to its first line
ASKING_S = 2.0  # of one sample of calls a second
UNDER_WAY = 8  # calls at once where only the result counts
NOTES = {  # a kubelet's own, of a container
    "io.kubernetes.container.hash": "5f0e2a1b",
    "io.kubernetes.container.restartCount": "0",
    "io.kubernetes.container.terminationMessagePath": "/dev/termination-log",
    "io.kubernetes.container.terminationMessagePolicy": "File",
    "io.kubernetes.pod.terminationGracePeriod": "30",
}


class Kubelet:
    """What one asks of the runtime at `socket`; `name` is that runtime's. `handler`: of a RuntimeClass there.

    `ready` is called before each start, and not counted; `own` tells the runtime's pid, `found` those of all that it
    has for its pods, or, if that is asked, for pods to come as well."""

    def __init__(
        self,
        name: str,
        socket: str,
        folder: Path,
        found: Callable[[bool], Sequence[int]],
        own: Callable[[], int],
        *,
        handler: str = "",
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.name, self.folder, self.handler, self.ready = name, folder, handler, ready
        self.found, self.own = found, own
        self._channel = grpc.insecure_channel(f"unix://{socket}")
        self.first = Series(f"{name}: RunPodSandbox, CreateContainer, StartContainer, to the first line of the log")
        self.exec = Series(f"{name}: ExecSync true")
        self.together = Series(f"{name}: {TOGETHER} pods at once, to the last one's first line")
        self.work, self.own_work, self.pods_work = (
            Series(f"  {name}, processor time of one of {TOGETHER} at once: {whose}")
            for whose in ("this host's, in all", "of it the runtime's own", "of it what it has for pods")
        )
        self.pss = Series(f"{name}: PSS of a pod of two containers", "MiB")
        self.rss = Series(f"{name}: RSS of its own, beside many pods", "MiB")
        self.asked = {method: (Series("", "/s"), Series("", "ms")) for method in ASKED}
        self.running: list[str] = []  # pods
        self.stopped: list[str] = []
        self._stays = ""  # a container of one of them

    @property
    def series(self) -> list[Series]:
        at_once = [self.together, self.work, self.own_work, self.pods_work]
        asked = [each for both in self.asked.values() for each in both]
        return [self.first, self.exec, *at_once, self.pss, self.rss, *asked]

    def method(self, name: str, *, raw: bool = False) -> Callable[..., Any]:
        """Called with the fields of the request, or, `raw`, with its bytes."""
        service = RUNTIME if name in RUNTIME.methods_by_name else IMAGES
        found = service.methods_by_name[name]
        request, reply = (message_factory.GetMessageClass(each) for each in (found.input_type, found.output_type))
        encode, decode = (None, None) if raw else (request.SerializeToString, reply.FromString)
        asked = self._channel.unary_unary(f"/{service.full_name}/{name}", encode, decode)
        if raw:
            return lambda: asked(b"", timeout=CALL_S)
        return lambda **fields: asked(request(**fields), timeout=CALL_S)

    def pod(self, name: str, containers: int = 1) -> str:
        """The id of a new one whose containers have all said their first line."""
        sandbox = {
            "metadata": {"name": name, "uid": name, "namespace": "default", "attempt": 0},
            "log_directory": str(self.folder),
            "linux": {"cgroup_parent": f"/{GROUP}"},
            "labels": _labels(name),
            "annotations": {"kubernetes.io/config.seen": "2026-01-01T00:00:00Z", "kubernetes.io/config.source": "api"},
        }
        pod = self.method("RunPodSandbox")(config=sandbox, runtime_handler=self.handler).pod_sandbox_id
        for n in range(containers):
            container = {
                "metadata": {"name": f"c{n}", "attempt": 0},
                "image": {"image": f"docker.io/library/{IMAGE}:latest"},
                "command": STAYS,
                "log_path": f"{name}-{n}.log",
                "labels": {**_labels(name), "io.kubernetes.container.name": f"c{n}"},
                "annotations": NOTES,
            }
            made = {"pod_sandbox_id": pod, "config": container, "sandbox_config": sandbox}
            id = self.method("CreateContainer")(**made).container_id
            self.method("StartContainer")(container_id=id)
            self._line(self.folder / f"{name}-{n}.log")
        return str(pod)

    def _one(self, pod: str) -> str:
        """A container of it."""
        return str(self.method("ListContainers")(filter={"pod_sandbox_id": pod}).containers[0].id)

    @staticmethod
    def _line(log: Path) -> None:
        deadline = time.monotonic() + LINE_S
        while not log.exists() or not log.stat().st_size:
            if time.monotonic() > deadline:
                raise CommandFailed(f"{log}: nothing was said within {LINE_S:g} s")
            time.sleep(0.0005)

    def remove(self, pod: str) -> None:
        self.method("StopPodSandbox")(pod_sandbox_id=pod)
        self.method("RemovePodSandbox")(pod_sandbox_id=pod)

    def run_start(self) -> None:
        self.ready()
        begin = time.perf_counter()
        pod = self.pod(new_name())
        self.first.samples.append((time.perf_counter() - begin) * 1e3)
        self.remove(pod)

    def run_exec(self) -> None:
        if not self.running:
            self.running.append(self.pod(new_name()))
            self._stays = self._one(self.running[0])
        begin = time.perf_counter()
        self.method("ExecSync")(container_id=self._stays, cmd=["true"])
        self.exec.samples.append((time.perf_counter() - begin) * 1e3)

    def run_together(self) -> None:
        self.ready()
        host, own, before = memory.busy_ms(), memory.processor_ms([self.own()]), self.found(True)
        spent = {pid: memory.processor_ms([pid]) for pid in before}
        with ThreadPoolExecutor(TOGETHER) as pool:
            begin = time.perf_counter()
            pods = list(pool.map(self.pod, [new_name() for _ in range(TOGETHER)]))
            self.together.samples.append((time.perf_counter() - begin) * 1e3)
            for_pods = sum(memory.processor_ms([pid]) - spent.get(pid, 0) for pid in self.found(False))
            self.work.samples.append((memory.busy_ms() - host) / TOGETHER)
            self.own_work.samples.append((memory.processor_ms([self.own()]) - own) / TOGETHER)
            self.pods_work.samples.append(for_pods / TOGETHER)
            list(pool.map(self.remove, pods))

    def grow(self, count: int) -> None:
        """Have as many pods of two containers run."""
        missing = [new_name() for _ in range(count - len(self.running))]
        with ThreadPoolExecutor(UNDER_WAY) as pool:
            self.running += pool.map(lambda name: self.pod(name, 2), missing)

    def grow_stopped(self, count: int) -> None:
        """Have as many more that are stopped, and not removed: a list has them all, and they take no memory."""

        def stopped(name: str) -> str:
            pod = self.pod(name, 2)
            self.method("StopPodSandbox")(pod_sandbox_id=pod)
            return pod

        with ThreadPoolExecutor(UNDER_WAY) as pool:
            self.stopped += pool.map(stopped, [new_name() for _ in range(count)])

    def measure_memory(self) -> None:
        found = len(self.running)
        self.pss.samples.append(memory.pss_mib(self.found(False)) / found)
        self.rss.name = f"{self.name}: RSS of its own, beside {found} pods"
        self.rss.samples.append(memory.rss_mib(self.own()))

    def run_asked(self) -> None:
        """By one client that waits for each answer, and does not read it."""
        for method, (rate, cost) in self.asked.items():
            rate.name = f"{self.name}: {method}, beside {len(self.running)} pods that run, {len(self.stopped)} that did"
            cost.name = f"  of it, its own processor time of a call of {method}: {self.name}"
            call = self.method(method, raw=True)
            begin, count, spent = time.perf_counter(), 0, memory.processor_ms([self.own()])
            while time.perf_counter() < begin + ASKING_S:
                call()
                count += 1
            rate.samples.append(count / (time.perf_counter() - begin))
            cost.samples.append((memory.processor_ms([self.own()]) - spent) / count)

    def close(self) -> None:
        with ThreadPoolExecutor(UNDER_WAY) as pool:
            list(pool.map(self.remove, [*self.running, *self.stopped]))
        self._channel.close()


def _labels(pod: str) -> dict[str, str]:
    """A kubelet's own, and two of a deployment's."""
    own = {"io.kubernetes.pod.name": pod, "io.kubernetes.pod.namespace": "default", "io.kubernetes.pod.uid": pod}
    return {**own, "app": "web", "pod-template-hash": "7d9c"}


def times(one: Kubelet, other: Kubelet) -> Series:
    """How often what `other` takes for many pods at once each sample of `one` is."""
    pairs = zip(one.together.samples, other.together.samples, strict=True)
    return Series(f"{one.name}: {TOGETHER} pods at once, times those of {other.name}", "x", [a / b for a, b in pairs])
