"""podman with runv as a runtime: what it makes of it, beside runc. It is in a mount namespace of its own throughout."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.sandbox import criu
from hypercontainer.testing.daemon import PrivateDaemon, Result
from tests.interop.podman import LIMIT_S, PODMAN, Podman, podman

pytestmark = [
    pytest.mark.interop,
    pytest.mark.docker,
    pytest.mark.vm,
    pytest.mark.skipif(not PODMAN.exists(), reason="there is no podman: run `make interop`"),
]


@pytest.fixture(scope="module")
def pod(shared_hyperd: PrivateDaemon, busybox_archive: Path) -> Iterator[Podman]:
    runv = f"{shared_hyperd.bin}/runv --host unix://{shared_hyperd.folder}/hyper-oci.sock"
    with podman({"runv": runv, "runc": "/usr/sbin/runc"}) as made:
        made.ok("load", "-q", "-i", str(busybox_archive))
        yield made


@pytest.mark.parametrize(
    ("words", "stdin"),
    [
        (["busybox", "sh", "-c", "echo out; echo err >&2; exit 42"], b""),
        (["-i", "busybox", "wc", "-c"], b"x" * 100_000),
        (["-t", "busybox", "tty"], b""),
        (["-e", "A=b", "-w", "/tmp", "-u", "33:50", "busybox", "sh", "-c", "echo $A; pwd; id -u; id -g"], b""),
        (["--read-only", "busybox", "touch", "/x"], b""),
        (["--read-only", "busybox", "sh", "-c", "touch /run/x /tmp/x && stat -c %a /tmp"], b""),
        (["--tmpfs", "/t:size=1m", "busybox", "sh", "-c", "stat -c %a /t; df -m /t | tail -1 | awk '{print $2}'"], b""),
        (["--tmpfs", "/www", "busybox", "ls", "/www"], b""),
        (["--shm-size", "7m", "busybox", "sh", "-c", "df -m /dev/shm | tail -1 | awk '{print $2}'"], b""),
        (["--cap-drop", "ALL", "busybox", "chown", "33", "/tmp"], b""),
        (["--sysctl", "net.ipv4.ip_default_ttl=77", "busybox", "cat", "/proc/sys/net/ipv4/ip_default_ttl"], b""),
        (["-v", "kept:/kept", "busybox", "sh", "-c", "echo x >>/kept/file; ls /kept"], b""),
        (["--network", "none", "busybox", "ls", "/sys/class/net"], b""),
        (["busybox", "sh", "-c", "sh -c 'kill -9 $$'"], b""),
        (["busybox", "ip", "-4", "route", "show", "default"], b""),
    ],
)
def test_a_run_is_what_it_is_with_runc(pod: Podman, words: list[str], stdin: bytes) -> None:
    def run(runtime: str) -> Result:
        return pod("run", "--rm", "--name", "same", "--hostname", "same", *words, stdin=stdin, runtime=runtime)

    assert run("runv") == run("runc")


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["busybox", "nosuch"], 127),
        (["busybox", "/nosuch"], 127),
        (["busybox", "/etc"], 126),
        (["-v", "kept:/kept", "busybox", "/kept/nosuch"], 127),
        (["--nosuch", "busybox"], 125),
    ],
)
def test_what_cannot_be_run_has_podmans_status(pod: Podman, words: list[str], status: int) -> None:
    assert [pod("run", "--rm", *words, runtime=runtime).status for runtime in ("runv", "runc")] == [status] * 2
    assert pod.ok("ps", "-a", "-q") == ""


@pytest.mark.parametrize("kind", ["network", "pid", "ipc", "uts"])
def test_a_namespace_of_the_host_is_refused_by_its_name(pod: Podman, kind: str) -> None:
    refused = pod("run", "--rm", f"--{kind}", "host", "busybox", "true")
    assert refused.status == 126 and f"no {kind} namespace, which is the host's" in refused.err
    assert pod.ok("ps", "-a", "-q") == ""


def test_processes_as_the_containers_own_ps_has_them(pod: Podman) -> None:
    options = (["-ef"], ["aux"], ["-o", "pid,args"], ["-o pid,user,args"])

    def top(runtime: str) -> list[str]:
        pod.ok("run", "-d", "--name", "tops", "busybox", "sleep", "1000", runtime=runtime)
        try:
            return [pod.ok("top", "tops", *words) for words in options]
        finally:
            pod("rm", "-f", "-t", "0", "tops", runtime=runtime)

    assert top("runv") == top("runc")


def test_statistics_are_of_the_machine(pod: Podman) -> None:
    script = "head -c 100000000 /dev/zero >/dev/shm/file; echo filled; while :; do :; done"
    pod.ok("run", "-d", "--name", "burns", "--shm-size", "120m", "-m", "200m", "busybox", "sh", "-c", script)
    try:
        with subprocess.Popen(pod.argv("runv", "logs", "-f", "burns"), env=pod.env, stdout=subprocess.PIPE) as logs:
            assert logs.stdout and logs.stdout.readline() == b"filled\n"
            logs.terminate()
        shown = pod.ok("stats", "--no-stream", "--format", "{{.CPUPerc}} {{.PIDS}} {{.MemUsage}}", "burns").split()
        assert float(shown[0].rstrip("%")) > 10 and int(shown[1]) > 1
        assert shown[2].endswith("MB") and float(shown[2].rstrip("MB")) > 90
        assert shown[4] == "209.7MB"  # which podman knows from elsewhere
    finally:
        pod("rm", "-f", "-t", "0", "burns")


def test_a_life(pod: Podman) -> None:
    script = "trap 'echo term; exit 5' TERM; echo up; while :; do sleep 0.1; done"
    pod.ok("run", "-d", "--name", "life", "-m", "64m", "busybox", "sh", "-c", script)
    try:
        assert pod.ok("exec", "life", "uname", "-r") != pod.ok("info", "--format", "{{.Host.Kernel}}")
        assert pod("exec", "-i", "life", "sh", "-c", "cat >/file; exit 9", stdin=b"words").status == 9
        assert pod("exec", "life", "nosuch").status == 127
        assert pod.ok("exec", "-t", "life", "tty") == "/dev/pts/0"
        assert pod.ok("inspect", "-f", "{{.State.Status}} {{.OCIRuntime}}", "life") == "running runv"
        pod.ok("pause", "life")
        assert pod.ok("inspect", "-f", "{{.State.Status}}", "life") == "paused"
        pod.ok("unpause", "life")
        pod.ok("stop", "-t", "60", "life")
        assert pod.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "life") == "exited 5"
        assert pod.ok("logs", "life") == "up\nterm"
        pod.ok("start", "life")
        assert pod.ok("exec", "life", "cat", "/file") == "words"
        pod.ok("kill", "life")
        assert pod.ok("wait", "life") == "137"
        pod.ok("restart", "life")
        assert pod.ok("exec", "life", "cat", "/file") == "words"
    finally:
        pod("rm", "-f", "-t", "0", "life")
    assert pod("container", "exists", "life").status == 1


def test_files_are_copied_into_the_container_and_nowhere_else(pod: Podman, tmp_path: Path) -> None:
    """podman goes by the mount namespace of the pid that it knows."""
    (tmp_path / "ro").mkdir()
    (tmp_path / "file").write_text("words")
    binds = ["-v", "copied:/volume", "-v", f"{tmp_path}/ro:/ro:ro"]
    pod.ok("run", "-d", "--name", "files", *binds, "busybox", "sleep", "1000")
    try:
        for place in ("/tmp/of-a-container", "/volume/file"):
            pod.ok("cp", f"{tmp_path}/file", f"files:{place}")
            assert pod.ok("exec", "files", "cat", place) == "words"
        assert not Path("/tmp/of-a-container").exists()
        assert "read-only" in pod("cp", f"{tmp_path}/file", "files:/ro/file").err
        assert list((tmp_path / "ro").iterdir()) == []
        pod.ok("cp", "files:/www/index.html", str(tmp_path / "page"))
        assert "virtual machine" in (tmp_path / "page").read_text()
        assert "/tmp/of-a-container" in pod.ok("diff", "files")
    finally:
        pod("rm", "-f", "-t", "0", "files")
        pod("volume", "rm", "copied")


@pytest.mark.skipif(not shutil.which("criu", path=criu.PATH), reason="there is no criu: run `make interop`")
def test_processes_go_on_from_a_checkpoint(pod: Podman, tmp_path: Path) -> None:
    script = "n=0; while :; do n=$((n + 1)); echo $n >/dev/shm/count; sleep 0.1; done"
    read = 'until n=$(cat $0) && test -n "$n"; do sleep 0.1; done; echo $n'  # a file has nothing while it is written
    counted = ("sh", "-c", read, "/dev/shm/count")
    status = ("inspect", "-f", "{{.State.Status}} {{.State.Checkpointed}}")
    pod.ok("run", "-d", "--name", "saved", "busybox", "sh", "-c", script)
    try:
        before = int(pod.ok("exec", "saved", *counted))
        pod.ok("container", "checkpoint", "saved")
        assert pod.ok(*status, "saved") == "exited true"
        pod.ok("container", "restore", "saved")
        after = int(pod.ok("exec", "saved", *counted))
        assert after > before
        # podman takes the files when the processes run again: what they write in the meantime would not fit to them.
        pod.ok("exec", "saved", "sh", "-c", "echo changed >/file")
        pod.ok("container", "checkpoint", "--export", f"{tmp_path}/saved.tar", "--leave-running", "saved")
        assert pod.ok(*status, "saved") == "running false"
        pod.ok("container", "restore", "--import", f"{tmp_path}/saved.tar", "--name", "copied")
        assert int(pod.ok("exec", "copied", *counted)) > after
        assert pod.ok("exec", "copied", "cat", "/file") == "changed"
        refused = pod("container", "checkpoint", "--tcp-established", "saved")
        assert refused.status == 125 and "--tcp-established: connections end" in refused.err
        assert pod.ok(*status, "saved") == "running false"
    finally:
        pod("rm", "-f", "-t", "0", "saved", "copied")


@pytest.mark.skipif(not shutil.which("criu", path=criu.PATH), reason="there is no criu: run `make interop`")
def test_a_checkpoint_that_cannot_be_is_refused_and_the_container_runs_on(pod: Podman) -> None:
    pod.ok("run", "-d", "-t", "--name", "tty", "busybox", "sleep", "1000")
    try:
        refused = pod("container", "checkpoint", "tty")
        assert refused.status == 125 and "it has a terminal" in refused.err and "; see " not in refused.err
        assert pod.ok("inspect", "-f", "{{.State.Status}}", "tty") == "running"
    finally:
        pod("rm", "-f", "-t", "0", "tty")


def test_networks_and_ports(pod: Podman) -> None:
    pod.ok("network", "create", "front")
    try:
        page = ["busybox", "httpd", "-f", "-h", "/www"]
        pod.ok("run", "-d", "--name", "web", "--network", "front", "-p", "127.0.0.1:8099:80", *page)
        address = pod.ok("inspect", "-f", "{{.NetworkSettings.Networks.front.IPAddress}}", "web")
        get = ["wget", "-q", "-O", "-"]
        assert "virtual machine" in pod.ok("run", "--rm", "--network", "front", "busybox", *get, f"http://{address}/")
        published = subprocess.run(
            [*pod.inside, "python3", "-c", GET, "http://127.0.0.1:8099/"], capture_output=True, timeout=LIMIT_S
        )
        assert b"virtual machine" in published.stdout, published
    finally:
        pod("rm", "-f", "-t", "0", "web")
        pod("network", "rm", "front")


GET = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read())"


def test_a_pod_is_one_machine(pod: Podman) -> None:
    infra = ("--infra-image", "busybox", "--infra-command", "sleep 1000")
    pod.ok("pod", "create", "--name", "both", "--hostname", "both", *infra)
    try:
        pod.ok("run", "-d", "--pod", "both", "--name", "web", "busybox", "httpd", "-f", "-h", "/etc")
        beside = ("run", "--rm", "--pod", "both", "busybox")
        assert pod.ok(*beside, "wget", "-q", "-O", "-", "http://127.0.0.1/hostname") == "both"
        assert pod.ok(*beside, "hostname") == "both"
        boots = [pod.ok(*words, "cat", "/proc/sys/kernel/random/boot_id") for words in (("exec", "web"), beside)]
        assert boots[0] == boots[1]
        pod.ok("exec", "web", "sh", "-c", "echo words >/dev/shm/file")
        assert pod.ok(*beside, "cat", "/dev/shm/file") == "words"
        pod.ok("pod", "stop", "-t", "0", "both")
        pod.ok("pod", "start", "both")
        assert pod.ok("exec", "web", "echo", "there") == "there"
    finally:
        pod("pod", "rm", "-f", "-t", "0", "both")
