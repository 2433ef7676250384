"""docker compose, unchanged, against a hyperd: Debian's, and the second generation's where `make` has built it."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon, Result
from tests.interop.clients import CLIENTS

KINDS = {"1": Path("/usr/bin/docker-compose"), "2": CLIENTS / "docker/docker-compose"}  # by generation
HINTS = {"1": "docker-compose is not installed", "2": "there is no docker compose v2: run `make interop`"}
EACH = [
    pytest.param(kind, marks=pytest.mark.skipif(not KINDS[kind].exists(), reason=HINTS[kind]), id=f"v{kind}")
    for kind in KINDS
]


class Compose:
    """One project of the compose file in `folder`."""

    def __init__(self, kind: str, hyper: PrivateDaemon, folder: Path, project: str, config: Path) -> None:
        self.kind, self.folder, self.project = kind, folder, project
        self.env = {
            **os.environ,
            "DOCKER_HOST": f"unix://{hyper.folder}/hyper-docker.sock",
            "DOCKER_CONFIG": str(config),
            "COMPOSE_PARALLEL_LIMIT": "4",
        }

    def __call__(self, *words: str) -> Result:
        argv = [str(KINDS[self.kind]), "-p", self.project, *words]
        done = subprocess.run(
            argv, cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1200
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def ok(self, *words: str) -> str:
        """What it prints; it has to succeed."""
        done = self(*words)
        assert done.status == 0, (words, done)
        return done.out

    def names(self, services: Sequence[str]) -> list[str]:
        """Of the first container of each."""
        between = "_" if self.kind == "1" else "-"
        return [between.join((self.project, service, "1")) for service in services]

    def url(self, service: str) -> str:
        """Of its published port 80."""
        return f"http://{self.ok('port', service, '80').strip()}"
