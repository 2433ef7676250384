"""runv with systemd's control groups: a real systemd and its bus, hyperd and runv in there, a machine of ours."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hypercontainer.testing.busybox import find_busybox
from hypercontainer.testing.daemon import PrivateDaemon, Value
from tests.interop.podman import PODMAN, podman
from tests.interop.systemd import BUS, SYSTEMD, Lab, systemd
from tests.oci.bundle import Bundle

pytestmark = [
    pytest.mark.interop,
    pytest.mark.docker,
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces are root's to make"),
    pytest.mark.skipif(not (SYSTEMD.exists() and BUS.exists()), reason="no systemd or dbus: run `make interop`"),
]
SLICE, UNIT = "machine-hyper.slice", "docker-one.scope"
GROUP = f"/machine.slice/{SLICE}/{UNIT}"


class Host:
    """A host with systemd, on which hyperd runs."""

    def __init__(self, lab: Lab, daemon: PrivateDaemon, version: int) -> None:
        self.lab, self.daemon, self.version = lab, daemon, version  # of control groups

    def runv(self, *words: str) -> list[str]:
        door = f"unix://{self.daemon.folder}/hyper-oci.sock"
        root = f"{self.daemon.folder}/owner"
        return [str(self.daemon.bin / "runv"), "--host", door, "--root", root, "--systemd-cgroup", *words]

    def ok(self, *words: str) -> str:
        return self.lab.ok(*self.runv(*words))

    def bundle(self, group: str) -> Bundle:
        folder = Path(tempfile.mkdtemp(dir=self.daemon.folder))
        busybox = folder / "busybox"
        busybox.write_bytes(Path(find_busybox()).read_bytes())
        busybox.chmod(0o755)
        return Bundle(folder / "bundle", busybox, ["sleep", "1000"], group)

    def create(self, bundle: Bundle, id: str) -> subprocess.CompletedProcess[bytes]:
        bundle.save()
        argv = self.lab.argv(*self.runv("create", "--bundle", str(bundle.folder), id))
        with tempfile.TemporaryFile() as said:  # the stand-in has it, too, which stays
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=600)
            said.seek(0)
            return subprocess.CompletedProcess(argv, done.returncode, said.read())

    def groups(self, pid: int) -> list[str]:
        lines = self.lab.ok("cat", f"/proc/{pid}/cgroup").splitlines()
        return [line.split(":", 2)[2] for line in lines]

    def counted(self, group: str) -> list[str]:
        """Memory and microseconds of a processor that the machine in there may have; [] where it is not."""
        folders = [f"/sys/fs/cgroup/{name}{group}" for name in ("memory", "cpu")]
        if self.lab.run("grep", "-q", "qemu", *map("/proc/{}/cmdline".format, self._processes(folders[0]))).status:
            return []
        return self.lab.ok("cat", f"{folders[0]}/memory.limit_in_bytes", f"{folders[1]}/cpu.cfs_quota_us").split()

    def _processes(self, folder: str) -> list[str]:
        return self.lab.run("cat", f"{folder}/cgroup.procs").out.split() or ["none"]

    def scopes(self) -> list[str]:
        """All that systemd has, but for its own."""
        listed = json.loads(self.lab.ok("systemctl", "list-units", "--all", "--type=scope", "--output=json"))
        return [unit["unit"] for unit in listed if unit["unit"] != "init.scope"]


@pytest.fixture(scope="module", params=[1, 2])
def host(request: pytest.FixtureRequest, kernels: Path) -> Iterator[Host]:
    settings: dict[str, Value | None] = {"accelerator": "tcg", "memory_mib": 256, "factory": "direct"}
    daemon = PrivateDaemon(Path(tempfile.mkdtemp(prefix="hyper-")), kernels, settings)
    plain = daemon.hyperd
    with ExitStack() as stack:

        def close() -> None:
            if daemon.process:
                daemon.process.wait(120)
            daemon.hyperd, daemon.process = plain, None
            daemon.close()

        stack.callback(close)  # by one outside: all inside has ended with the lab
        try:
            lab = stack.enter_context(systemd(request.param))
        except OSError as e:
            pytest.skip(str(e))
        daemon.hyperd = lab.argv(*plain)
        daemon.start()
        yield Host(lab, daemon, request.param)


def test_a_container_is_in_a_scope_while_it_is_there(host: Host) -> None:
    bundle = host.bundle(f"{SLICE}:docker:one")
    bundle.linux["resources"] = {"cpu": {"quota": 50_000}}
    done = host.create(bundle, "one")
    assert done.returncode == 0, done
    try:
        pid = json.loads(host.ok("state", "one"))["pid"]
        assert GROUP in host.groups(pid)
        shown = host.lab.ok("systemctl", "show", UNIT, "--property=ActiveState,Slice,Delegate,MemoryAccounting")
        assert set(shown.splitlines()) == {
            "ActiveState=active",
            f"Slice={SLICE}",
            "Delegate=yes",
            "MemoryAccounting=yes",
        }
        host.ok("start", "one")
        before = host.counted(GROUP)
        assert before == ([str((256 + 256) << 20), "75000"] if host.version == 1 else [])
        host.lab.ok("systemctl", "daemon-reload")
        assert json.loads(host.ok("state", "one"))["status"] == "running"
        host.lab.ok("systemctl", "set-property", "--runtime", UNIT, "TasksMax=200")  # and all that it knows
        assert host.counted(GROUP) == before
    finally:
        host.ok("delete", "--force", "one")
    host.lab.run("systemctl", "stop", UNIT)  # waits for whatever systemd has to do about it
    assert host.scopes() == []
    assert host.lab.ok("find", "/sys/fs/cgroup", "-name", UNIT) == ""


def test_one_comes_where_one_has_just_been(host: Host) -> None:
    bundle = host.bundle(f"{SLICE}:docker:one")
    for _ in range(2):
        done = host.create(bundle, "one")
        assert done.returncode == 0, done
        host.ok("delete", "--force", "one")


def test_a_container_whose_engine_names_none_is_in_the_systems_slice(host: Host) -> None:
    done = host.create(host.bundle(""), "two")
    assert done.returncode == 0, done
    pid = json.loads(host.ok("state", "two"))["pid"]
    assert "/system.slice/runv-two.scope" in host.groups(pid)
    host.ok("delete", "--force", "two")


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ("/a/path", "it is slice:prefix:name"),
        ("a.slice:docker:", "it is slice:prefix:name"),
        ("a.slice:docker:a/b", "it is slice:prefix:name"),
        ("a--b.slice:docker:x", "cannot make docker-x.scope in a--b.slice: Call failed"),
    ],
)
def test_what_systemd_does_not_take_is_refused(host: Host, group: str, words: str) -> None:
    done = host.create(host.bundle(group), "bad")
    assert done.returncode == 1 and words in done.stdout.decode()
    assert host.lab.run(*host.runv("state", "bad")).err == "container does not exist\n"
    assert host.scopes() == []


@pytest.mark.skipif(not PODMAN.exists(), reason="there is no podman: run `make interop`")
def test_podman_with_its_usual_control_groups(host: Host, busybox_archive: Path) -> None:
    runv = f"{host.daemon.bin}/runv --host unix://{host.daemon.folder}/hyper-oci.sock"
    with podman({"runv": runv}, host.lab.argv()) as pod:
        pod.ok("load", "-q", "-i", str(busybox_archive))
        id = pod.ok("run", "-d", "--network", "none", "busybox", "sleep", "1000")
        pid = int(pod.ok("inspect", "--format", "{{.State.Pid}}", id))
        assert f"/machine.slice/libpod-{id}.scope" in host.groups(pid)
        assert pod.ok("exec", id, "echo", "here") == "here"
        pod.ok("rm", "-f", "-t", "0", id)
        host.lab.run("systemctl", "stop", f"libpod-{id}.scope", f"libpod-conmon-{id}.scope")
        assert host.scopes() == []
