"""Builds in real guests, and how they end before their end. tests/interop compares what is built with docker's."""

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests.vm.conftest import ok

pytestmark = pytest.mark.vm

SLOW = "FROM busybox\n{}COPY Dockerfile /d/\nRUN echo it has begun; sleep 1000\n"
# its last step is in a machine of its own, or in that of the step before
PLACES = pytest.mark.parametrize("before", ["VOLUME /v\n", ""], ids=["apart", "together"])


@contextmanager
def building(hyper: PrivateDaemon, folder: Path, before: str) -> Iterator["subprocess.Popen[str]"]:
    """A client whose build runs its last step."""
    (folder / "Dockerfile").write_text(SLOW.format(before))
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


def machines(hyper: PrivateDaemon) -> list[str]:
    """All that have been started."""
    return ok(hyper, "events", "--since", "1", "--until", "0s", "-f", "type=pod", "-f", "event=start").splitlines()


def test_a_build(hyper: PrivateDaemon, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY Dockerfile /d/\nRUN cat /d/Dockerfile > /e\n")
    said = ok(hyper, "build", "-t", "built:1", str(tmp_path))
    assert said.rstrip().endswith("Successfully tagged built:1")
    assert ok(hyper, "run", "--rm", "built:1", "cat", "/e").strip() == (tmp_path / "Dockerfile").read_text().strip()
    assert ok(hyper, "build", str(tmp_path)).count("Using cache") == 2
    check_gone(hyper)


def test_steps_go_on_from_each_other(hyper: PrivateDaemon, tmp_path: Path) -> None:
    """In one machine, and what is built is what a container of the image finds."""
    (tmp_path / "file").write_text("sent\n")
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox\nRUN echo 1 > /one; mkdir -p /d/sub; echo 2 > /d/sub/two; ln /one /d/linked\n"
        "ENV A=of-env\nWORKDIR /made/here\nCOPY file .\n"
        "RUN rm /one; mv /d/sub /moved; echo $A $(pwd) > /d/env; chmod 700 /moved; rm -r /etc/group\n"
        "RUN rm -r /d; mkdir /d; echo new > /d/new; echo more >> file; cat /moved/two; touch -d @1 /moved/two\n"
        "RUN test ! -e /d/linked; test ! -e /one; ls /d /moved; mv /moved /again; ps | grep -c . > /processes\n"
    )
    before = len(machines(hyper))
    said = ok(hyper, "build", "-t", "built:2", str(tmp_path))
    assert len(set(re.findall("Running in ([0-9a-f]{12})", said))) == 4
    look = "cat /d/* /made/here/file; stat -c '%n %a %Y' /again/two; stat -c '%n %a' /again; "
    look += "ls -d /one /moved /etc/group /d/* 2> /dev/null; true"
    there = ok(hyper, "run", "--rm", "built:2", "sh", "-c", look).splitlines()
    assert there == ["new", "sent", "more", "/again/two 644 1", "/again 700", "/d/new"]
    assert len(machines(hyper)) - before == 2  # that of the stage, and that of `run`
    check_gone(hyper)


@PLACES
def test_whoever_goes_away_ends_the_build(hyper: PrivateDaemon, tmp_path: Path, before: str) -> None:
    with building(hyper, tmp_path, before) as client:
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


@PLACES
def test_after_a_kill_of_hyperd_nothing_is_left_of_a_build(hyper: PrivateDaemon, tmp_path: Path, before: str) -> None:
    with building(hyper, tmp_path, before) as client:
        hyper.signal(signal.SIGKILL)
        _, complaint = client.communicate(timeout=60)
        assert (client.returncode, "hyperd closed the connection" in complaint) == (1, True)
    hyper.start()
    check_gone(hyper)
