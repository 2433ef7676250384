"""tools/docker-sock.sh: a link where docker's clients look, and never in place of a docker."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGET = "/run/hyper-docker.sock"
TOOLS = ("bash", "dirname", "install", "ln", "mkdir", "readlink", "sed")  # what the script needs, and no dockerd


class Host:
    """A folder that is the root of a host, and what is in its PATH."""

    def __init__(self, root: Path) -> None:
        self.root, self.bin = root / "root", root / "bin"
        self.link, self.conf = self.root / "run/docker.sock", self.root / "etc/tmpfiles.d/hyper-docker.conf"
        self.bin.mkdir()
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found, tool
            (self.bin / tool).symlink_to(found)

    def __call__(self, verb: str) -> tuple[int, str, str]:
        env = {"PATH": str(self.bin), "DESTDIR": str(self.root)}
        done = subprocess.run(
            [ROOT / "tools/docker-sock.sh", verb], env=env, capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_the_link_is_made_and_made_again(host: Host) -> None:
    for _ in range(2):
        assert host("link")[0] == 0
        assert os.readlink(host.link) == TARGET
    assert host.conf.read_text().splitlines()[-1] == f"L /run/docker.sock - - - - {TARGET}"
    assert host("offer") == (0, "", "")


def test_it_is_offered_where_no_docker_is(host: Host) -> None:
    status, out, _ = host("offer")
    assert (status, "make install DOCKER_SOCK=1" in out) == (0, True)
    assert not host.link.is_symlink()


def of_a_daemon(host: Host) -> None:
    (host.bin / "dockerd").symlink_to("/bin/true")


def of_its_socket(host: Host) -> None:
    host.link.parent.mkdir(parents=True)
    host.link.write_text("another's")


def of_a_link(host: Host) -> None:
    host.link.parent.mkdir(parents=True)
    host.link.symlink_to("/run/podman/podman.sock")


def at(path: Path) -> str:
    """What is there."""
    return os.readlink(path) if path.is_symlink() else path.read_text() if path.exists() else "nothing"


@pytest.mark.parametrize("docker", [of_a_daemon, of_its_socket, of_a_link])
def test_a_docker_is_left_alone(host: Host, docker: Callable[[Host], None]) -> None:
    docker(host)
    before = at(host.link)
    for verb in "check", "link":
        status, out, err = host(verb)
        assert (status, out, "a docker is here" in err) == (1, "", True)
    assert host("offer") == (0, "", "")
    assert not host.conf.exists()
    assert at(host.link) == before


@pytest.mark.skipif(not shutil.which("systemd-tmpfiles"), reason="there is no systemd-tmpfiles")
def test_a_boot_makes_it_anew(host: Host) -> None:
    assert host("link")[0] == 0
    host.link.unlink()
    argv = ["systemd-tmpfiles", f"--root={host.root}", "--create", "hyper-docker.conf"]
    subprocess.run(argv, check=True, capture_output=True, timeout=60)
    assert os.readlink(host.link).removeprefix(str(host.root)) == TARGET
