"""An upgrade of hyperd around virtual machines that an older one has started, with the first hyperstart as PID 1."""

import json
import lzma
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests.conftest import ACCELERATOR, FIRST
from tests.vm.conftest import hyperd_of, time_passes

pytestmark = pytest.mark.vm

COUNTS = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.1; done"
POD = {"name": "pod", "containers": [{"name": "inside", "image": "busybox", "command": ["sleep", "100000"]}]}


def ok(hyper: PrivateDaemon, *words: str) -> str:
    done = hyper.ctl(*words)
    assert done.status == 0, (words, done)
    return done.out.strip()


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first hyperstart."""
    program = tmp_path_factory.mktemp("first") / "hyperstart"
    program.write_bytes(lzma.decompress((FIRST / "hyperstart.xz").read_bytes()))
    program.chmod(0o755)
    return program


@pytest.fixture
def upgraded(kernels: Path, busybox_archive: Path, first: Path, tmp_path: Path) -> Iterator[PrivateDaemon]:
    """hyperd of now, and what one with the first hyperstart left when it was killed: a container, a pod, a suspended
    container, a checkpoint."""
    settings: dict[str, str | int] = {"accelerator": ACCELERATOR, "factory": "direct", "memory_mib": 128}
    daemon = PrivateDaemon(Path(tempfile.mkdtemp(prefix="hyper-")), kernels, settings)
    now, daemon.hyperd = daemon.hyperd, hyperd_of(first)
    (tmp_path / "pod.json").write_text(json.dumps(POD))  # JSON is YAML
    try:
        daemon.start()
        ok(daemon, "load", "-i", str(busybox_archive))
        ok(daemon, "run", "-d", "--name", "counts", "--memory", "64m", "busybox", "sh", "-c", COUNTS)
        ok(daemon, "pod", "run", "-f", str(tmp_path / "pod.json"))
        ok(daemon, "run", "-d", "--name", "sleeps", "busybox", "sh", "-c", COUNTS)
        ok(daemon, "checkpoint", "create", "--leave-running", "sleeps", "kept")
        ok(daemon, "suspend", "sleeps")
        daemon.signal(signal.SIGKILL)
        daemon.hyperd = now
        daemon.start()
        yield daemon
    finally:
        daemon.close()


def counted(hyper: PrivateDaemon, name: str) -> list[str]:
    return hyper.ctl("logs", name).out.split()


def goes_on(hyper: PrivateDaemon, name: str) -> None:
    """It counts on, and no number is missing or there twice."""
    begin = len(counted(hyper, name))
    while len(numbers := counted(hyper, name)) < begin + 3:
        time_passes()
    assert numbers == [str(n) for n in range(len(numbers))]


def test_what_ran_goes_on_and_does_what_it_did(upgraded: PrivateDaemon, tmp_path: Path) -> None:
    hyper = upgraded
    goes_on(hyper, "counts")
    assert ok(hyper, "exec", "-w", "/tmp", "-u", "1:1", "counts", "sh", "-c", "pwd; id -u") == "/tmp\n1"
    assert hyper.ctl("exec", "-i", "counts", "cat", stdin=b"said").out == "said"
    (tmp_path / "file").write_text("copied")
    ok(hyper, "cp", str(tmp_path / "file"), "counts:/file")
    assert ok(hyper, "exec", "counts", "cat", "/file") == "copied"
    assert "sleep 0.1" in ok(hyper, "top", "counts")
    ok(hyper, "stats", "--no-stream", "counts")
    ok(hyper, "update", "--memory", "32m", "counts")
    ok(hyper, "rename", "counts", "counted")
    ok(hyper, "pause", "counted")
    ok(hyper, "unpause", "counted")
    goes_on(hyper, "counted")
    ok(hyper, "stop", "-t", "0", "counted")
    assert ok(hyper, "inspect", "--format", "{{.State.ExitCode}}", "counted") == "137"
    ok(hyper, "start", "counted")  # a virtual machine of now
    assert ok(hyper, "exec", "counted", "cat", "/file") == "copied"


def test_a_pod_that_ran_takes_a_new_container(upgraded: PrivateDaemon) -> None:
    words = ("--tmpfs", "/t:size=1m", "-e", "A=1", "busybox", "sh", "-c", "echo $A; df -k /t /dev/shm; hostname")
    said = ok(upgraded, "run", "--pod", "pod", "--name", "new", *words).split()
    assert said[0] == "1" and said[-1] == "pod" and "1024" in said and "65536" in said
    ok(upgraded, "rm", "new")
    assert ok(upgraded, "exec", "inside", "echo", "well") == "well"
    ok(upgraded, "pod", "stop", "-t", "0", "pod")
    ok(upgraded, "pod", "rm", "pod")


def test_what_was_suspended_and_what_was_kept_go_on(upgraded: PrivateDaemon) -> None:
    ok(upgraded, "resume", "sleeps")
    goes_on(upgraded, "sleeps")
    assert ok(upgraded, "exec", "sleeps", "echo", "well") == "well"
    ok(upgraded, "fork", "--name", "twin", "sleeps")
    assert ok(upgraded, "exec", "twin", "echo", "well") == "well"
    ok(upgraded, "restore", "--name", "again", "sleeps", "kept")
    assert ok(upgraded, "exec", "again", "echo", "well") == "well"
