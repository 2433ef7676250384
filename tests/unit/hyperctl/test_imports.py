"""What people wait for imports nothing large. Modules do not jitter; milliseconds do."""

import subprocess

import pytest

from tests.unit.hyperctl.conftest import Hyperctl

# What `python3 -I -S` itself imports before it runs anything, and the C modules that cost nothing.
FREE = {
    *("os", "posixpath", "genericpath", "stat", "_stat", "_collections_abc"),
    "_json",
    "_signal",
    "_socket",
    "_struct",
    "_thread",
    "__future__",
    "binascii",
    "errno",
    "fcntl",
    "select",
    "termios",
    "time",
}
OURS = "hypercontainer"


def imported(hyperctl: Hyperctl, *words: str) -> set[str]:
    argv = hyperctl.argv(*words)
    argv[1:1] = ["-X", "importtime"]
    done = subprocess.run(argv, env=hyperctl.environment, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    lines = [line for line in done.stderr.decode().splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines[1:]}


@pytest.fixture
def bare(hyperctl: Hyperctl) -> set[str]:
    argv = [*hyperctl.argv()[:3], "-X", "importtime", "-c", "pass"]
    done = subprocess.run(argv, capture_output=True, check=True)
    return {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines()}


CONTAINER = "c" * 64


@pytest.mark.parametrize(
    "words",
    [
        ("ps",),
        ("run", "--rm", "-e", "A=b", "-v", "/a:/b", "-p", "80:80", "busybox", "true"),
        ("run", "-d", "busybox"),
        ("exec", "c", "true"),
        ("start", "c"),
        ("attach", "c"),
        ("rm", "c", "d"),
        ("stop", "c"),
        ("logs", "c"),
    ],
    ids=lambda words: words[0],
)
def test_a_command_people_wait_for_imports_little(hyperctl: Hyperctl, bare: set[str], words: tuple[str, ...]) -> None:
    hyperd = hyperctl.hyperd
    hyperd.answers["GET", "/v1/containers"] = []
    hyperd.answers["POST", "/v1/containers"] = {"Id": CONTAINER, "Warnings": []}
    hyperd.answers["GET", "/v1/containers/c"] = {
        "Config": {"Tty": False, "OpenStdin": False},
        "State": {"Paused": False},
    }
    hyperd.answers["GET", "/v1/containers/c/logs"] = b'{"stream":1,"time_ns":1,"data":"aGk="}\n'
    for c in ("c", "d", CONTAINER):
        hyperd.answers["DELETE", f"/v1/containers/{c}"] = None
        for verb in ("start", "stop"):
            hyperd.answers["POST", f"/v1/containers/{c}/{verb}"] = None
        for verb in ("attach", "exec"):
            hyperd.answers["POST", f"/v1/containers/{c}/{verb}"] = True
            hyperd.scripts[f"/v1/containers/{c}/{verb}"] = lambda stream: stream.exit(0)
    modules = {name for name in imported(hyperctl, *words) - bare if name.partition(".")[0] != OURS}
    assert hyperd.requests
    assert not modules - FREE, sorted(modules - FREE)
