"""Programs that are given a daemon's socket and go on to rule it, unchanged, each in a container of ours."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hypercontainer.testing.busybox import write_archive
from hypercontainer.testing.daemon import PrivateDaemon
from tests.interop.clients import CLIENTS, image_of
from tests.interop.docker_cli import CLIS

PROGRAMS, WORKFLOW = (Path(__file__).with_name(name) for name in ("programs", "workflow"))
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


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One of git, with a workflow of GitHub's."""
    folder = tmp_path / "repository"
    shutil.copytree(WORKFLOW, folder)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@test", "-C", str(folder)]
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "all of it"]):
        subprocess.run([*git, *words], check=True, timeout=60)
    return folder


@pytest.fixture
def web(hyper: PrivateDaemon, tmp_path: Path) -> Iterator[str]:
    """An image of a server, as services of jobs are."""
    write_archive(tmp_path / "web.tar", ("web:1",), config={"Cmd": ["httpd", "-f", "-h", "/www"]})
    words_of(hyper, "load", "-i", str(tmp_path / "web.tar"))
    yield "web:1"
    hyper.clear()
    words_of(hyper, "rmi", "web:1")


@needs("act")
@pytest.mark.skipif(not CLIS, reason="there is no docker CLI: install docker.io")
def test_act_runs_a_workflow(hyper: PrivateDaemon, repository: Path, tmp_path: Path, web: str) -> None:
    """Jobs in containers that have the socket: steps, actions of an image and of a Dockerfile, services, outputs."""
    programs = f"-v {CLIS[0]}:/usr/bin/docker:ro -v /usr/lib:/lib:ro -v /usr/lib64:/lib64:ro"  # this host's docker
    env = {**os.environ, "DOCKER_HOST": f"unix://{hyper.folder}/hyper-docker.sock", "HOME": str(tmp_path)}
    env |= {"XDG_CONFIG_HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    images = ["-P", "ubuntu-latest=busybox", "--pull=false", "--container-options", programs]
    done = subprocess.run(
        [CLIENTS / "act/act", "push", "--network", "bridge", "--no-cache-server", *images],
        cwd=repository,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done
    said = {line.partition("| ")[2] for line in done.stdout.splitlines()}
    assert {"made in a job", "shouted HELLO, WORLD", "beside busybox", "told hello, world", "it was failure"} <= said
    assert any("virtual machine" in line for line in said)
    assert words_of(hyper, "ps", "-a", "-q") == []
    assert words_of(hyper, "volume", "ls", "-q") == ["act-toolcache"]  # it keeps that
    assert words_of(hyper, "network", "ls", "-q", "--filter", "type=custom") == []
    words_of(hyper, "volume", "rm", "act-toolcache")
    actions = words_of(hyper, "images", "-q", "--filter", "reference=act-*")
    assert len(actions) == 1
    words_of(hyper, "rmi", *actions)
