"""A terminal: how long many lines take through it, and a key from its press to its echo, also while output runs."""

import os
import pty
import select
import subprocess
import time
import tty
from collections.abc import Sequence

from bench.engines import Engine
from bench.measure import CommandFailed, Series, wall_ms
from hypercontainer.testing.daemon import PrivateDaemon

LINES = ["seq", "1", "60000"]
BUSY = "seq 1 1000000000 & cat; kill $!"  # no key is among what it writes
KEY = b"x"
KEYS, PAUSE_S, ECHO_S = 20, 0.05, 10.0  # a person's pace


class Terminals:
    """`run -t` and `exec -t`, of hyperctl or of docker; the containers of `exec` go with their daemon."""

    def __init__(
        self, name: str, run: Sequence[str], ctl: Sequence[str], env: dict[str, str] | None, image: str
    ) -> None:
        """`run`: the words that run a container and remove it, but for its image; `ctl` those before a verb."""
        self._env = env
        started = subprocess.run([*ctl, "run", "-d", image, "sleep", "86400"], env=env, capture_output=True, text=True)
        if started.returncode:
            raise CommandFailed(f"{name}: {started.stderr}")
        self._run = [*run, "-t", image, *LINES]
        self._exec = [*ctl, "exec", "-t", started.stdout.strip(), *LINES]
        self._cat = [*ctl, "exec", "-it", started.stdout.strip(), "cat"]
        self._busy_cat = [*ctl, "exec", "-it", started.stdout.strip(), "sh", "-c", BUSY]
        self.run_series = Series(f"{name} run -t, 60,000 lines")
        self.exec_series = Series(f"{name} exec -t, 60,000 lines")
        self.key_series = Series(f"{name} exec -it: a key's echo")
        self.busy_key_series = Series(f"{name} exec -it: a key's echo while output runs")

    def run(self) -> None:
        self.run_series.samples.append(wall_ms(self._run, env=self._env))

    def exec(self) -> None:
        self.exec_series.samples.append(wall_ms(self._exec, env=self._env))

    def keys(self) -> None:
        self.key_series.samples += _echoes(self._cat, self._env)

    def busy_keys(self) -> None:
        self.busy_key_series.samples += _echoes(self._busy_cat, self._env)

    @property
    def series(self) -> list[Series]:
        return [self.run_series, self.exec_series, self.key_series, self.busy_key_series]


def _echoes(argv: Sequence[str], env: dict[str, str] | None) -> list[float]:
    """Type into `cat`, whose terminal echoes: milliseconds from each key to its echo."""
    took = []
    ours, theirs = pty.openpty()
    tty.setraw(theirs)  # a client does so too, but not at once
    with subprocess.Popen(argv, env=env, stdin=theirs, stdout=theirs, stderr=theirs):
        os.close(theirs)
        for n in range(KEYS + 1):
            begin = time.perf_counter()
            os.write(ours, KEY)
            if not _hear(ours, ECHO_S, KEY):
                raise CommandFailed(f"{' '.join(argv)}: a key had no echo")
            if n:  # the first waited for the start
                took.append((time.perf_counter() - begin) * 1e3)
            _hear(ours, PAUSE_S)
        os.write(ours, b"\n\x04")
        _hear(ours, ECHO_S)
    os.close(ours)
    return took


def _hear(terminal: int, for_s: float, until: bytes = b"\0") -> bool:
    """Read what is said, so that nobody waits for us: until `until` is among it, the other end is closed, or so much
    time has gone by."""
    end_s = time.monotonic() + for_s
    while (left_s := end_s - time.monotonic()) > 0 and select.select([terminal], [], [], left_s)[0]:
        try:
            said = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            return False
        if not said or until in said:
            return bool(said)
    return False


def of_hyperctl(daemon: PrivateDaemon, image: str) -> Terminals:
    return Terminals("hyperctl", daemon.argv("run", "--rm"), daemon.argv(), daemon.env, image)


def of_docker(docker: Engine, image: str) -> Terminals:
    return Terminals("docker", [*docker.client, "run", "--rm"], docker.client, None, image)
