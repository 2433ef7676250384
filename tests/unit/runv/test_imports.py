"""Engines wait for each verb: it imports nothing large. Modules do not jitter; milliseconds do."""

import os
import subprocess

import pytest

from tests.unit.hyperctl.conftest import LAUNCH, PACKAGES, PYTHON
from tests.unit.hyperctl.test_imports import FREE, OURS
from tests.unit.runv.conftest import Door

MOUNTS = {"ctypes", "_ctypes", "struct", "ctypes._endian", "types"}


def imported(*words: str) -> set[str]:
    argv = [*PYTHON, "-X", "importtime", *words]
    done = subprocess.run(argv, env={"PATH": os.environ["PATH"]}, capture_output=True, check=True, timeout=60)
    lines = [line for line in done.stderr.decode().splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines[1:]}


@pytest.mark.parametrize(
    ("words", "calls"),
    [
        (("state", "c"), ["state"]),
        (("start", "c"), ["start"]),
        (("kill", "c", "TERM"), ["kill"]),
        (("delete", "--force", "c"), ["delete"]),
        (("pause", "c"), ["pause"]),
    ],
    ids=lambda words: words[0],
)
def test_a_verb_imports_little(door: Door, words: tuple[str, ...], calls: list[str]) -> None:
    program = f"{PACKAGES.parent.parent.parent}/bin/runv"
    modules = imported(str(LAUNCH), program, "--host", f"unix://{door.path}", *words) - imported("-c", "pass")
    assert [call["call"] for call in door.calls] == calls
    assert not {name for name in modules if name.partition(".")[0] != OURS} - FREE


def test_containerds_runtime_imports_little() -> None:
    code = f"import sys; sys.path.append({str(LAUNCH.parent.parent)!r}); from hypercontainer.shim import main"
    modules = {name for name in imported("-c", code) - imported("-c", "pass") if name.partition(".")[0] != OURS}
    assert not modules - FREE - {"_blake2"}


def test_what_makes_processes_imports_little() -> None:
    code = f"import sys; sys.path.append({str(LAUNCH.parent.parent)!r}); "
    code += "from hypercontainer.lib import hooks; from hypercontainer.runv import create, program"
    modules = {name for name in imported("-c", code) - imported("-c", "pass") if name.partition(".")[0] != OURS}
    assert not modules - FREE - MOUNTS
