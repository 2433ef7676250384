"""What docker's own client waits for: the same words to hyperd's socket and to dockerd's."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import places
from bench.measure import CommandFailed, Series, wall_ms
from hypercontainer.errors import Unavailable
from hypercontainer.testing.daemon import PrivateDaemon

STOPPED = 500
BYTES = 100_000_000
QUESTIONS = 100  # a sample each, one after the other
PORT = "5000"
SERVICES = 5
PROJECT = "\n".join(
    ['version: "2.4"', "services:"]
    + [f"  s{n}: {{image: busybox, init: false, command: sleep 86400}}" for n in range(SERVICES)]
)


def hyperd_client(daemon: PrivateDaemon, folder: Path) -> list[str]:
    """The words before a verb that docker's client needs for `daemon`. Unavailable without a client."""
    if not (docker := shutil.which("docker")):
        raise Unavailable("docker is not installed")
    return [docker, "--config", str(folder), "--host", f"unix://{daemon.folder}/hyper-docker.sock"]


class DockerClients:
    """One engine, by docker's client, and docker-compose where that is installed; what it makes goes with the engine,
    or with `close`."""

    def __init__(
        self, name: str, client: Sequence[str], folder: Path, image: str, ready: Callable[[], None] = lambda: None
    ) -> None:
        """`client`: the words before a verb; `ready` is called before each start, and not counted."""
        self._client, self._image, self._ready, self._folder = list(client), image, ready, folder
        self._env = {**os.environ, "DOCKER_HOST": client[client.index("--host") + 1]}
        self._compose = shutil.which("docker-compose")
        folder.mkdir()
        (folder / "docker-compose.yml").write_text(PROJECT)
        self._say("network", "create", "measured")
        for one in ("peer", "stays"):
            self._say("run", "-d", "--network", "measured", "--name", one, image, "sleep", "86400")
        for program in ("look", "stream"):
            places.program(f"{program}.c", folder / program)
            self._say("cp", str(folder / program), f"stays:/{program}")
        self._say("cp", str(folder / "stream"), "peer:/stream")
        self._say("exec", "-d", "peer", "/stream", PORT)
        for _ in range(STOPPED):
            self._say("create", "--network", "none", image, "true")
        self._run = Series(f"{name}: docker run --rm IMAGE true")
        self._exec = Series(f"{name}: docker exec true")
        self._ps = Series(f"{name}: docker ps, {STOPPED} stopped containers beside")
        self._list = Series(f"{name}: docker ps -a, the same")
        self._up = Series(f"{name}: docker-compose up -d, {SERVICES} services")
        self._names = Series(f"{name}: a look-up of a name at 127.0.0.11")
        self._between = Series(f"{name}: 100 MB from one container to another", "MB/s")

    @property
    def series(self) -> list[Series]:
        return [
            self._run,
            self._exec,
            self._ps,
            self._list,
            self._names,
            self._between,
            *([self._up] if self._compose else []),
        ]

    @property
    def steps(self) -> list[Callable[[], None]]:
        return [
            self.run,
            self.exec,
            self.ps,
            self.list,
            self.names,
            *([self.up] if self._compose else []),
            self.between,
        ]

    def run(self) -> None:
        self._ready()
        self._run.samples.append(wall_ms([*self._client, "run", "--rm", self._image, "true"]))

    def exec(self) -> None:
        self._exec.samples.append(wall_ms([*self._client, "exec", "stays", "true"]))

    def ps(self) -> None:
        self._ps.samples.append(wall_ms([*self._client, "ps"]))

    def list(self) -> None:
        self._list.samples.append(wall_ms([*self._client, "ps", "-a"]))

    def up(self) -> None:
        """`docker-compose up -d`; what it made is taken down, which is not counted."""
        self._ready()
        argv = [str(self._compose), "-f", f"{self._folder}/docker-compose.yml", "-p", "measured"]
        try:
            self._up.samples.append(wall_ms([*argv, "up", "-d"], env=self._env))
        finally:
            wall_ms([*argv, "down", "-t", "0"], env=self._env)

    def names(self) -> None:
        """Timed in the container that asks, whose client's start is no part of it."""
        took = self._say("exec", "stays", "/look", "peer", str(QUESTIONS))
        self._names.samples += [int(us) / 1e3 for us in took.split()]

    def between(self) -> None:
        """A program that writes, through the network of both, until the one that reads has said how much it has. Timed
        by the first."""
        ip = self._say("inspect", "-f", "{{.NetworkSettings.Networks.measured.IPAddress}}", "peer").strip()
        arrived, us = self._say("exec", "stays", "/stream", ip, PORT, str(BYTES)).split()
        if int(arrived) != BYTES:
            raise CommandFailed(f"{arrived} of {BYTES} bytes came through")
        self._between.samples.append(BYTES / int(us))

    def _say(self, *words: str) -> str:
        done = subprocess.run([*self._client, *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
        if done.returncode:
            raise CommandFailed(f"docker {' '.join(words)}: {done.stderr.decode(errors='replace')[-500:]}")
        return done.stdout.decode()
