"""Who ends the tests ends what they have made: the daemon with its guests, its networks, and what is mounted."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import mounts_below
from tests.vm.conftest import processes


@pytest.mark.vm
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("end", [os.kill, os.killpg], ids=["alone", "as by Ctrl-C, with all that it started"])
def test_nothing_is_left_of_tests_that_were_ended(
    tmp_path: Path, end: Callable[[int, int], None], number: signal.Signals
) -> None:
    told = tmp_path / "told"
    file = Path(__file__).with_name("interrupted.py")
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    env = {**os.environ, "HYPER_TOLD": str(told)}
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=env, text=True, process_group=0
    ) as run:
        assert run.stdout
        while not told.exists() and run.poll() is None:
            threading.Event().wait(0.05)
        assert run.poll() is None, run.stdout.read()
        folder, bridge = told.read_text().split()
        end(run.pid, number)
        said = run.stdout.read()
    assert run.returncode == pytest.ExitCode.INTERRUPTED, said
    assert not Path(folder).exists()
    assert not Path(f"/sys/class/net/{bridge}").exists()
    assert mounts_below(Path(folder)) == []
    assert processes([Path(folder)], set()) == []
