"""containerd of one's own, Debian's or one of today: its folders and sockets are nobody else's."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from hypercontainer.testing.containerd import toml
from hypercontainer.testing.daemon import Result
from tests.interop.clients import CLIENTS

PROGRAMS = {"debian": Path("/usr/bin"), "today": CLIENTS / "containerd2"}  # folders with containerd, ctr, …
CONTAINERD, CTR = (PROGRAMS["debian"] / name for name in ("containerd", "ctr"))
READY_S, LIMIT_S = 60.0, 300.0
HYPER = """
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "hyper"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.hyper]
runtime_type = "io.containerd.hyper.v2"
pod_annotations = ["io.hypercontainer.*"]
"""
NETWORK = {
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "pods0",
            "isGateway": True,
            "ipMasq": False,
            "ipam": {"type": "host-local", "subnet": "10.97.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]},
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}


class Containerd:
    """containerd with everything below `folder`, in a mount namespace of its own, unless it is not to be `apart`; `bin`
    has its runtimes. `cri`: it serves Kubernetes' kubelet, too, and has a network namespace for that. `which`: of
    PROGRAMS. `settings`: further lines of its config.toml. `network`: CNI's, of pods."""

    def __init__(
        self,
        folder: Path,
        bin: Path,
        env: Mapping[str, str],
        *,
        cri: bool = False,
        which: str = "debian",
        settings: str = "",
        network: Mapping[str, object] = NETWORK,
        apart: bool = True,
    ) -> None:
        self.folder, self.cri, self._programs = folder, cri, PROGRAMS[which]
        self._apart = apart
        quiet = {"CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS": "1"}  # of this host's control groups
        self.env = {**os.environ, **quiet, "PATH": f"{bin}:{self._programs}:{os.environ['PATH']}", **env}
        (folder / "config.toml").write_text(toml(folder, cri=cri) + (HYPER if cri else "") + settings)
        (folder / "cni").mkdir()
        (folder / "cni/pods.conflist").write_text(json.dumps(network))
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        alone = ["--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"] if self.cri else []
        unshare = ["unshare", "--mount", "--propagation", "private", *alone] if self._apart else []
        argv = [*unshare, f"{self._programs}/containerd", "-c", f"{self.folder}/config.toml"]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env)
        deadline = time.monotonic() + READY_S
        while self("version").status:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise OSError(f"containerd does not answer:\n{self.log()[-2000:]}")
            time.sleep(0.1)
        return self.process

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def argv(self, *words: str) -> list[str]:
        return [*self.inside(), f"{self._programs}/ctr", "-a", f"{self.folder}/c.sock", *words]

    def inside(self) -> list[str]:
        """A command there, where it is."""
        network = [f"--net=/proc/{self.process.pid}/ns/net"] if self.cri else []
        return ["nsenter", f"--mount=/proc/{self.process.pid}/ns/mnt", *network]

    def __call__(self, *words: str, stdin: bytes = b"") -> Result:
        done = subprocess.run(self.argv(*words), env=self.env, input=stdin, capture_output=True, timeout=LIMIT_S)
        return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def ok(self, *words: str, stdin: bytes = b"") -> str:
        done = self(*words, stdin=stdin)
        assert done.status == 0, (words, done, self.log()[-3000:])
        return done.out.strip()

    def clear(self) -> None:
        """Remove its containers."""
        for id in self.ok("task", "ls", "-q").split():
            self("task", "rm", "-f", id)
        for id in self.ok("container", "ls", "-q").split():
            self("container", "rm", id)

    def close(self) -> None:
        self.clear()
        self.process.terminate()
        self.process.wait(60)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def containerd(
    bin: Path, env: Mapping[str, str], *, cri: bool = False, which: str = "debian", settings: str = ""
) -> Iterator[Containerd]:
    """A running one, gone with the block. OSError, with its last words, where it cannot run."""
    if not all((PROGRAMS[which] / name).exists() for name in ("containerd", "ctr", "containerd-shim-runc-v2")):
        pytest.skip("there is no containerd of today: run `make interop`")
    with tempfile.TemporaryDirectory(prefix="hyc") as folder:  # a short path: sockets are in it
        daemon = Containerd(Path(folder), bin, env, cri=cri, which=which, settings=settings)
        try:
            yield daemon
        finally:
            daemon.close()
