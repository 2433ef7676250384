"""Programs that are given a daemon's socket and go on to rule it, unchanged, each in a container of ours."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests.interop.clients import CLIENTS, image_of

PROGRAMS = Path(__file__).with_name("programs")
SOON_S = 600.0  # that what is waited for may take; nobody pays for room
pytestmark = [
    pytest.mark.interop,
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="hyperd is root's"),
]


def needs(name: str, how: str = "go-clients") -> pytest.MarkDecorator:
    hint = f"there is no {name}: run `make {how}`"
    return pytest.mark.skipif(not (CLIENTS / name / "version").exists(), reason=hint)


def until(so: Callable[[], object], otherwise: str) -> None:
    deadline = time.monotonic() + SOON_S
    while not so():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.1)


def words_of(hyper: PrivateDaemon, *words: str) -> list[str]:
    """What hyperctl prints; it has to succeed."""
    done = hyper.ctl(*words)
    assert done.status == 0, (words, done)
    return done.out.split()


@needs("ryuk")
@needs("testcontainers", "interop")
def test_ryuk_takes_away_what_a_killed_program_left(hyper: PrivateDaemon, tmp_path: Path) -> None:
    """And nothing else; then itself."""
    env = {**os.environ, "DOCKER_HOST": f"unix://{hyper.folder}/hyper-docker.sock", "RYUK_RECONNECTION_TIMEOUT": "1s"}
    other = words_of(hyper, "run", "-d", "busybox", "sleep", "100000")
    with image_of(hyper, tmp_path, CLIENTS / "ryuk/ryuk") as env["RYUK_CONTAINER_IMAGE"]:
        argv = [CLIENTS / "testcontainers/bin/python", PROGRAMS / "with_ryuk.py"]
        with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE) as program:
            try:
                assert program.stdout is not None
                made = json.loads(program.stdout.readline())
                there = words_of(
                    hyper, "ps", "-a", "-q", "--no-trunc", "--filter", "label=org.testcontainers.session-id"
                )
                assert sorted(there) == sorted(made["containers"])
                assert made["ryuk"] in words_of(hyper, "ps", "--format", "{{.Names}}")
            finally:
                program.kill()
        until(lambda: words_of(hyper, "ps", "-a", "-q", "--no-trunc") == other, "something is there still")
        assert made["network"] not in words_of(hyper, "network", "ls", "-q", "--no-trunc")
        assert made["volume"] not in words_of(hyper, "volume", "ls", "-q")
