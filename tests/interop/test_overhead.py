"""frakti overhead, with machines that boot."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import yaml

from hypercontainer.testing.daemon import PrivateDaemon
from tests.interop.test_frakti import LIMIT_S, Kubelet, kubelet, pytestmark  # noqa: F401  fixtures


def asked(hyper: PrivateDaemon, *words: str) -> list[str]:
    doors = [f"--host=unix://{hyper.settings['socket']}", f"--cri=unix://{hyper.settings['cri_socket']}"]
    return [sys.executable, "-m", "hypercontainer.launch", "frakti", "overhead", *doors, *words]


def test_a_pod_is_measured_and_removed(kubelet: Kubelet) -> None:  # noqa: F811
    done = subprocess.run(asked(kubelet.hyper, "--format", "yaml"), capture_output=True, timeout=LIMIT_S)
    assert done.returncode == 0, done
    found = {each["handler"]: each["overhead"]["podFixed"] for each in yaml.safe_load_all(done.stdout)}
    assert "hyper" in found
    for cost in found.values():
        assert 30 <= int(cost["memory"].removesuffix("Mi")) <= 400, found
        assert re.fullmatch("[1-9][0-9]*m", cost["cpu"]), found
    assert kubelet.ok("pods", "-q") == ""


def test_who_is_interrupted_leaves_no_pod(kubelet: Kubelet) -> None:  # noqa: F811
    process = subprocess.Popen(asked(kubelet.hyper), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not kubelet.ok("pods", "-q") and process.poll() is None:
        continue
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=LIMIT_S) == (b"", b"frakti: interrupted; the pod was removed\n")
    assert process.returncode == 1 and kubelet.ok("pods", "-q") == ""


def test_who_does_not_run_is_told_so(tmp_path: Path) -> None:
    words = ["frakti", "overhead", f"--cri=unix://{tmp_path}/none.sock"]
    done = subprocess.run([sys.executable, "-m", "hypercontainer.launch", *words], capture_output=True, timeout=LIMIT_S)
    assert done.returncode == 1 and done.stderr.startswith(b"frakti: cannot reach frakti at "), done
