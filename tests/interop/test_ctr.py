"""containerd's own shim for runc with runv in its place: `ctr run --runc-binary runv`, beside runc."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon, Result
from tests.interop.containerd import CONTAINERD, Containerd, containerd

pytestmark = [
    pytest.mark.interop,
    pytest.mark.docker,
    pytest.mark.vm,
    pytest.mark.skipif(not CONTAINERD.exists(), reason="there is no containerd: run `make interop`"),
]
IMAGE = "docker.io/library/busybox:latest"


class Ctr:
    def __init__(self, daemon: Containerd, runv: Path) -> None:
        self.daemon, self.ok, self.runtimes = daemon, daemon.ok, {"runv": str(runv), "runc": "/usr/sbin/runc"}

    def __call__(self, *words: str, stdin: bytes = b"") -> Result:
        return self.daemon(*words, stdin=stdin)

    def run(self, *words: str, runtime: str = "runv", stdin: bytes = b"") -> Result:
        return self("run", "--runc-binary", self.runtimes[runtime], *words, stdin=stdin)


@pytest.fixture(scope="module")
def ctr(shared_hyperd: PrivateDaemon, busybox_archive: Path) -> Iterator[Ctr]:
    env = {"HYPER_OCI_HOST": f"unix://{shared_hyperd.folder}/hyper-oci.sock"}
    with containerd(shared_hyperd.bin, env) as daemon:
        daemon.ok("image", "import", str(busybox_archive))
        yield Ctr(daemon, shared_hyperd.bin / "runv")


@pytest.mark.parametrize(
    ("flags", "command", "stdin"),
    [
        ([], ["sh", "-c", "echo out; echo err >&2; exit 42"], b""),
        ([], ["head", "-n", "1"], b"words\n"),  # ctr does not tell that its input has ended
        (["--env", "A=b", "--cwd", "/tmp", "--user", "33:50"], ["sh", "-c", "echo $A; pwd; id -u; id -g"], b""),
        (["--read-only"], ["touch", "/x"], b""),
        (["--cap-drop", "CAP_CHOWN"], ["chown", "33", "/tmp"], b""),
        ([], ["sh", "-c", "sh -c 'kill -9 $$'"], b""),
        ([], ["ls", "/sys/class/net"], b""),
    ],
)
def test_a_run_is_what_it_is_with_runc(ctr: Ctr, flags: list[str], command: list[str], stdin: bytes) -> None:
    def run(runtime: str) -> Result:
        return ctr.run("--rm", *flags, IMAGE, "same", *command, runtime=runtime, stdin=stdin)

    assert run("runv") == run("runc")


def test_what_cannot_be_run(ctr: Ctr) -> None:
    done = ctr.run("--rm", IMAGE, "wrong", "nosuch")
    assert done.status == 1 and "executable file not found in $PATH" in done.err
    assert ctr.ok("task", "ls", "-q") == ""


def test_a_life(ctr: Ctr) -> None:
    started = ctr.run("--detach", IMAGE, "life", "sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.1; done")
    assert started.status == 0, started
    assert ctr("task", "ls").out.split()[-3::2] == ["life", "RUNNING"]
    assert ctr("task", "exec", "--exec-id", "a", "life", "sh", "-c", "head -n 1; exit 9", stdin=b"words\n") == (
        9,
        "words\n",
        "",
    )
    assert ctr.ok("task", "exec", "--exec-id", "b", "life", "uname", "-r") != ctr.ok(
        "run", "--rm", IMAGE, "c", "uname", "-r"
    )
    ctr.ok("task", "pause", "life")
    assert "PAUSED" in ctr.ok("task", "ls")
    ctr.ok("task", "resume", "life")
    assert ctr.ok("task", "metrics", "life")
    ctr.ok("task", "kill", "life")
    ended = threading.Event()
    while "STOPPED" not in ctr.ok("task", "ls"):
        ended.wait(0.05)
    assert "exit code 5" in ctr("task", "rm", "life").err
    ctr.ok("container", "rm", "life")
    assert ctr.ok("container", "ls", "-q") == ""
