"""login, logout, and the credentials that go with a pull."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.hyperctl.conftest import Hyperctl
from tests.unit.hyperctl.fake import Lines, Refusal

SECRET = {"username": "me", "password": "hush"}
IN_A_TERMINAL = """
import json, os, pty, sys
pid, fd = pty.fork()
if not pid:
    os.execv(sys.argv[2], sys.argv[2:])
seen = b""
for question, answer in json.loads(sys.argv[1]):
    while question.encode() not in seen:
        seen += os.read(fd, 1024)
    os.write(fd, answer.encode())
try:
    while piece := os.read(fd, 1024):
        seen += piece
except OSError:
    pass
sys.stdout.buffer.write(seen)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
NAME, PASSWORD = "Username: ", "Password: "


def typed(hyperctl: Hyperctl, *answers: tuple[str, str]) -> tuple[int, bytes]:
    """Log in at a terminal where each question is answered; the exit status, what was seen."""
    argv = [sys.executable, "-c", IN_A_TERMINAL, json.dumps(answers), *hyperctl.argv("login", "r.io")]
    done = subprocess.run(argv, env=hyperctl.environment, capture_output=True, timeout=60, check=False)
    return done.returncode, done.stdout


@pytest.fixture
def config(hyperctl: Hyperctl, tmp_path: Path) -> Path:
    hyperctl.hyperd.answers["POST", "/v1/login"] = None
    hyperctl.hyperd.answers["POST", "/v1/images/pull"] = Lines({"images": []})
    return tmp_path / ".docker/config.json"


def test_the_password_by_stdin_and_what_a_pull_sends(hyperctl: Hyperctl, config: Path) -> None:
    done = hyperctl("login", "-u", "me", "--password-stdin", "r.io:5000", stdin=b"hush\n")
    assert (done.status, done.out) == (0, "Login Succeeded\n")
    assert "hush" not in done.err
    assert f"kept unencrypted in {config}" in done.err
    assert json.loads(config.read_text())["auths"] == {"r.io:5000": {"auth": base64.b64encode(b"me:hush").decode()}}
    for image in ("r.io:5000/a", "r.io/a", "a"):
        assert hyperctl("pull", image).status == 0
    asked, *pulls = [request.body for request in hyperctl.hyperd.requests]
    assert asked == {"registry": "r.io:5000", "auth": SECRET}
    assert pulls == [{"name": "r.io:5000/a", "auth": SECRET}, {"name": "r.io/a"}, {"name": "a"}]


def test_another_folder(hyperctl: Hyperctl, config: Path, tmp_path: Path) -> None:
    there = {"DOCKER_CONFIG": str(tmp_path / "there")}
    assert hyperctl("login", "-u", "me", "--password-stdin", stdin=b"hush", environment=there).status == 0
    assert not config.exists()
    assert hyperctl("pull", "a", environment=there).status == 0
    assert hyperctl.hyperd.requests[-1].body == {"name": "a", "auth": SECRET}


def test_asked_for_on_a_terminal(hyperctl: Hyperctl, config: Path) -> None:
    status, seen = typed(hyperctl, (NAME, "me\n"), (PASSWORD, "hush\n"))
    assert status == 0
    assert b"Login Succeeded" in seen
    assert b"hush" not in seen  # it is not echoed
    assert hyperctl.hyperd.requests[-1].body == {"registry": "r.io", "auth": SECRET}


@pytest.mark.parametrize(
    "answers", [[(NAME, "\x04")], [(NAME, "me\n"), (PASSWORD, "\x04")], [(NAME, "\n"), (PASSWORD, "\n")]]
)
def test_who_types_nothing_is_told_what_is_needed(
    hyperctl: Hyperctl, config: Path, answers: list[tuple[str, str]]
) -> None:
    status, seen = typed(hyperctl, *answers)
    assert (status, b"Traceback" in seen) == (1, False)
    assert b"a user name and a password are needed" in seen
    assert not hyperctl.hyperd.requests


def test_what_is_kept_is_tried_first(hyperctl: Hyperctl, config: Path) -> None:
    hyperctl("login", "-u", "me", "--password-stdin", "r.io", stdin=b"hush")
    done = hyperctl("login", "r.io")
    assert (done.status, done.out) == (0, "Authenticating with existing credentials...\nLogin Succeeded\n")
    assert hyperctl.hyperd.requests[-1].body == {"registry": "r.io", "auth": SECRET}


def test_a_wrong_password_is_not_kept(hyperctl: Hyperctl, config: Path) -> None:
    hyperctl.hyperd.answers["POST", "/v1/login"] = Refusal(403, "permission", "r.io refuses these credentials")
    done = hyperctl("login", "-u", "me", "--password-stdin", "r.io", stdin=b"hush")
    assert done == (1, "", "hyperctl: r.io refuses these credentials\n")
    assert not config.exists()


def test_logout(hyperctl: Hyperctl, config: Path) -> None:
    hyperctl("login", "-u", "me", "--password-stdin", "r.io", stdin=b"hush")
    assert hyperctl("logout", "r.io").out == "Removing login credentials for r.io\n"
    assert hyperctl("logout", "r.io") == (0, "Not logged in to r.io\n", "")
    assert hyperctl("pull", "r.io/a").status == 0
    assert hyperctl.hyperd.requests[-1].body == {"name": "r.io/a"}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--password-stdin"], "must provide --username with --password-stdin"),
        (["-u", "me", "-p", "x", "--password-stdin"], "mutually exclusive"),
        (["-u", "me"], "no terminal to ask on"),
        (["nodots"], "invalid registry 'nodots'"),
    ],
)
def test_what_cannot_be_done(hyperctl: Hyperctl, config: Path, words: list[str], why: str) -> None:
    done = hyperctl("login", *words)
    assert done.status == 1
    assert why in done.err
    assert not hyperctl.hyperd.requests
