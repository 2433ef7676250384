"""A node of Kubernetes without a control plane: a kubelet of its own beside a hyperd, whose static pods are machines.

Both are in namespaces of their own: apart.py.
"""

import asyncio
import http.client
import json
import signal
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from hypercontainer.testing.daemon import PrivateDaemon, Value
from tests.conftest import KERNELS
from tests.interop import pod_soak
from tests.interop.clients import CLIENTS
from tests.kubelet import streams
from tests.kubelet.apart import ADDRESS, KUBELET, LOGS, Apart, control_group
from tests.vm import conftest

PROGRAM = CLIENTS / "kubelet/kubelet"
HOST, PORT, NODE = "127.0.0.1", 10255, "node"
STREAMS = 10250  # by TLS: what changes something
LIMIT_S = 300.0  # of what is waited for, on a busy machine too
PAUSE_S = 0.1  # a kubelet without an API server tells nobody of its events: who waits looks again


def network(folder: Path) -> str:
    """A file of CNI's; which addresses are taken is written in `folder`."""
    ranges = {"ranges": [[{"subnet": "10.97.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}
    ipam = {"type": "host-local", "dataDir": str(folder / "ipam"), **ranges}
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "ipam": ipam}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
    return json.dumps({"cniVersion": "1.0.0", "name": "kubelet", "plugins": [bridge, ports]})


def _answer(connection: http.client.HTTPConnection, method: str, path: str) -> str:
    with closing(connection):
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
    assert answer.status == 200, (path, answer.status, body)
    return body


class Kubelet:
    """One that asks `hyper`, whose folder has the manifests, and runs when it was started."""

    def __init__(self, hyper: PrivateDaemon, apart: Apart) -> None:
        self.hyper, self.apart, self.folder = hyper, apart, apart.folder
        self.manifests, self.config = self.folder / "manifests", self.folder / "kubelet.json"
        self.process: subprocess.Popen[bytes] | None = None
        self._ours = pod_soak.Node(hyper, hyper.folder)
        self.manifests.mkdir()
        self.config.write_text(json.dumps(self._settings()))

    def _settings(self) -> dict[str, object]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": f"unix://{self.hyper.settings['cri_socket']}",
            "staticPodPath": str(self.manifests),
            "fileCheckFrequency": "1s",
            "address": HOST,
            "port": STREAMS,
            "readOnlyPort": PORT,
            "healthzPort": 0,
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "failSwapOn": False,
            "failCgroupV1": False,  # as this host may have them
            "cgroupRoot": f"/{self.folder.name}",
            "oomScoreAdj": 0,
            "volumePluginDir": str(self.folder / "plugins"),
            "runtimeRequestTimeout": "4m",
            "imageGCHighThresholdPercent": 100,  # however full this disk is, what nobody runs at the moment stays
            "evictionHard": {"memory.available": "1Mi", "nodefs.available": "1Mi", "imagefs.available": "1Mi"},
            "featureGates": {"PodAndContainerStatsFromCRI": True},
            "crashLoopBackOff": {"maxContainerRestartPeriod": "3s"},
        }

    def start(self) -> None:
        """Start it, and wait until it is healthy."""
        words = ["--config", self.config, "--root-dir", KUBELET, "--hostname-override", NODE, "--node-ip", ADDRESS]
        with open(self.folder / "kubelet.log", "ab") as log:
            self.process = subprocess.Popen(
                self.apart.argv(PROGRAM, *words, "--v=2"), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.until("the kubelet is healthy", self.healthy)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(LIMIT_S)
            self.process = None

    def log(self) -> str:
        return (self.folder / "kubelet.log").read_text(errors="replace")

    def healthy(self) -> bool:
        assert self.process is not None and self.process.poll() is None, f"the kubelet has ended: {self.log()[-3000:]}"
        try:
            return self.get("/healthz") == "ok"
        except (ConnectionError, AssertionError):
            return False

    def get(self, path: str) -> str:
        """What it answers without being asked who asks."""
        return _answer(http.client.HTTPConnection(HOST, PORT, timeout=LIMIT_S), "GET", path)

    def ask(self, method: str, path: str) -> str:
        """What it answers at the door where whoever asks has to be somebody; here all are."""
        anybody = ssl._create_unverified_context()
        return _answer(http.client.HTTPSConnection(HOST, STREAMS, timeout=LIMIT_S, context=anybody), method, path)

    def until(self, what: str, true: Callable[[], Any]) -> Any:
        """What is true in the end."""
        deadline = time.monotonic() + LIMIT_S
        while not (found := true()):
            assert time.monotonic() < deadline, f"not so in time: {what}\n{self.log()[-3000:]}"
            time.sleep(PAUSE_S)
        return found

    def run(self, name: str, containers: Sequence[Mapping[str, Any]], **spec: Any) -> "Pod":
        """Have that pod: `spec` is more of a PodSpec, whose containers are of busybox."""
        image = {"image": "docker.io/library/busybox:latest", "imagePullPolicy": "Never"}
        if "initContainers" in spec:
            spec["initContainers"] = [{**image, **each} for each in spec["initContainers"]]
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
            "spec": {
                "containers": [{**image, **each} for each in containers],
                "terminationGracePeriodSeconds": 5,
                **spec,
            },
        }
        new = self.folder / f".{name}.json"
        new.write_text(json.dumps(manifest))
        new.rename(self.manifests / f"{name}.json")
        return Pod(self, name)

    def pods(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.get("/pods"))["items"] or []
        return found

    def clear(self) -> None:
        """No pod is left, nor a machine of one. What the kubelet knows of them it removes once a minute."""
        for path in self.manifests.iterdir():
            path.unlink()
        self.until("no pod is there", lambda: not self.pods())
        self.until("no machine is there", lambda: self.machines() == [])

    def left(self) -> list[str]:
        """What is there and should not be, when no pod is: after the kubelet's next round, at most."""
        self.until("no pod is remembered", lambda: not conftest.pods(self.hyper))
        return conftest.left_behind(self.hyper, self._things)

    def _things(self) -> list[str]:
        places = [self.apart.place(KUBELET) / "pods", self.apart.place(LOGS)]
        folders = [f"folder {path}" for place in places for path in place.glob("*")]
        homes = (f"{self.hyper.folder}/", f"{KUBELET}/")
        mounts = [f"mount {path}" for path in sorted(self.apart.mounts()) if path.startswith(homes)]
        return [*folders, *mounts, *sorted(self._ours._things() - self._ours.known)]

    def machines(self) -> list[str]:
        """Those that run."""
        listed = self.hyper.ctl("pod", "ls", "-q", "--all-owners")
        assert listed.status == 0, listed
        return listed.out.split()


class Pod:
    """A static one, by the name of its manifest."""

    def __init__(self, kubelet: Kubelet, name: str) -> None:
        self.kubelet, self.name, self.full = kubelet, name, f"{name}-{NODE}"

    @property
    def manifest(self) -> Path:
        return self.kubelet.manifests / f"{self.name}.json"

    def seen(self) -> dict[str, Any]:
        """As the kubelet has it; empty where it has none."""
        return next((each for each in self.kubelet.pods() if each["metadata"]["name"] == self.full), {})

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.seen().get("status", {})
        return found

    def container(self, name: str) -> dict[str, Any]:
        """Its status; empty where there is none yet."""
        every = [*self.status().get("containerStatuses", []), *self.status().get("initContainerStatuses", [])]
        return next((each for each in every if each["name"] == name), {})

    def until(self, what: str, name: str, true: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """A container's status, when it is so."""

        def look() -> dict[str, Any]:
            found = self.container(name)
            return found if found and true(found) else {}

        found: dict[str, Any] = self.kubelet.until(f"{what} ({self.full} {name}: {self.container(name)})", look)
        return found

    def ready(self, *names: str) -> None:
        for name in names:
            self.until("ready", name, lambda status: status["ready"])

    def log(self, container: str, **query: str) -> str:
        words = "&".join(f"{key}={value}" for key, value in query.items())
        return self.kubelet.ask("GET", f"/containerLogs/default/{self.full}/{container}?{words}")

    def exec(self, container: str, *words: str, stdin: bytes | None = None) -> tuple[str, str, int]:
        """What a process in there says, and its status; -1 where there was none."""
        query = [("command", word) for word in words] + [("output", "1"), ("error", "1")]
        if stdin is not None:
            query.append(("input", "1"))
        return asyncio.run(streams.remote(f"{self._at('exec')}/{container}?{urlencode(query)}", stdin))

    def attach(self, container: str, stdin: bytes) -> tuple[str, str, int]:
        query = "input=1&output=1&error=1"
        return asyncio.run(streams.remote(f"{self._at('attach')}/{container}?{query}", stdin))

    def forward(self, port: int, said: bytes) -> bytes:
        """What is answered at a port of its loopback."""
        return asyncio.run(streams.forward(f"{self._at('portForward')}?port={port}", said))

    def _at(self, verb: str) -> str:
        return f"https://{HOST}:{STREAMS}/{verb}/default/{self.full}"

    def remove(self) -> None:
        self.manifest.unlink()


@contextmanager
def node(busybox: Path, apart: Apart) -> Iterator[Kubelet]:
    """A kubelet that runs, and a hyperd that has the image of that archive; what they ran is gone after the block."""
    folder = Path(tempfile.mkdtemp(prefix="hyper-"))
    (folder / "cni").mkdir()
    (folder / "cni/10-pods.conflist").write_text(network(folder))
    settings: dict[str, Value | None] = {
        "accelerator": "tcg",
        "memory_mib": 256,
        "cri_socket": str(folder / "c.sock"),
        "cni_conf_dir": str(folder / "cni"),
        "cni_bin_dirs": ["/usr/lib/cni"],
    }
    hyper = PrivateDaemon(folder, KERNELS, settings)
    hyper.hyperd = apart.argv(*hyper.hyperd)
    try:
        hyper.start()
        loaded = hyper.ctl("load", "-i", str(busybox))
        assert loaded.status == 0, loaded
        with control_group(apart.folder.name):
            kubelet = Kubelet(hyper, apart)
            try:
                kubelet.start()
                yield kubelet
                kubelet.clear()
                assert kubelet.left() == []
            finally:
                kubelet.stop(signal.SIGKILL)
    finally:
        hyper.close()
