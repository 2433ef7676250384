"""Pods as a kubelet asks for them, by gRPC: of hyperd, and of containerd with runc."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import message_factory

from bench import memory
from bench.engines import CONTAINERD, cgroups, done, need, new_name, running
from bench.measure import CommandFailed, Series
from bench.places import IMAGE
from bench.pods import of, pids, words
from hypercontainer.errors import Unavailable
from hypercontainer.hyperd.cri.service import IMAGES, RUNTIME
from hypercontainer.testing.busybox import write_archive
from hypercontainer.testing.daemon import PrivateDaemon, Value, free_subnet

PLUGINS = "/usr/lib/cni"
PAUSE = "docker.io/library/pause:1"
GROUP = "hyper-bench"  # that a kubelet has its pods in
STAYS = ["sh", "-c", "echo hello; exec sleep 86400"]
CALL_S = 600.0
LINE_S = 60.0  # from a start to its first line
ASKING_S = 2.0  # of one sample of calls a second
TOGETHER = 8  # calls under way at once where only the result counts
CRI = f"""
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true
disable_apparmor = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{PLUGINS}"
conf_dir = "{{folder}}/cni"
"""


class Kubelet:
    """What one asks of the runtime at `socket`; `name` is that runtime's. `handler`: of a RuntimeClass there.

    `ready` is called before each start, and not counted; `found` tells the pids of all its pods, `own` its own."""

    def __init__(
        self,
        name: str,
        socket: str,
        folder: Path,
        found: Callable[[], Sequence[int]],
        own: Callable[[], int],
        *,
        handler: str = "",
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.name, self.folder, self.found, self.own, self.handler, self.ready = (
            name,
            folder,
            found,
            own,
            handler,
            ready,
        )
        self._channel = grpc.insecure_channel(f"unix://{socket}")
        self.first = Series(f"{name}: RunPodSandbox, CreateContainer, StartContainer, to the first line of the log")
        self.exec = Series(f"{name}: ExecSync true")
        self.together = Series(f"{name}: many pods at once, to the last one's first line")
        self.pods = Series(f"{name}: ListPodSandbox", "/s")
        self.containers = Series(f"{name}: ListContainers", "/s")
        self.pss = Series(f"{name}: PSS of a pod of two containers", "MiB")
        self.rss = Series(f"{name}: RSS of its own, beside many pods", "MiB")
        self.series = [self.first, self.exec, self.together, self.pods, self.containers, self.pss, self.rss]
        self.running: list[str] = []  # pods
        self._stays = ""  # a container of one of them

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
        }
        pod = self.method("RunPodSandbox")(config=sandbox, runtime_handler=self.handler).pod_sandbox_id
        for n in range(containers):
            container = {
                "metadata": {"name": f"c{n}", "attempt": 0},
                "image": {"image": f"docker.io/library/{IMAGE}:latest"},
                "command": STAYS,
                "log_path": f"{name}-{n}.log",
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

    def run_together(self, count: int) -> None:
        self.ready()
        self.together.name = f"{self.name}: {count} pods at once, to the last one's first line"
        with ThreadPoolExecutor(count) as pool:
            begin = time.perf_counter()
            pods = list(pool.map(self.pod, [new_name() for _ in range(count)]))
            self.together.samples.append((time.perf_counter() - begin) * 1e3)
            list(pool.map(self.remove, pods))

    def grow(self, count: int, containers: int) -> None:
        """Have as many pods run."""
        missing = [new_name() for _ in range(count - len(self.running))]
        with ThreadPoolExecutor(TOGETHER) as pool:
            self.running += pool.map(lambda name: self.pod(name, containers), missing)

    def measure_memory(self) -> None:
        found = len(self.running)
        self.pss.samples.append(memory.pss_mib(self.found()) / found)
        self.rss.name = f"{self.name}: RSS of its own, beside {found} pods"
        self.rss.samples.append(memory.rss_mib(self.own()))

    def run_lists(self) -> None:
        """By one client that waits for each answer, and does not read it."""
        for series, method in ((self.pods, "ListPodSandbox"), (self.containers, "ListContainers")):
            series.name = f"{self.name}: {method}, beside {len(self.running)} pods"
            call = self.method(method, raw=True)
            begin, count = time.perf_counter(), 0
            while time.perf_counter() < begin + ASKING_S:
                call()
                count += 1
            series.samples.append(count / (time.perf_counter() - begin))

    def close(self) -> None:
        with ThreadPoolExecutor(TOGETHER) as pool:
            list(pool.map(self.remove, self.running))
        self._channel.close()


def network(folder: Path) -> None:
    """Addresses enough for all pods that are measured."""
    folder.mkdir()
    ipam = {"type": "host-local", "dataDir": f"{folder}/ipam", "ranges": [[{"subnet": free_subnet(22)}]]}
    chain = {"cniVersion": "0.4.0", "name": folder.parent.name, "plugins": [{"type": "ptp", "ipam": ipam}]}
    (folder / "10-pods.conflist").write_text(json.dumps(chain))


def settings(folder: Path) -> Mapping[str, Value]:
    """That a hyperd needs for it."""
    if not Path(PLUGINS).exists():
        raise Unavailable("containernetworking-plugins is not installed")
    folder.mkdir()
    network(folder / "cni")
    return {"cri_socket": f"{folder}/c.sock", "cni_conf_dir": f"{folder}/cni", "cni_bin_dirs": [PLUGINS]}


@contextmanager
def of_hyperd(name: str, daemon: PrivateDaemon, ready: Callable[[], None] = lambda: None) -> Iterator[Kubelet]:
    def found() -> list[int]:
        folders = [path for path in (daemon.folder / "run/pods").iterdir() if not path.name.startswith("waiting-")]
        return [pid for folder in folders for part in ("qemu", "virtiofsd") for pid in of(folder / f"{part}.pid")]

    def own() -> int:
        assert daemon.process
        return daemon.process.pid

    socket = str(daemon.settings["cri_socket"])
    made = Kubelet(name, socket, Path(socket).parent, found, own, handler="hyper", ready=ready)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def of_containerd(folder: Path) -> Iterator[Kubelet]:
    """With a network namespace of its own. Unavailable when it is not here or does not start."""
    need("containerd", "ctr", "runc")
    folder.mkdir()
    network(folder / "cni")
    config = CONTAINERD.replace('["io.containerd.grpc.v1.cri"]', "[]") + CRI
    (folder / "config.toml").write_text(config.format(folder=folder))
    for name, image, said in (("pause", PAUSE, {"Cmd": ["sleep", "86400"]}), ("busybox", f"{IMAGE}:latest", {})):
        write_archive(folder / f"{name}.tar", [image], config=said)
    inside = ["unshare", "--mount", "--net", "--propagation", "private", "sh", "-c", 'ip link set lo up && exec "$@"']
    daemon = [*inside, "sh", "containerd", "--config", f"{folder}/config.toml"]
    ctr = ["ctr", "--address", f"{folder}/socket", "--namespace", "k8s.io"]
    with cgroups(GROUP), running(daemon, [*ctr, "version"], folder):
        for name in ("pause", "busybox"):
            done([*ctr, "image", "import", f"{folder}/{name}.tar"])

        def found() -> list[int]:
            shims = [pid for pid in pids("containerd-shim") if f"{folder}/socket" in words(pid)]
            return [pid for shim in shims for pid in memory.descendants(shim)]

        def own() -> int:
            [pid] = [pid for pid in pids("containerd") if f"{folder}/config.toml" in words(pid)]
            return pid

        made = Kubelet("containerd and runc", f"{folder}/socket", folder, found, own)
        try:
            yield made
        finally:
            made.close()
