"""A virtual machine that runs: exec, throughput of its streams."""

import subprocess
import time

from bench.measure import CommandFailed, Series, wall_ms
from hypercontainer.testing.daemon import PrivateDaemon

MEGABYTES = 100


class Guests:
    """One pod that stays, for exec and streams; idle ones for their memory."""

    def __init__(self, daemon: PrivateDaemon, image: str) -> None:
        self.daemon, self.image = daemon, image
        self.exec_series = Series("hyperctl exec true")
        self.stdin = Series(f"exec, {MEGABYTES} MB to stdin", "MB/s")
        self.stdout = Series(f"exec, {MEGABYTES} MB from stdout", "MB/s")
        started = daemon.ctl("run", "-d", "--name", "stays", image, "sleep", "86400")
        if started.status:
            raise CommandFailed(f"hyperctl run: {started.err}")

    def exec(self) -> None:
        self.exec_series.samples.append(wall_ms(self.daemon.argv("exec", "stays", "true"), env=self.daemon.env))

    def write(self) -> None:
        """`hyperctl exec -i` reads 100 MB of zeros from us. (Not busybox's wc or head: they go byte by byte.)"""
        argv = self.daemon.argv("exec", "-i", "stays", "sh", "-c", "cat > /dev/null")
        self.stdin.samples.append(self._rate(argv, bytes(MEGABYTES * 1_000_000)))

    def read(self) -> None:
        argv = self.daemon.argv("exec", "stays", "dd", "if=/dev/zero", "bs=1000000", f"count={MEGABYTES}")
        self.stdout.samples.append(self._rate(argv, b""))

    def _rate(self, argv: list[str], data: bytes) -> float:
        """MB/s of a command that moves MEGABYTES, its own start included."""
        begin = time.perf_counter()
        done = subprocess.run(argv, env=self.daemon.env, input=data, stdout=subprocess.PIPE, timeout=300, check=True)
        took = time.perf_counter() - begin
        assert data or len(done.stdout) == MEGABYTES * 1_000_000, len(done.stdout)
        return MEGABYTES / took

    @property
    def series(self) -> list[Series]:
        return [self.exec_series, self.stdin, self.stdout]
