"""Builds in real guests, and how they end before their end. tests/interop compares what is built with docker's."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests.vm.conftest import ok

pytestmark = pytest.mark.vm

SLOW = "FROM busybox\nVOLUME /v\nCOPY Dockerfile /d/\nRUN echo it has begun; sleep 1000\n"


@contextmanager
def building(hyper: PrivateDaemon, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A client whose build runs its last step."""
    (folder / "Dockerfile").write_text(SLOW)
    with subprocess.Popen(
        hyper.argv("build", str(folder)),
        env=hyper.env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as client:
        assert client.stdout
        try:
            assert "it has begun\n" in iter(client.stdout.readline, "")
            yield client
        finally:
            client.kill()


def check_gone(hyper: PrivateDaemon) -> None:
    assert (ok(hyper, "ps", "-aq"), ok(hyper, "volume", "ls", "-q")) == ("", "")
    assert list(hyper.folder.rglob("images/work/*")) == []


def test_a_build(hyper: PrivateDaemon, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY Dockerfile /d/\nRUN cat /d/Dockerfile > /e\n")
    said = ok(hyper, "build", "-t", "built:1", str(tmp_path))
    assert said.rstrip().endswith("Successfully tagged built:1")
    assert ok(hyper, "run", "--rm", "built:1", "cat", "/e").strip() == (tmp_path / "Dockerfile").read_text().strip()
    assert ok(hyper, "build", str(tmp_path)).count("Using cache") == 2
    check_gone(hyper)


def test_whoever_goes_away_ends_the_build(hyper: PrivateDaemon, tmp_path: Path) -> None:
    with building(hyper, tmp_path) as client:
        [id] = ok(hyper, "ps", "-q", "--no-trunc").split()
        argv = hyper.argv(
            "events", "--since", "1", "-f", "type=container", "-f", "event=destroy", "--format", "{{.ID}}"
        )
        with subprocess.Popen(argv, env=hyper.env, text=True, stdout=subprocess.PIPE) as events:
            assert events.stdout
            client.kill()
            assert f"{id}\n" in iter(events.stdout.readline, "")
            events.kill()
    check_gone(hyper)


def test_after_a_kill_of_hyperd_nothing_is_left_of_a_build(hyper: PrivateDaemon, tmp_path: Path) -> None:
    with building(hyper, tmp_path) as client:
        hyper.signal(signal.SIGKILL)
        _, complaint = client.communicate(timeout=60)
        assert (client.returncode, "hyperd closed the connection" in complaint) == (1, True)
    hyper.start()
    check_gone(hyper)
