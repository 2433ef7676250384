"""Pods by frakti, asked by crictl as by a kubelet: in virtual machines that boot."""

import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.testing.daemon import PrivateDaemon, Result, private_daemon
from tests.interop.clients import CLIENTS
from tests.interop.cri import PLUGINS, described

CRICTL = CLIENTS / "crictl/crictl"
LIMIT_S = 600.0
CONTAINER, NODE = 1, 2  # whose a namespace is
IMAGE = "docker.io/library/busybox:latest"
WAITS = ["sh", "-c", "trap 'exit 3' TERM; echo ready; sleep 1000000 & wait"]

pytestmark = [
    pytest.mark.interop,
    pytest.mark.docker,
    pytest.mark.vm,
    pytest.mark.skipif(not PLUGINS.exists(), reason="needs the package containernetworking-plugins"),
    pytest.mark.skipif(not CRICTL.exists(), reason="there is no crictl: run `make interop`"),
]


class Kubelet:
    """What it asks, by crictl, of the hyperd that `hyper` is; `folder` has its logs."""

    def __init__(self, hyper: PrivateDaemon, folder: Path) -> None:
        self.hyper, self.folder = hyper, folder

    def _argv(self, words: Sequence[str]) -> list[str]:
        socket = f"unix://{self.hyper.settings['cri_socket']}"
        return [str(CRICTL), "-r", socket, "-i", socket, "-t", "300s", *words]

    def spawn(self, *words: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(self._argv(words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def __call__(self, *words: str) -> Result:
        argv = self._argv(words)
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S)
        return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def ok(self, *words: str) -> str:
        done = self(*words)
        assert done.status == 0, (words, done)
        return done.out.strip()

    def _file(self, name: str, content: object) -> str:
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(content))
        return str(path)

    def pod(self, name: str = "pod", handler: str = "hyper", **described: Any) -> str:
        usual = {
            "metadata": {"name": name, "uid": name, "namespace": "default", "attempt": 1},
            "hostname": f"{name}-host",
            "log_directory": str(self.folder),
            "linux": {"security_context": {"namespace_options": {"pid": CONTAINER}}},
        }
        return self.ok("runp", "--runtime", handler, self._file(name, {**usual, **described}))

    def made(self, pod: str, name: str, *command: str, of: str = "pod", **described: Any) -> str:
        usual = {
            "metadata": {"name": name, "attempt": 1},
            "image": {"image": IMAGE},
            "command": list(command),
            "log_path": f"{name}.log",
            "linux": {"security_context": {"namespace_options": {"pid": CONTAINER}}},
        }
        return self.ok("create", pod, self._file(name, {**usual, **described}), str(self.folder / f"{of}.json"))

    def status(self, container: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ok("inspect", container))["status"]
        return found

    def log(self, name: str) -> list[str]:
        """Its lines, each without its time."""
        return [line.split(" ", 1)[1] for line in (self.folder / f"{name}.log").read_text().splitlines()]

    def until(self, container: str, state: str) -> dict[str, Any]:
        """crictl waits for nothing, and a kubelet looks again, too."""
        while (found := self.status(container))["state"] != state:
            continue
        return found


@pytest.fixture
def kubelet(frakti: PrivateDaemon, tmp_path: Path) -> Iterator[Kubelet]:
    kubelet = Kubelet(frakti, tmp_path)
    yield kubelet
    for pod in kubelet.ok("pods", "-q").split():
        kubelet.ok("stopp", pod)
        kubelet.ok("rmp", pod)
    assert kubelet.ok("ps", "-aq") == ""


def test_what_it_is(kubelet: Kubelet) -> None:
    assert "RuntimeName:  frakti" in kubelet.ok("version")
    info = json.loads(kubelet.ok("info"))
    conditions = {each["type"]: each["status"] for each in info["status"]["conditions"]}
    assert conditions == {"RuntimeReady": True, "NetworkReady": True}
    assert info["hyperd"]["Isolation"]["Level"] == "emulated"


def test_images(kubelet: Kubelet) -> None:
    [image] = json.loads(kubelet.ok("images", "-o", "json"))["images"]
    assert image["repoTags"] == [IMAGE] and image["id"].startswith("sha256:")
    assert json.loads(kubelet.ok("inspecti", IMAGE))["status"]["id"] == image["id"]
    assert kubelet("inspecti", "missing").status != 0
    usage = json.loads(kubelet.ok("imagefsinfo"))["status"]["imageFilesystems"][0]
    assert int(usage["usedBytes"]["value"]) > 1 << 20


def test_a_pod_from_its_start_to_its_end(kubelet: Kubelet, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir(mode=0o755)
    (tmp_path / "m/f").write_text("of the host\n")
    said = "echo out; echo err >&2; cat /m/f; hostname; id -u; echo $K; grep -c 10.9.8.7 /etc/resolv.conf"
    dns = {"servers": ["10.9.8.7"]}
    pod = kubelet.pod(dns_config=dns)
    one = kubelet.made(
        pod, "one", "sh", "-c", said,
        mounts=[{"container_path": "/m", "host_path": str(tmp_path / "m"), "readonly": True}],
        envs=[{"key": "K", "value": "v"}],
        linux={"security_context": {"run_as_user": {"value": 1000}}},
    )  # fmt: skip
    assert kubelet.status(one)["state"] == "CONTAINER_CREATED"
    kubelet.ok("start", one)
    ended = kubelet.until(one, "CONTAINER_EXITED")
    assert (ended["exitCode"], ended["reason"]) == (0, "Completed")
    lines = kubelet.log("one")
    assert "stderr F err" in lines
    stdout = [line.removeprefix("stdout F ") for line in lines if line.startswith("stdout")]
    assert stdout == ["out", "of the host", "pod-host", "1000", "v", "1"]
    two = kubelet.made(pod, "two", *WAITS)
    kubelet.ok("start", two)
    done = kubelet("exec", "-s", two, "sh", "-c", "echo in; exit 4")
    assert done.status != 0 and "exited with 4" in done.err
    assert kubelet.ok("exec", "-s", two, "cat", "/etc/hostname") == "pod-host"
    assert kubelet.ok("ps", "-q").split() == [two]
    kubelet.ok("stop", "-t", "30", two)
    assert kubelet.status(two)["exitCode"] == 3
    kubelet.ok("rm", "--keep-logs", two)
    kubelet.ok("stopp", pod)
    assert json.loads(kubelet.ok("inspectp", pod))["status"]["state"] == "SANDBOX_NOTREADY"
    assert kubelet("start", two).status != 0
    kubelet.ok("rmp", pod)
    assert kubelet.ok("pods", "-q") == ""


def test_its_network(kubelet: Kubelet) -> None:
    pod = kubelet.pod()
    one = kubelet.made(pod, "one", "httpd", "-f", "-p", "8080", "-h", "/www")
    two = kubelet.made(pod, "two", *WAITS)
    kubelet.ok("start", one)
    kubelet.ok("start", two)
    address = json.loads(kubelet.ok("inspectp", pod))["status"]["network"]["ip"]
    assert address in kubelet.ok("exec", "-s", two, "ip", "address", "show", "eth0")
    served = kubelet.ok("exec", "-s", two, "wget", "-q", "-O", "-", "http://127.0.0.1:8080/")  # of the same pod
    fetched = subprocess.run(
        ["busybox", "wget", "-q", "-O", "-", f"http://{address}:8080/"], capture_output=True, timeout=LIMIT_S
    )
    assert fetched.stdout.decode().strip() == served != ""
    kubelet.ok("stopp", pod)
    assert list(Path(str(kubelet.hyper.settings["run"]), "cni").iterdir()) == []


def test_an_exec_that_takes_too_long_is_ended(kubelet: Kubelet) -> None:
    one = kubelet.made(kubelet.pod(), "one", *WAITS)
    kubelet.ok("start", one)
    done = kubelet("exec", "-s", "--timeout", "1", one, "sleep", "1000")
    assert done.status != 0 and "DeadlineExceeded" in done.err
    assert "sleep 1000" not in kubelet.ok("exec", "-s", one, "ps").replace("sleep 1000000", "")


def test_what_cannot_be_run_has_ended(kubelet: Kubelet) -> None:
    one = kubelet.made(kubelet.pod(), "one", "/no/such")
    assert "No such file" in kubelet("start", one).err
    found = kubelet.status(one)
    assert (found["state"], found["exitCode"], found["reason"]) == ("CONTAINER_EXITED", 127, "StartError")


def test_what_it_uses(kubelet: Kubelet) -> None:
    pod = kubelet.pod()
    one = kubelet.made(pod, "one", *WAITS)
    assert json.loads(kubelet.ok("stats", "-o", "json"))["stats"] == []  # nothing runs
    kubelet.ok("start", one)
    [found] = json.loads(kubelet.ok("stats", "-o", "json"))["stats"]
    assert found["attributes"]["id"] == one and int(found["memory"]["workingSetBytes"]["value"]) > 0
    [whole] = json.loads(kubelet.ok("statsp", "-o", "json"))["stats"]
    assert whole["attributes"]["id"] == pod and int(whole["linux"]["process"]["processCount"]["value"]) > 0
    assert [each["attributes"]["id"] for each in whole["linux"]["containers"]] == [one]


def test_limits_that_change(kubelet: Kubelet) -> None:
    limits = {"resources": {"memory_limit_in_bytes": 64 << 20}}
    one = kubelet.made(kubelet.pod(), "one", *WAITS, linux=limits)
    kubelet.ok("start", one)
    assert kubelet.ok("exec", "-s", one, "cat", "/sys/fs/cgroup/memory.max") == str(64 << 20)
    kubelet.ok("update", "--memory", str(96 << 20), one)
    assert kubelet.ok("exec", "-s", one, "cat", "/sys/fs/cgroup/memory.max") == str(96 << 20)


def test_limits_that_a_hyperd_wrote_down_and_did_not_tell(kubelet: Kubelet) -> None:
    pod = kubelet.pod()
    one = kubelet.made(pod, "one", *WAITS, linux={"resources": {"memory_limit_in_bytes": 64 << 20}})
    kubelet.ok("start", one)
    process = kubelet.hyper.process
    assert process
    process.send_signal(signal.SIGKILL)
    process.wait()
    path = Path(str(kubelet.hyper.settings["root"]), "pods", pod, "pod.json")
    record = json.loads(path.read_bytes())
    record["containers"][0]["config"]["resources"]["memory_bytes"] = 96 << 20  # and killed in the middle of an update
    path.write_text(json.dumps(record))
    kubelet.hyper.start()
    assert kubelet.ok("exec", "-s", one, "cat", "/sys/fs/cgroup/memory.max") == str(96 << 20)


def test_a_hyperd_that_is_killed_comes_back_to_all_of_it(kubelet: Kubelet) -> None:
    pod = kubelet.pod()
    one = kubelet.made(pod, "one", "sh", "-c", "echo before; read line; echo after; exit 5", stdin=True)
    two = kubelet.made(pod, "two", *WAITS)
    kubelet.ok("start", one)
    kubelet.ok("start", two)
    before = kubelet.status(two), json.loads(kubelet.ok("inspectp", pod))["status"]
    process = kubelet.hyper.process
    assert process
    process.send_signal(signal.SIGKILL)
    process.wait()
    kubelet.hyper.start()
    assert (kubelet.status(two), json.loads(kubelet.ok("inspectp", pod))["status"]) == before
    assert kubelet.pod() == pod and kubelet.made(pod, "two", *WAITS) == two  # asked again
    assert kubelet.ok("exec", "-s", two, "echo", "in") == "in"
    kubelet.ok("stop", "-t", "0", one)
    assert kubelet.status(one)["exitCode"] == 137 and kubelet.log("one") == ["stdout F before"]


@pytest.mark.parametrize(
    ("linux", "words"),
    [
        ({"security_context": {"namespace_options": {"network": NODE}}}, "hostNetwork"),
        ({"security_context": {"namespace_options": {"pid": NODE}}}, "hostPID"),
    ],
)
def test_what_no_machine_has_is_refused(kubelet: Kubelet, linux: dict[str, Any], words: str) -> None:
    described = {"metadata": {"name": "p", "uid": "p", "namespace": "default"}, "linux": linux}
    done = kubelet("runp", kubelet._file("refused", described))
    assert done.status != 0 and words in done.err and "InvalidArgument" in done.err


def test_handlers(kernels: Path, busybox_archive: Path, tmp_path: Path) -> None:
    settings = described(tmp_path)
    del settings["pool"]
    handlers = {"hyper-small": {"memory_mib": 128, "cache": 1}}
    with private_daemon(kernels, {**settings, "cri_handlers": handlers}) as daemon:
        kubelet = Kubelet(daemon, tmp_path)
        there = [each.get("name", "") for each in json.loads(kubelet.ok("info"))["runtimeHandlers"]]
        assert there == ["", "hyper", "hyper-small"]
        assert daemon.ctl("load", "-i", str(busybox_archive)).status == 0
        assert daemon.ctl("factory", "init").status == 0
        pod = kubelet.pod(handler="hyper-small")
        pools = daemon.ctl("factory", "status").out.splitlines()
        [head] = [n for n, row in enumerate(pools) if "TAKEN" in row]
        taken = [row[pools[head].index("TAKEN") :].split()[:1] for row in pools[head:] if " 128MiB" in row]
        assert ["1"] in taken, pools
        one = kubelet.made(pod, "one", *WAITS)
        kubelet.ok("start", one)
        assert 64 << 10 < int(kubelet.ok("exec", "-s", one, "awk", "/MemTotal/{print $2}", "/proc/meminfo")) < 128 << 10
        (tmp_path / "pod.json").write_text((tmp_path / "pod.json").read_text().replace('"uid": "pod"', '"uid": "no"'))
        refused = kubelet("runp", "--runtime", "runc", str(tmp_path / "pod.json"))
        assert refused.status != 0 and "there is hyper, hyper-small" in refused.err
        assert daemon.ctl("pod", "ls", "-q").out == "" and "default/pod " in daemon.ctl("pod", "ls", "--cri").out
        assert "another engine" in daemon.ctl("pod", "rm", "-f", pod).err
        assert daemon.ctl("pod", "rm", "-f", "--all-owners", pod).status == 0
        assert kubelet.ok("pods", "-q") == ""
        assert list(Path(str(daemon.settings["run"]), "cni").iterdir()) == []
