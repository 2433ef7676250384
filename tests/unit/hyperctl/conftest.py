import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import hypercontainer
from tests.unit.hyperctl.fake import FakeHyperd

ROOT = Path(hypercontainer.__file__).parent.parent
LAUNCH = ROOT / "hypercontainer" / "launch.py"
PACKAGES = Path(pytest.__file__).parent.parent
# As the launcher starts it, except for where the packages are found.
PYTHON = [sys.executable, "-I", "-S"]


class Result(NamedTuple):
    status: int
    out: str
    err: str


class Process(subprocess.Popen[bytes]):
    """Does not outlive a test that fails."""

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, *rest)


class Hyperctl:
    """Runs the real command line, as the launcher does, against a fake hyperd."""

    def __init__(self, hyperd: FakeHyperd, home: Path) -> None:
        self.hyperd = hyperd
        self.environment = {
            "HYPER_HOST": f"unix://{hyperd.path}",
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LANG": "C.UTF-8",
        }

    def argv(self, *words: str | Path) -> list[str]:
        return [*PYTHON, str(LAUNCH), f"{PACKAGES.parent.parent.parent}/bin/hyperctl", *map(str, words)]

    def __call__(self, *words: str | Path, stdin: bytes = b"", environment: Mapping[str, str] | None = None) -> Result:
        done = self.raw(*words, stdin=stdin, environment=environment)
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def raw(
        self, *words: str | Path, stdin: bytes = b"", environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.argv(*words),
            input=stdin,
            capture_output=True,
            env={**self.environment, **(environment or {})},
            timeout=60,
            check=False,
        )

    def popen(self, *words: str | Path, **options: Any) -> "Process":
        return Process(self.argv(*words), env=self.environment, **options)


@pytest.fixture
def hyperctl(hyperd: FakeHyperd, tmp_path: Path) -> Hyperctl:
    return Hyperctl(hyperd, tmp_path)
