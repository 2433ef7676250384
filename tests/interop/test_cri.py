"""Pods of Kubernetes in machines: containerd's CRI plugin with our shim, and CRI-O with runv, asked by crictl as by a
kubelet."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.testing import busybox
from hypercontainer.testing.daemon import PrivateDaemon, Result
from tests.interop.clients import CLIENTS
from tests.interop.containerd import CONTAINERD, Containerd, containerd, until
from tests.interop.crio import CRIO, Crio, crio

CRICTL = CLIENTS / "crictl/crictl"
LIMIT_S = 600.0
POD, CONTAINER = 0, 1  # whose a namespace is
SPACE = ["-n", "k8s.io"]
PAUSE = ["sh", "-c", "trap exit TERM; sleep 1000000 & wait"]

pytestmark = [
    pytest.mark.interop,
    pytest.mark.docker,
    pytest.mark.vm,
    pytest.mark.skipif(not CONTAINERD.exists(), reason="there is no containerd: run `make interop`"),
    pytest.mark.skipif(not CRICTL.exists(), reason="there is no crictl: run `make interop`"),
]


class Cri:
    """What a kubelet asks `engine`, by crictl. `pod` and `container` run what they make."""

    def __init__(self, engine: Containerd | Crio, hyper: PrivateDaemon, folder: Path) -> None:
        self.engine, self.hyper, self.folder = engine, hyper, folder
        self._pid = CONTAINER

    def argv(self, *words: str) -> list[str]:
        socket = f"unix://{self.engine.folder}/c.sock"
        return [*self.engine.inside(), str(CRICTL), "-r", socket, "-i", socket, "-t", "300s", *words]

    def __call__(self, *words: str) -> Result:
        done = subprocess.run(self.argv(*words), stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S)
        return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def ok(self, *words: str) -> str:
        done = self(*words)
        assert done.status == 0, (words, done, self.engine.log()[-3000:])
        return done.out.strip()

    def _file(self, name: str, content: object) -> str:
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(content))
        return str(path)

    def pod(self, *, pid: int = CONTAINER, **linux: Any) -> str:
        """The id of one named `pod`; `pid`: whose process ids its containers have."""
        self._pid = pid
        described = {
            "metadata": {"name": "pod", "uid": "1", "namespace": "default", "attempt": 1},
            "hostname": "pod-host",
            "log_directory": str(self.folder),
            "linux": {"security_context": {"namespace_options": {"pid": pid}}, **linux},
        }
        return self.ok("runp", "--runtime", "hyper", self._file("pod", described))

    def made(self, pod: str, name: str, *command: str, **linux: Any) -> str:
        described = {
            "metadata": {"name": name, "attempt": 1},
            "image": {"image": "docker.io/library/busybox:latest"},
            "command": list(command),
            "log_path": f"{name}.log",
            "linux": {"security_context": {"namespace_options": {"pid": self._pid}}, **linux},
        }
        return self.ok("create", pod, self._file(name, described), str(self.folder / "pod.json"))

    def container(self, pod: str, name: str, *command: str, **linux: Any) -> str:
        id = self.made(pod, name, *command, **linux)
        self.ok("start", id)
        return id

    def stop(self) -> None:
        """Whatever runs; a kubelet would wait for what does not obey."""
        for id in self.ok("ps", "-q").split():
            self.ok("stop", "-t", "0", id)

    def inside(self, container: str, *command: str) -> str:
        return self.ok("exec", "--sync", container, *command)

    @contextmanager
    def forwarding(self, pod: str, port: int) -> Iterator[int]:
        """The port that leads to that one of the pod."""
        argv = self.argv("port-forward", pod, f"0:{port}")
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as client:
            assert client.stdout
            try:
                words = client.stdout.readline().decode()
                yield int(words.split(":")[1].split()[0])  # Forwarding from 127.0.0.1:PORT -> …
            finally:
                client.kill()

    def fetch(self, pod: str, port: int) -> bytes:
        """What is served there, by a client of its own: one whose connection is refused ends."""
        with self.forwarding(pod, port) as ours:
            wget = ["busybox", "wget", "-q", "-O", "-", f"http://127.0.0.1:{ours}/hostname"]
            return subprocess.run([*self.engine.inside(), *wget], capture_output=True, timeout=LIMIT_S).stdout

    def status(self, container: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ok("inspect", container))["status"]
        return found


@pytest.fixture(scope="module", params=["containerd", "containerd-today", "cri-o"])
def engine(
    request: pytest.FixtureRequest,
    shared_hyperd: PrivateDaemon,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Containerd | Crio]:
    images = [tmp_path_factory.mktemp("images") / name for name in ("pause.tar", "busybox.tar")]
    busybox.write_archive(images[0], ["docker.io/library/pause:1"], config={"Cmd": PAUSE})
    busybox.write_archive(images[1], ["docker.io/library/busybox:latest"])
    socket = f"unix://{shared_hyperd.folder}/hyper-oci.sock"
    if request.param != "cri-o":
        which = "today" if "today" in request.param else "debian"
        with containerd(shared_hyperd.bin, {"HYPER_OCI_HOST": socket}, cri=True, which=which) as daemon:
            for archive in images:
                daemon.ok(*SPACE, "image", "import", str(archive))
            yield daemon
    elif not CRIO.exists():
        pytest.skip("there is no CRI-O: run `make interop`")
    else:
        with crio(f"{shared_hyperd.bin}/runv --host {socket}", *images) as running:
            yield running


@pytest.fixture
def cri(engine: Containerd | Crio, hyper: PrivateDaemon, tmp_path: Path) -> Iterator[Cri]:
    made = Cri(engine, hyper, tmp_path)
    yield made
    if hyper.process is None:
        hyper.start()
    made.stop()
    made("rmp", "-f", "-a")
    assert made.ok("pods", "-q") == ""


def test_a_pod_is_one_machine(cri: Cri) -> None:
    pod = cri.pod()
    web = cri.container(pod, "web", "httpd", "-f", "-h", "/etc")
    other = cri.container(pod, "other", "sleep", "1000")
    assert cri.inside(other, "wget", "-q", "-O", "-", "http://127.0.0.1/hostname") == "pod-host"
    assert {cri.inside(each, "hostname") for each in (web, other)} == {"pod-host"}
    assert len({cri.inside(each, "cat", "/proc/sys/kernel/random/boot_id") for each in (web, other)}) == 1
    address = json.loads(cri.ok("inspectp", pod))["status"]["network"]["ip"]
    assert address in cri.inside(web, "ip", "-4", "addr", "show", "eth0")
    reached = subprocess.run(
        [*cri.engine.inside(), "busybox", "wget", "-q", "-O", "-", f"http://{address}/hostname"], capture_output=True
    )
    assert reached.stdout == b"pod-host\n", reached
    cri.inside(web, "sh", "-c", "echo words >/dev/shm/file")
    assert cri.inside(other, "cat", "/dev/shm/file") == "words"
    assert "httpd" not in cri.inside(other, "ps")
    assert len(cri.hyper.ctl("pod", "ls", "-q", "--all-owners").out.split()) == 1


def test_how_a_container_ends_and_what_it_said(cri: Cri) -> None:
    pod = cri.pod()
    id = cri.container(pod, "said", "sh", "-c", "echo out; echo err >&2; exit 42")
    until(lambda: cri.status(id)["state"] == "CONTAINER_EXITED")
    assert cri.status(id)["exitCode"] == 42
    said = [line.split(" ", 3)[1:] for line in (cri.folder / "said.log").read_text().splitlines()]
    assert sorted(said) == [["stderr", "F", "err"], ["stdout", "F", "out"]]
    with pytest.raises(AssertionError, match=r"cannot run nosuch|executable file not found"):
        cri.container(pod, "nosuch", "nosuch")
    cri.ok("rm", id)
    again = cri.container(pod, "again", "sleep", "1000")
    cri.ok("stop", "-t", "0", again)
    assert cri.status(again)["exitCode"] == 137


def test_processes_of_a_pod_together(cri: Cri) -> None:
    pod = cri.pod(pid=POD)
    cri.container(pod, "web", "httpd", "-f", "-h", "/etc")
    other = cri.container(pod, "other", "sleep", "1000")
    assert "httpd" in cri.inside(other, "ps")


def test_a_machine_has_room_for_its_pod(cri: Cri) -> None:
    pod = cri.pod()
    first = cri.container(pod, "first", "sleep", "1000")
    free = "free -m | awk '/Mem:/ {print $2}'"
    before = int(cri.inside(first, "sh", "-c", free))
    limits = {"memory_limit_in_bytes": 900 << 20, "cpu_quota": 200_000, "cpu_period": 100_000}
    large = cri.container(pod, "large", "sleep", "1000", resources=limits)
    assert int(cri.inside(first, "sh", "-c", free)) > before + 600
    assert cri.inside(large, "nproc") == "2"
    assert cri.inside(large, "cat", "/sys/fs/cgroup/memory.max") == str(900 << 20)
    cri.ok("update", "--memory", str(64 << 20), large)
    assert cri.inside(large, "cat", "/sys/fs/cgroup/memory.max") == str(64 << 20)


def test_a_pod_that_says_what_it_will_use_has_that_from_the_start(cri: Cri) -> None:
    if isinstance(cri.engine, Crio):
        pytest.skip("CRI-O tells a runtime nothing of that where a pod has no first container of its own")
    pod = cri.pod(resources={"memory_limit_in_bytes": 1 << 30, "cpu_quota": 300_000, "cpu_period": 100_000})
    first = cri.container(pod, "first", "sleep", "1000")
    assert cri.inside(first, "nproc") == "3"
    assert int(cri.inside(first, "sh", "-c", "free -m | awk '/Mem:/ {print $2}'")) > 1024


def test_the_death_of_hyperd_changes_nothing(cri: Cri) -> None:
    pod = cri.pod()
    ids = [cri.container(pod, name, "sleep", "1000") for name in ("one", "two")]
    boots = [cri.inside(id, "cat", "/proc/sys/kernel/random/boot_id") for id in ids]
    cri.hyper.signal(signal.SIGKILL)
    assert len(cri.ok("ps", "-q").split()) == 2
    cri.hyper.start()
    assert [cri.inside(id, "cat", "/proc/sys/kernel/random/boot_id") for id in ids] == boots
    cri.container(pod, "three", "sleep", "1000")
    assert len(cri.ok("ps", "-q").split()) == 3
    cri.stop()
    cri.ok("stopp", pod)
    assert {cri.status(id)["state"] for id in ids} == {"CONTAINER_EXITED"}


def test_ports_are_forwarded(cri: Cri) -> None:
    """To what listens at the machine's loopback alone, too; and after hyperd's death, and when nobody listens."""
    pod = cri.pod()
    web = cri.container(pod, "web", "httpd", "-f", "-p", "127.0.0.1:8080", "-h", "/etc")
    until(lambda: cri("exec", "--sync", web, "wget", "-q", "-O", "-", "http://127.0.0.1:8080/hostname").status == 0)
    until(lambda: cri.fetch(pod, 8080) == b"pod-host\n")
    assert cri.fetch(pod, 8081) == b""
    cri.hyper.signal(signal.SIGKILL)
    cri.hyper.start()
    until(lambda: cri.fetch(pod, 8080) == b"pod-host\n")


def test_the_hosts_network_is_refused(cri: Cri) -> None:
    with pytest.raises(AssertionError, match=r"no network namespace|it is this host"):
        cri.pod(security_context={"namespace_options": {"network": 2}})
