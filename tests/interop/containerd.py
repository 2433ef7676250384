"""Debian's containerd of one's own: its folders and sockets are nobody else's."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hypercontainer.testing.daemon import Result

CONTAINERD, CTR = Path("/usr/bin/containerd"), Path("/usr/bin/ctr")
READY_S, LIMIT_S = 60.0, 300.0
CONFIG = """
version = 2
root = "{folder}/root"
state = "{folder}/state"
oom_score = 0
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{folder}/c.sock"
[ttrpc]
address = "{folder}/c.sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/opt"
"""


class Containerd:
    """containerd with everything below `folder`, in a mount namespace of its own; `bin` has its runtimes."""

    def __init__(self, folder: Path, bin: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.env = {**os.environ, "PATH": f"{bin}:{os.environ['PATH']}", **env}
        (folder / "config.toml").write_text(CONFIG.format(folder=folder))
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        argv = ["unshare", "--mount", "--propagation", "private", str(CONTAINERD), "-c", f"{self.folder}/config.toml"]
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
        inside = ["nsenter", f"--mount=/proc/{self.process.pid}/ns/mnt"]
        return [*inside, str(CTR), "-a", f"{self.folder}/c.sock", *words]

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


@contextmanager
def containerd(bin: Path, env: Mapping[str, str]) -> Iterator[Containerd]:
    """A running one, gone with the block. OSError, with its last words, where it cannot run."""
    with tempfile.TemporaryDirectory(prefix="hyc") as folder:  # a short path: sockets are in it
        daemon = Containerd(Path(folder), bin, env)
        try:
            yield daemon
        finally:
            daemon.close()
