"""host/launcher/runv.c: what is done without Python, and that nobody can tell."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.hyperctl.test_launcher import LAUNCHER
from tests.unit.hyperctl.test_launcher import pytestmark as pytestmark
from tests.unit.runv.conftest import STATE, Door

RUNV = LAUNCHER.parent / "runv"
GONE = "hyperd has gone before its answer\n"


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """An installation with the launcher and nothing else: who needs Python fails with status 125."""
    program = tmp_path / "bin/runv"
    program.parent.mkdir()
    shutil.copy2(RUNV, program)
    return program


def run(door: Door, program: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    there = {"PATH": os.environ["PATH"], "HYPER_OCI_HOST": f"unix://{door.path}", **env}
    return subprocess.run([program, *words], env=there, capture_output=True, text=True, timeout=60)


ENGINES = [
    ("start", "c"),
    (
        "--root",
        "/run/docker/runtime-runv/moby",
        "--log",
        "/run/a/log.json",
        "--log-format",
        "json",
        "start",
        "c-1.2_3+",
    ),
    ("--root=/a", "--log=/b", "--log-format=text", "--systemd-cgroup", "--debug", "delete", "c"),
    ("delete", "--force", "c"),
    ("delete", "c", "-f"),
    ("kill", "c"),
    ("kill", "c", "15"),
    ("kill", "--all", "c", "9"),
    ("kill", "-a", "c", "SIGKILL"),
    ("kill", "c", "TERM"),
]


@pytest.mark.parametrize("words", ENGINES, ids=" ".join)
def test_the_call_is_pythons(door: Door, alone: Path, words: tuple[str, ...]) -> None:
    done = run(door, alone, *words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert run(door, RUNV, "--host", f"unix://{door.path}", *words).returncode == 0  # a flag of which it knows nothing
    assert door.calls[0] == door.calls[1]


@pytest.mark.parametrize("answer", [None, STATE, {**STATE, "annotations": {"a": '"poststart":[{'}}])
def test_what_is_plainly_done_needs_no_python(door: Door, alone: Path, answer: object) -> None:
    door.answer = {"answer": answer}
    for words in (("start", "c"), ("kill", "c", "9"), ("delete", "c")):
        assert run(door, alone, *words).returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        ("state", "c"),
        ("start",),
        ("start", "c", "d"),
        ("start", 'c"'),
        ("start", "--force", "c"),
        ("delete", "--all", "c"),
        ("delete", "--", "c"),
        ("kill", "c", "WINCH"),
        ("kill", "c", "0"),
        ("kill", "c", "99"),
        ("kill", "c", "-1"),
        ("--root", "relative", "start", "c"),
        ("--root", "/a/../b", "start", "c"),
        ("--root", "/a/", "start", "c"),
        ("--root", '/a"', "start", "c"),
        ("--root", "/" + "a" * 5000, "start", "c"),
        ("--host", "unix:///none", "start", "c"),
        ("--rootless", "true", "start", "c"),
        ("--version",),
        ("--log",),
        (),
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_other_words_are_pythons(door: Door, alone: Path, words: tuple[str, ...]) -> None:
    assert run(door, alone, *words).returncode == 125
    assert door.calls == []


def test_settings_of_ones_own_are_pythons(door: Door, alone: Path) -> None:
    assert run(door, alone, "start", "c", HYPER_CONFIG="/a").returncode == 125
    assert run(door, alone, "start", "c", HYPER_OCI_HOST="/none").returncode == 125
    assert door.calls == []


@pytest.mark.parametrize("words", [("start", "c"), ("kill", "c", "9"), ("delete", "c")], ids=lambda words: words[0])
def test_an_error_is_told_and_hyperd_is_asked_once(door: Door, tmp_path: Path, words: tuple[str, ...]) -> None:
    door.answer = {"error": {"kind": "not-found", "message": "no such container: c"}}
    done = run(door, RUNV, "--log", str(tmp_path / "log"), "--log-format", "json", *words)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "container does not exist\n")
    assert json.loads((tmp_path / "log").read_text())["msg"] == "container does not exist"
    assert len(door.calls) == 1


def test_who_does_not_run_is_told_in_containerds_words(door: Door) -> None:
    door.answer = {"error": {"kind": "failed-precondition", "message": "a"}}
    assert run(door, RUNV, "kill", "c", "9").stderr == "container not running\n"


@pytest.mark.parametrize(
    ("verb", "kind", "status"), [("start", "poststart", "running"), ("delete", "poststop", "stopped")]
)
def test_hooks_are_run(door: Door, tmp_path: Path, verb: str, kind: str, status: str) -> None:
    told = tmp_path / "told"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"cat >{told}"]}
    door.answer = {"answer": {**STATE, "bundle": str(tmp_path), kind: [hook]}}
    done = run(door, RUNV, verb, "c")
    assert (done.returncode, done.stderr) == (0, "")
    assert (json.loads(told.read_text())["status"], len(door.calls)) == (status, 1)


def test_a_hyperd_that_goes_is_told_and_nobody_asks_again(door: Door) -> None:
    door.answer = None
    done = run(door, RUNV, "start", "c")
    assert (done.returncode, done.stderr, len(door.calls)) == (1, GONE, 1)


def test_nobody_else_tells_what_hyperd_has_answered(door: Door) -> None:
    assert run(door, RUNV, "state", "c", HYPER_RUNV_ANSWER="0").returncode == 0
    assert len(door.calls) == 1
