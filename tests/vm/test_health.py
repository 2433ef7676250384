"""Healthchecks in real guests: what is told, what is killed, and that a hyperd after us goes on asking."""

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.testing.busybox import write_archive
from hypercontainer.testing.daemon import PrivateDaemon
from tests.vm.conftest import ok

pytestmark = pytest.mark.vm

OFTEN = ("--health-interval", "200ms", "--health-retries", "2")
WELL = "test -e /tmp/well"
HANGS = f"{WELL} && exit; echo asking; sleep 7777"


def told(hyper: PrivateDaemon, action: str, since: float) -> None:
    """Wait for an event of `web` since then."""
    filters = ("--filter", "container=web", "--filter", f"event={action.partition(':')[0]}")
    argv = hyper.argv("events", "--since", f"{since:.9f}", *filters, "--format", "{{.Action}}")
    with subprocess.Popen(argv, env=hyper.env, stdout=subprocess.PIPE, text=True) as events:
        assert events.stdout
        try:
            assert any(line.strip() == action for line in events.stdout), "hyperd has ended"
        finally:
            events.kill()


def health(hyper: PrivateDaemon) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(hyper.ctl("inspect", "--format", "{{json .State.Health}}", "web").out)
    return found


def inside(hyper: PrivateDaemon, script: str) -> str:
    done = hyper.ctl("exec", "web", "sh", "-c", script)
    assert done.status == 0, done
    return done.out


def hanging(hyper: PrivateDaemon) -> list[str]:
    return [row for row in hyper.ctl("top", "web").out.splitlines() if row.endswith(" sleep 7777")]


def kill(hyper: PrivateDaemon) -> None:
    hyper.signal(signal.SIGKILL)
    hyper.start()


def test_health_comes_and_goes_and_outlives_hyperd(hyper: PrivateDaemon) -> None:
    start = time.time()
    done = hyper.ctl("run", "-d", "--name", "web", "--health-cmd", WELL, *OFTEN, "busybox", "sleep", "1000")
    assert done.status == 0
    told(hyper, "health_status: unhealthy", start)
    found = health(hyper)
    assert found["FailingStreak"] >= 2 and found["Log"][-1]["ExitCode"] == 1
    assert hyper.ctl("ps", "--filter", "health=unhealthy", "--format", "{{.Status}}").out.endswith("(unhealthy)\n")

    kill(hyper)
    assert health(hyper)["Status"] == "unhealthy"
    inside(hyper, "touch /tmp/well")
    told(hyper, "health_status: healthy", start)
    kill(hyper)
    assert health(hyper)["Status"] == "healthy" and health(hyper)["FailingStreak"] == 0
    gone = time.time()
    inside(hyper, "rm /tmp/well")
    told(hyper, "health_status: unhealthy", gone)
    assert hyper.ctl("stop", "-t", "0", "web").status == 0
    assert len(health(hyper)["Log"]) == 5


def test_a_probe_that_hangs_is_killed_with_what_it_started(hyper: PrivateDaemon) -> None:
    start = time.time()
    check = ("--health-cmd", HANGS, "--health-interval", "200ms", "--health-timeout", "1s", "--health-retries", "1")
    ok(hyper, "run", "-d", "--name", "web", *check, "busybox", "sleep", "1000")
    told(hyper, "health_status: unhealthy", start)
    [probe, *_] = health(hyper)["Log"]
    assert (probe["ExitCode"], probe["Output"]) == (-1, "Health check exceeded timeout (1s): asking\n")
    inside(hyper, "touch /tmp/well")
    told(hyper, "health_status: healthy", start)
    assert hanging(hyper) == []


def test_a_probe_that_runs_when_hyperd_is_killed_is_ended_before_the_next(hyper: PrivateDaemon) -> None:
    start = time.time()
    check = ("--health-cmd", HANGS, "--health-interval", "200ms", "--health-timeout", "1h")
    ok(hyper, "run", "-d", "--name", "web", *check, "busybox", "sleep", "1000")
    told(hyper, f"exec_start: /bin/sh -c {HANGS}"[:212], start)
    hyper.signal(signal.SIGKILL)
    again = time.time()
    hyper.start()
    told(hyper, f"exec_start: /bin/sh -c {HANGS}"[:212], again)
    assert len(hanging(hyper)) <= 1
    inside(hyper, "touch /tmp/well")
    kill(hyper)
    told(hyper, "health_status: healthy", again)
    assert hanging(hyper) == []
    assert health(hyper)["FailingStreak"] == 0


def test_what_the_image_says_is_asked_unless_told_otherwise(hyper: PrivateDaemon, tmp_path: Path) -> None:
    says = {"Test": ["CMD-SHELL", "echo $0 $USER_OF_IT"], "Interval": 200_000_000}
    config = {"Healthcheck": says, "Shell": ["/bin/sh", "-e", "-c"], "Env": ["PATH=/bin", "USER_OF_IT=me"]}
    write_archive(tmp_path / "well.tar", ["well"], config=config)
    assert hyper.ctl("load", "-i", str(tmp_path / "well.tar")).status == 0
    start = time.time()
    done = hyper.ctl("run", "-d", "--name", "web", "well", "sleep", "1000")
    assert done.status == 0 and "HEALTHCHECK" not in done.err
    told(hyper, "health_status: healthy", start)
    assert health(hyper)["Log"][0]["Output"] == "/bin/sh me\n"
    hyper.ctl("rm", "-f", "web")
    ok(hyper, "run", "-d", "--name", "web", "--no-healthcheck", "well", "sleep", "1000")
    assert health(hyper) is None
    hyper.ctl("rm", "-f", "web")
    hyper.ctl("rmi", "well")
