"""Guests that take all there is to take: of their machine, and never of what answers for it, or of this host."""

import subprocess
import sys
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests.vm.test_run import ok

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bomb.c as a program for a container."""
    program = tmp_path_factory.mktemp("bomb") / "bomb"
    flags = ["-target", "x86_64-linux-musl", "-static", "-Os", "-s", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Werror"]
    source = Path(__file__).with_name("bomb.c")
    subprocess.run([sys.executable, "-m", "ziglang", "cc", *flags, source, "-o", program], check=True)
    return program


def test_a_fork_bomb_is_its_own_containers_trouble(hyper: PrivateDaemon, bomb: Path) -> None:
    """Its machine's agent forks, answers and obeys all the same: there is room for it, and it comes first."""
    ok(hyper, "create", "--name", "bomb", "busybox", "sh", "-c", "/bomb fork & exec sleep 1000000")
    ok(hyper, "cp", str(bomb), "bomb:/bomb")
    ok(hyper, "start", "bomb")
    refused = hyper.ctl("exec", "bomb", "true")
    while refused.status == 0:  # until there are as many as there may be
        refused = hyper.ctl("exec", "bomb", "true")
    assert "cannot start a process where as many run as there may be" in refused.err
    assert ok(hyper, "stats", "--no-stream", "--format", "{{.Name}}", "bomb") == "bomb"
    _, *rows = ok(hyper, "top", "bomb").splitlines()
    assert len(rows) > 200 and "sleep" in rows[0]
    ok(hyper, "kill", "bomb")
    assert ok(hyper, "wait", "bomb") == "137"
    ok(hyper, "start", "bomb")
    ok(hyper, "rm", "-f", "bomb")
    assert hyper.ctl("inspect", "bomb").status == 1
