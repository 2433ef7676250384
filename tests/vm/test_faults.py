"""What dies, at every step of a start: a clear word to the caller, and nothing left behind."""

import json
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests.vm.conftest import time_passes
from tests.vm.mortal import STEPS

pytestmark = pytest.mark.vm

ROOT = Path(__file__).parents[2]


def mortal(hyper: PrivateDaemon, victim: str, step: str, *more: str) -> "subprocess.CompletedProcess[str]":
    """A start in which something is killed after `step`; hyperd is away meanwhile."""
    hyper.signal(signal.SIGTERM)
    argv = [sys.executable, "-m", "tests.vm.mortal", str(hyper.config), "mortal", victim, step, *more]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=900)


@pytest.mark.parametrize("step", STEPS)
def test_hyperd_killed_at_a_step_of_a_start_finds_everything_again(hyper: PrivateDaemon, step: str) -> None:
    done = mortal(hyper, "self", step)
    assert done.returncode == -signal.SIGKILL, done.stderr
    hyper.start()
    listed = hyper.ctl("ps", "-a", "--format", "{{.Names}} {{.State}}").out.split()
    assert listed == ["mortal", "running" if step == "process" else "created"]
    if step == "process":
        assert hyper.ctl("exec", "mortal", "echo", "well").out == "well\n"
        assert hyper.ctl("kill", "mortal").status == 0
        assert hyper.ctl("wait", "mortal").out == "137\n"
    if step in ("vmm", "claim", "rootfs"):
        assert hyper.ctl("start", "mortal").status == 0  # none of it stands in the way of the next start
    assert hyper.ctl("rm", "-f", "mortal").status == 0


@pytest.mark.parametrize("step", STEPS[STEPS.index("vmm") :])
def test_a_vmm_killed_at_a_step_of_a_start_is_named(hyper: PrivateDaemon, step: str) -> None:
    done = mortal(hyper, "vmm", step)
    assert done.returncode == 0, done.stderr
    assert "the virtual machine" in done.stdout and "killed by signal 9" in done.stdout
    hyper.start()
    state = hyper.ctl("ps", "-a", "--format", "{{.State}}").out.strip()
    assert state == ("exited" if step == "process" else "created")


def test_what_a_paused_guest_says_before_the_next_hyperd_listens_does_not_deafen_it(
    hyper: PrivateDaemon, tmp_path: Path
) -> None:
    beats = tmp_path / "beats"
    beats.mkdir()
    script = "i=0; while :; do echo $i; touch /beats/$i; i=$((i+1)); sleep 0.05; done"
    assert hyper.ctl("run", "-d", "--name", "p", "-v", f"{beats}:/beats", "busybox", "sh", "-c", script).status == 0
    pod = json.loads(hyper.ctl("pod", "inspect", "p").out)[0]["Id"]
    assert hyper.ctl("pause", "p").status == 0
    hyper.signal(signal.SIGKILL)
    before = len(list(beats.iterdir()))
    # as the next hyperd has it go on, only slower
    with socket.socket(socket.AF_UNIX) as monitor, monitor.makefile() as answers:
        monitor.connect(f"{hyper.settings['run']}/pods/{pod}/qmp.sock")
        monitor.sendall(b'{"execute":"qmp_capabilities"}{"execute":"cont"}')
        while len(list(beats.iterdir())) < before + 3:
            time_passes()
        monitor.sendall(b'{"execute":"stop"}')
        while '"STOP"' not in answers.readline():
            pass
    hyper.start()
    assert hyper.ctl("ps", "-a", "--format", "{{.State}}").out == "paused\n", hyper.log()[-2000:]
    assert hyper.ctl("unpause", "p").status == 0
    assert hyper.ctl("exec", "p", "echo", "well").out == "well\n"
    logged = hyper.ctl("logs", "p").out.split()
    assert len(logged) >= before + 3 and logged == [str(n) for n in range(len(logged))]


def test_clients_who_act_on_one_container_at_once_get_clear_answers(hyper: PrivateDaemon) -> None:
    assert hyper.ctl("create", "--name", "ours", "busybox", "sleep", "1000").status == 0
    words = [("start", "ours"), ("stop", "-t", "0", "ours"), ("exec", "ours", "true"), ("pause", "ours")]
    words += [("unpause", "ours"), ("kill", "ours"), ("restart", "-t", "0", "ours"), ("start", "ours")]
    with ThreadPoolExecutor(len(words)) as pool:
        answers = list(pool.map(lambda word: hyper.ctl(*word), words))
    for word, answer in zip(words, answers, strict=True):
        assert "internal" not in answer.err and "Traceback" not in answer.err, (word, answer)
        assert answer.status == 0 or answer.err.startswith("hyperctl: "), (word, answer)
    with ThreadPoolExecutor(4) as pool:
        removed = list(pool.map(lambda _: hyper.ctl("rm", "-f", "ours"), range(4)))
    assert any(answer.status == 0 for answer in removed), removed
    assert hyper.ctl("ps", "-a", "-q").out == ""


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("--memory", "1"), "MiB"),
        (("--memory", "64t"), "MiB"),
        (("--cpus", "1000"), "vCPUs"),
        (("--name", "../../etc"), "name"),
        (("-w", "relative"), "absolute"),
        (("-v", "/:/"), "/"),
        (("-p", "70000:80"), "port"),
        (("--storage-size", "1k"), "MiB"),
    ],
)
def test_absurd_wishes_are_refused_in_words(hyper: PrivateDaemon, words: tuple[str, ...], cause: str) -> None:
    done = hyper.ctl("run", "--rm", *words, "busybox", "true")
    assert done.status == 125
    assert done.err.startswith("hyperctl: ") and cause in done.err and done.err.count("\n") <= 2, done.err
