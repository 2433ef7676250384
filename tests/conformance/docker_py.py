"""docker-py's own integration tests, unchanged, against a hyperd of one's own.

python -m tests.conformance.docker_py [WORD of pytest's command line ...]

The tests are those of docker-py 6.1.3, which is the last that has them in its sources on PyPI; the client is the one of
today. docker_py.toml says what is not run, what is known to fail, and what is left to chance, each with its reason:
another test that fails, and one that is known to fail and passes, make the status 1. Theirs wait by the clock: what
fails has a second try, and the output says so. Words narrow the tests down, or tell pytest more: `-k exec`.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from hypercontainer.testing.busybox import write_archive
from hypercontainer.testing.daemon import PrivateDaemon, Value, private_daemon
from tests.conftest import KERNELS
from tests.interop.registries import docker_registry

Argv = list[str | Path]
SUITE = "docker==6.1.3"
CLIENT = ("docker==7.2.0", "pytest", "pytest-timeout", "paramiko", "websocket-client")
STATE = Path(__file__).parents[2] / ".cache/docker-py"
KNOWN = Path(__file__).with_name("docker_py.toml")
API_VERSION = "1.41"  # dockerd 20.10's, which the numbers to compare with are of
PASSWD = b"root:x:0:0:root:/root:/bin/sh\npostgres:x:70:70::/var/lib/postgresql:/bin/sh\n"
# What each image of Docker Hub is here: our busybox, and these files, which tell one image from another.
IMAGES: Mapping[str, Mapping[str, bytes]] = {
    name: {"etc/passwd": PASSWD, "etc/issue": name.encode(), "var/opt/.keep": b""}
    for name in ("alpine:3.10", "alpine:latest", "busybox:latest", "hello-world:latest")
}
# Of a test: it takes 3 minutes where it hangs, and has limits of its own beside that
TIMEOUT_S = 180
WHOLE_S = 3600


class Known(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tests for which the same is true."""

    why: str
    tests: list[str]  # FILE[::CLASS[::NAME]]


