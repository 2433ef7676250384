"""Engines wait for each verb: it imports nothing large. Modules do not jitter; milliseconds do."""

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.hyperctl.conftest import LAUNCH, PACKAGES, PYTHON
from tests.unit.hyperctl.test_imports import FREE, OURS

STATE = {
    "oci_version": "1.0.2", "id": "c", "status": "running", "pid": 1, "bundle": "/b", "rootfs": "/b/rootfs",
    "created_ns": 10**18,
}  # fmt: skip
MOUNTS = {"ctypes", "_ctypes", "struct", "ctypes._endian", "types"}


class Door:
    """Answers each call with STATE, until the block ends."""

    def __init__(self, path: Path) -> None:
        self.path, self.calls = path, list[str]()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        answer = json.dumps({"answer": STATE}).encode()
        while True:
            caller = self._socket.accept()[0]
            with caller:
                head = caller.recv(4, socket.MSG_WAITALL)
                if not head:
                    return
                document = json.loads(caller.recv(int.from_bytes(head, "little"), socket.MSG_WAITALL))
                self.calls.append(document["call"])
                caller.sendall(len(answer).to_bytes(4, "little") + answer)

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(self.path))
        self._thread.join()
        self._socket.close()


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    made = Door(tmp_path / "oci.sock")
    yield made
    made.close()


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
    assert door.calls == calls
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
