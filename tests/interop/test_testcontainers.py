"""testcontainers-python, unchanged, against hyperd: what it is used for is in programs/with_testcontainers.py."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests.interop.clients import CLIENTS

PROGRAM = Path(__file__).with_name("programs") / "with_testcontainers.py"
PYTHON = CLIENTS / "testcontainers/bin/python"
pytestmark = [
    pytest.mark.interop,
    pytest.mark.docker,
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="hyperd is root's"),
    pytest.mark.skipif(not PYTHON.exists(), reason="there is no testcontainers: run `make interop`"),
]


@pytest.mark.parametrize("name", re.findall(r"^def (\w+)\(", PROGRAM.read_text(), re.MULTILINE))
def test_testcontainers(hyper: PrivateDaemon, name: str) -> None:
    env = {
        **os.environ,
        "DOCKER_HOST": f"unix://{hyper.folder}/hyper-docker.sock",
        "TESTCONTAINERS_RYUK_DISABLED": "true",
    }
    done = subprocess.run([PYTHON, PROGRAM, name], env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