class Lists(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known before a run."""

    not_run: list[Known] = []  # files, and parts of them
    fails: list[Known] = []
    varies: list[Known] = []  # with how busy the machine is: nobody is told which way

    def failing(self) -> dict[str, str]:
        return {test: known.why for known in self.fails for test in known.tests}

    def varying(self) -> set[str]:
        return {test for known in self.varies for test in known.tests}


class Outcome(NamedTuple):
    """What became of a test."""

    status: str  # passed, failed, skipped, xfailed
    words: str


def known() -> Lists:
    return msgspec.convert(tomllib.loads(KNOWN.read_text()), Lists)


def prepare() -> Path:
    """The folder of the tests and their client's environment, made where it is missing or of other versions."""
    wanted = "\n".join((SUITE, *CLIENT))
    stamp = STATE / "stamp"
    if stamp.exists() and stamp.read_text() == wanted:
        return STATE
    print(f"conformance: fetching the tests of {SUITE} and {CLIENT[0]}", flush=True)
    shutil.rmtree(STATE, ignore_errors=True)
    venv.create(STATE / "venv", with_pip=True)
    pip: Argv = [STATE / "venv/bin/pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "download", "--no-deps", "--no-binary=docker", f"--dest={STATE}", SUITE], check=True)
    subprocess.run([*pip, "install", *CLIENT], check=True)
    [sources] = STATE.glob("docker-*.tar.gz")
    (STATE / "suite").mkdir()
    # without its `docker`, which would shadow the client's
    parts = ["--strip-components=1", "--wildcards", "*/tests", "*/pytest.ini"]
    subprocess.run(["tar", "-xzf", sources, "-C", STATE / "suite", *parts], check=True)
    stamp.write_text(wanted)
    return STATE


async def serve(registry: str, daemon: PrivateDaemon) -> None:
    """Put the images into the registry, from where the daemon has those of Docker Hub, and into the daemon."""
    with tempfile.TemporaryDirectory() as folder:
        for name, files in IMAGES.items():
            there = f"{registry}/library/{name}"
            write_archive(Path(folder, "image.tar"), [name, there], files=files)
            for words in ("load", "-i", f"{folder}/image.tar"), ("push", there), ("rmi", there):
                done = await asyncio.to_thread(daemon.ctl, *words)
                assert done.status == 0, (words, done)


def run(state: Path, daemon: PrivateDaemon, lists: Lists, words: Sequence[str]) -> dict[str, Outcome]:
    """All tests; those that fail and are not known to a second time."""
    found = run_once(state, daemon, lists, [*words, "tests/integration"])
    failing = lists.failing()
    again = [name for name, outcome in found.items() if outcome.status == "failed" and name not in failing]
    if again:
        print(f"conformance: a second try: {', '.join(again)}", flush=True)
        found |= run_once(state, daemon, lists, [f"tests/integration/{name}" for name in again])
    return found


def run_once(state: Path, daemon: PrivateDaemon, lists: Lists, words: Sequence[str]) -> dict[str, Outcome]:
    """What becomes of the tests that `words` of pytest's command line name, with all that it prints."""
    left_out = [f"tests/integration/{name}" for known in lists.not_run for name in known.tests]
    ignored = [f"--ignore={name}" for name in left_out if "::" not in name]
    deselected = [f"--deselect={name}" for name in left_out if "::" in name]
    with tempfile.TemporaryDirectory() as folder:
        argv: Argv = [
            state / "venv/bin/python", "-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider",
            f"--timeout={TIMEOUT_S}", f"--junitxml={folder}/results.xml", *ignored, *deselected, *words,
        ]  # fmt: skip
        env = {
            "PATH": os.environ["PATH"],
            "HOME": folder,  # nobody's credentials
            "DOCKER_HOST": f"unix://{daemon.folder}/hyper-docker.sock",
            "DOCKER_TEST_API_VERSION": API_VERSION,
        }
        done = subprocess.run(argv, cwd=state / "suite", env=env, timeout=WHOLE_S)
        assert done.returncode in (0, 1), f"pytest ended with {done.returncode}"
        return outcomes(Path(folder, "results.xml").read_text())


def outcomes(results: str) -> dict[str, Outcome]:
    """Of pytest's own report."""
    found = {}
    for case in ElementTree.fromstring(results).iter("testcase"):
        file, *within = case.get("classname", "").removeprefix("tests.integration.").split(".")
        name = "::".join([f"{file}.py", *within, case.get("name", "")])
        found[name] = Outcome("passed", "")
        for part in case:
            if part.tag in ("failure", "error", "skipped"):
                status = "failed" if part.tag != "skipped" else part.get("type", "").rpartition("pytest.")[2]
                words = (part.get("message") or "").strip()
                found[name] = Outcome({"skip": "skipped", "xfail": "xfailed"}.get(status, status), words)
    return found


def judge(found: Mapping[str, Outcome], lists: Lists, *, whole: bool) -> list[str]:
    """What is not as it is known. `whole`: all tests were to run."""
    failing = lists.failing()
    surprises = [
        f"fails, which is not known: {name}: {outcome.words[:300]}"
        for name, outcome in found.items()
        if outcome.status == "failed" and name not in failing and name not in lists.varying()
    ]
    for name, why in failing.items():
        if name in found and found[name].status != "failed":
            surprises.append(f"{found[name].status}, though it is known to fail: {name} ({why})")
        elif whole and name not in found:
            surprises.append(f"is no test, though it is known to fail: {name}")
    return surprises


async def main(words: Sequence[str]) -> int:
    state, lists = await asyncio.to_thread(prepare), known()
    with tempfile.TemporaryDirectory() as folder:
        async with docker_registry(Path(folder, "registry")) as registry:
            settings: dict[str, Value | None] = {
                'registries."docker.io".mirrors': [f"http://{registry}"],
                "memory_mib": 256,
            }
            with private_daemon(KERNELS, settings) as daemon:
                await serve(registry, daemon)
                found = await asyncio.to_thread(run, state, daemon, lists, words)
                daemon.ctl("volume", "prune", "-a", "-f")
    surprises = judge(found, lists, whole=not words)
    counts = Counter(outcome.status for outcome in found.values())
    print(f"conformance: docker-py: {', '.join(f'{n} {status}' for status, n in sorted(counts.items()))}")
    for line in surprises:
        print(f"conformance: {line}")
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
