"""Doors on TCP: by docker's CLI as anybody configures it, with DOCKER_HOST, DOCKER_TLS_VERIFY, DOCKER_CERT_PATH; and
by hyperctl."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon, private_daemon
from tests.certificates import Authority, Pair
from tests.interop.clients import CLIENTS
from tests.interop.docker_cli import CLIS, DockerCli

pytestmark = [
    pytest.mark.interop,
    pytest.mark.docker,
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="hyperd is root's"),
    pytest.mark.skipif(not CLIS, reason="there is no docker CLI: run `make interop`"),
]

WAIT_S = 120
PROGRAM = Path(__file__).with_name("programs") / "with_docker_py.py"
PYTHON = CLIENTS / "testcontainers/bin/python"  # which stands on docker-py


class Place:
    """A daemon with a door on TCP, and the authority of those who call there."""

    def __init__(self, daemon: PrivateDaemon, authority: Authority) -> None:
        self.daemon, self.authority = daemon, authority
        self.good = authority.sign("me")

    def addresses(self, starts: int = 1) -> tuple[str, str]:
        """Of the doors for docker, and for hyperctl; once they are open, which is after the usual socket is, for so
        many times."""
        deadline = time.monotonic() + WAIT_S
        while len(found := re.findall(r"listening on (tcp://\S+)", self.daemon.log())) < 2 * starts:
            assert time.monotonic() < deadline, self.daemon.log()
            time.sleep(0.02)
        return found[-2], found[-1]

    def docker(self, docker: Path, folder: Path, pair: Pair | None) -> DockerCli:
        """One that trusts this daemon, and shows `pair`."""
        made = DockerCli(docker, self.daemon, folder)
        shutil.copy(self.authority.pem, folder / "ca.pem")
        for source, name in zip(pair or (), ("cert.pem", "key.pem"), strict=False):
            shutil.copy(source, folder / name)
        made.env |= {"DOCKER_HOST": self.addresses()[0], "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(folder)}
        return made


@pytest.fixture(scope="module")
def place(kernels: Path, busybox_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    authority = Authority(tmp_path_factory.mktemp("tls") / "ca")
    door = authority.sign("hyperd", usage="serverAuth", address="127.0.0.1,IP:127.0.0.2")
    settings: list[Mapping[str, str | int]] = [
        {
            "address": f"tcp://127.0.0.{n}:0",
            "dialect": dialect,
            "tls_ca": str(authority.pem),
            "tls_cert": str(door.cert),
            "tls_key": str(door.key),
        }
        for n, dialect in ((1, "docker"), (2, "rest"))
    ]
    with private_daemon(kernels, {"accelerator": "tcg", "door": settings}) as daemon:
        assert daemon.ctl("load", "-i", str(busybox_archive)).status == 0
        yield Place(daemon, authority)


@pytest.fixture(params=CLIS or [Path()], ids=str)
def docker(request: pytest.FixtureRequest, place: Place, tmp_path: Path) -> Iterator[DockerCli]:
    yield place.docker(request.param, tmp_path, place.good)
    place.daemon.clear()


def test_a_run(docker: DockerCli) -> None:
    """Its client sends no more before the first byte has come: what it ends is stdin alone."""
    assert docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7") == (7, "out\n", "err\n")
    assert docker("run", "--rm", "-i", "busybox", "cat", stdin=b"piped") == (0, "piped", "")
    data = os.urandom(1 << 20) * 4
    with docker.start("run", "--rm", "-i", "busybox", "cat") as process:
        assert process.communicate(data, timeout=300)[0] == data


def test_a_life(docker: DockerCli, tmp_path: Path) -> None:
    docker.ok("run", "-d", "--name", "web", "busybox", "sh", "-c", "echo ready; exec sleep 1000")
    assert docker.ok("exec", "-i", "web", "cat", stdin=b"in") == "in"
    assert docker.ok("logs", "web") == "ready"
    (tmp_path / "file").write_text("there and back")
    docker.ok("cp", str(tmp_path / "file"), "web:/tmp/file")
    docker.ok("cp", "web:/tmp/file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "there and back"
    docker.ok("rm", "-f", "web")


def test_a_terminal(docker: DockerCli) -> None:
    with closing(docker.terminal("run", "--rm", "-it", "busybox", "sh", rows=31, columns=97)) as terminal:
        terminal.expect(b"# ")
        terminal.type(b"stty size; echo [$((40 + 2))]\n")
        assert b"31 97" in terminal.expect(b"[42]")
        terminal.type(b"exit 3\n")
        assert terminal.end()[0] == 3


def test_a_client_that_is_killed_leaves_no_stdin_open(docker: DockerCli) -> None:
    with docker.start("run", "--name", "web", "-i", "busybox", "sh", "-c", "echo up; cat; echo ended") as process:
        assert process.stdout and process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGKILL)
    assert docker.ok("wait", "web") == "0"
    assert docker.ok("logs", "web") == "up\nended"


def test_hyperd_dies_and_comes_back(place: Place, docker: DockerCli) -> None:
    docker.ok("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    starts = place.daemon.log().count("listening on tcp://") // 2
    place.daemon.signal(signal.SIGKILL)
    place.daemon.start()
    docker.env["DOCKER_HOST"], _ = place.addresses(starts + 1)
    assert docker.ok("exec", "web", "echo", "here") == "here"
    docker.ok("rm", "-f", "web")


def test_hyperctl(place: Place, docker: DockerCli, tmp_path: Path) -> None:
    env = place.daemon.env | {"HYPER_HOST": place.addresses()[1], "HYPER_CERT_PATH": str(tmp_path)}
    data = os.urandom(1 << 20)
    argv = place.daemon.argv("run", "--rm", "-i", "busybox", "sh", "-c", "cat; exit 3")
    done = subprocess.run(argv, env=env, input=data, capture_output=True, timeout=300)
    assert (done.returncode, done.stdout == data) == (3, True), done.stderr
    docker.ok("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    argv = place.daemon.argv("exec", "web", "echo", "the same")
    assert subprocess.run(argv, env=env, capture_output=True, timeout=300).stdout == b"the same\n"


@pytest.mark.skipif(not PYTHON.exists(), reason="there is no docker-py: run `make interop`")
@pytest.mark.parametrize(
    "name", re.findall(r"^def (\w+)\(client: docker\.DockerClient\)", PROGRAM.read_text(), re.MULTILINE)
)
def test_docker_py(place: Place, tmp_path: Path, name: str) -> None:
    bundles = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # which requests believes before what docker-py tells it
    env = {key: value for key, value in place.docker(CLIS[0], tmp_path, place.good).env.items() if key not in bundles}
    done = subprocess.run([PYTHON, PROGRAM, name], env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def test_who_is_not_let_in(place: Place, docker: DockerCli, tmp_path: Path) -> None:
    others = Authority(tmp_path / "others")
    for n, pair in enumerate((None, place.authority.sign("ended", days=-1), others.sign("stranger"))):
        folder = tmp_path / f"config{n}"
        folder.mkdir()
        stranger = place.docker(docker.docker, folder, pair)
        said = stranger("version", "--format", "{{.Server.Version}}")
        assert (said.status != 0, "tls: " in said.err or "certificate" in said.err) == (True, True), said
    plain = place.docker(docker.docker, tmp_path, None)
    del plain.env["DOCKER_TLS_VERIFY"]
    said = plain("ps")
    assert (said.status, "Client sent an HTTP request to an HTTPS server" in said.err) == (1, True), said
    assert docker.ok("ps", "-q") == ""
