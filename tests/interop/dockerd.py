"""Debian's dockerd of one's own: its folders and socket are nobody else's, nor is its network, where it has one."""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hypercontainer.testing.daemon import Result

DOCKERD, DOCKER = Path("/usr/sbin/dockerd"), Path("/usr/bin/docker")  # the package's, whatever else is in the path
READY_S = 60.0
# a mount namespace, so that no mount of it outlives it
UNSHARED = ["unshare", "--mount", "--propagation", "private"]
ALONE = ["--bridge=none", "--iptables=false"]
# a network namespace, too: bridges, addresses and rules are in there
NETWORK = ["--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


class Dockerd:
    """dockerd with everything below `folder`. Its containers have a network only where it is asked for; what is to
    reach them there runs by way of `inside`."""

    def __init__(
        self, folder: Path, *, network: bool = False, flags: Sequence[str] = (), env: Mapping[str, str] = {}
    ) -> None:
        self.folder, self.socket, self.env = folder, folder / "docker.sock", {**os.environ, **env}
        self._argv = [
            str(DOCKERD), *(() if network else ALONE),
            "--oom-score-adjust", "0",
            "--data-root", str(folder / "data"),
            "--exec-root", str(folder / "exec"),
            "--pidfile", str(folder / "pid"),
            "--host", f"unix://{self.socket}",
            *flags,
        ]  # fmt: skip
        self._start([*UNSHARED, *(NETWORK if network else ())])

    def _start(self, within: Sequence[str], pass_fds: Sequence[int] = ()) -> None:
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [*within, *self._argv],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, pass_fds=pass_fds,
            )  # fmt: skip
        self.inside = ["nsenter", f"--net=/proc/{self.process.pid}/ns/net"]

    def restart(self, between: Callable[[], None]) -> None:
        """End it and, after `between`, have another one in its namespaces; --live-restore keeps containers running."""
        with ExitStack() as stack:
            files = [stack.enter_context(open(f"/proc/{self.process.pid}/ns/{kind}")) for kind in ("mnt", "net")]
            mnt, net = (file.fileno() for file in files)
            self.process.terminate()
            self.process.wait(60)
            between()
            self._start(["nsenter", f"--mount=/proc/self/fd/{mnt}", f"--net=/proc/self/fd/{net}"], [mnt, net])
        if not self.answers():
            raise OSError(f"dockerd does not answer:\n{self.log()[-2000:]}")

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def answers(self) -> bool:
        """Wait until it does, or has ended."""
        deadline = time.monotonic() + READY_S
        while self.process.poll() is None and time.monotonic() < deadline:
            if self.ctl("version").status == 0:
                return True
            time.sleep(0.1)
        return False

    def argv(self, *words: str) -> list[str]:
        return [str(DOCKER), "--config", str(self.folder), "--host", f"unix://{self.socket}", *words]

    def ctl(self, *words: str) -> Result:
        """Run docker with `words` against this daemon."""
        done = subprocess.run(self.argv(*words), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        return Result(done.returncode, done.stdout, done.stderr)

    def version(self) -> str:
        return f"docker {self.ctl('version', '--format', '{{.Server.Version}}').out.partition('+')[0].strip()}"

    def close(self) -> None:
        """Remove its containers and end it."""
        containers = self.ctl("ps", "-a", "-q").out.split()
        if containers:
            self.ctl("rm", "-f", *containers)
        self.process.terminate()
        self.process.wait(60)


@contextmanager
def dockerd(*, network: bool = False, flags: Sequence[str] = (), env: Mapping[str, str] = {}) -> Iterator[Dockerd]:
    """A running one, gone with the block. OSError, with its last words, where it cannot run."""
    with tempfile.TemporaryDirectory(prefix="hyd") as folder:  # a short path: sockets are in it
        daemon = Dockerd(Path(folder), network=network, flags=flags, env=env)
        try:
            if not daemon.answers():
                raise OSError(f"dockerd does not answer:\n{daemon.log()[-2000:]}")
            yield daemon
        finally:
            daemon.close()
