"""A terminal: how long many lines take through it, and one key that is pressed until its echo is there."""

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
        self.run_series = Series(f"{name} run -t, 60,000 lines")
        self.exec_series = Series(f"{name} exec -t, 60,000 lines")
        self.key_series = Series(f"{name} exec -it: a key's echo")

    def run(self) -> None:
        self.run_series.samples.append(wall_ms(self._run, env=self._env))

    def exec(self) -> None:
        self.exec_series.samples.append(wall_ms(self._exec, env=self._env))

    def keys(self) -> None:
        """Type into `cat`, whose terminal echoes."""
        ours, theirs = pty.openpty()
        tty.setraw(theirs)  # a client does so too, but not at once
        with subprocess.Popen(self._cat, env=self._env, stdin=theirs, stdout=theirs, stderr=theirs):
            os.close(theirs)
            for n in range(KEYS + 1):
                begin = time.perf_counter()
                os.write(ours, b"x")
                if not select.select([ours], [], [], ECHO_S)[0] or not os.read(ours, 100):
                    raise CommandFailed(f"{' '.join(self._cat)}: a key had no echo")
                if n:  # the first waited for the start
                    self.key_series.samples.append((time.perf_counter() - begin) * 1e3)
                time.sleep(PAUSE_S)
            os.write(ours, b"\n\x04")
            while select.select([ours], [], [], ECHO_S)[0]:
                try:
                    if not os.read(ours, 100):
                        break
                except OSError:  # the other end is closed
                    break
        os.close(ours)

    @property
    def series(self) -> list[Series]:
        return [self.run_series, self.exec_series, self.key_series]


def of_hyperctl(daemon: PrivateDaemon, image: str) -> Terminals:
    return Terminals("hyperctl", daemon.argv("run", "--rm"), daemon.argv(), daemon.env, image)


def of_docker(docker: Engine, image: str) -> Terminals:
    return Terminals("docker", [*docker.client, "run", "--rm"], docker.client, None, image)
