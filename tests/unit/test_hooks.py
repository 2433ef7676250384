"""Hooks: what becomes of one that hangs, and of what one leaves behind."""

import json
import os
import signal
from pathlib import Path

import pytest

from hypercontainer.lib import hooks


def run(folder: Path, script: str, **more: object) -> None:
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script], **more}
    hooks.run([hook], "prestart", {"bundle": str(folder), "id": "one"})


def test_the_state_is_on_stdin(tmp_path: Path) -> None:
    run(tmp_path, "read -r line; echo $line >state; env >env", env=["A=1"])
    assert json.loads((tmp_path / "state").read_text()) == {"bundle": str(tmp_path), "id": "one"}
    assert "A=1\n" in (tmp_path / "env").read_text()


def test_one_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(hooks.HookFailed, match=r"hook prestart #0: /bin/sh ended with status 3: x+why$"):
        run(tmp_path, "head -c 3000 /dev/zero | tr '\\0' x; echo why >&2; exit 3")


def test_what_it_leaves_behind_holds_nobody_up(tmp_path: Path) -> None:
    run(tmp_path, "sleep 1000000 & echo $! >pid")
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)  # it is there: and that was no reason to wait


def test_one_that_hangs_is_ended_with_all_that_it_has_started(tmp_path: Path) -> None:
    with pytest.raises(hooks.HookFailed, match="it did not end within 1 s"):
        run(tmp_path, "sleep 1000000 & echo $! >pid; wait", timeout=1)
    pid = int((tmp_path / "pid").read_text())
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with pytest.raises(ProcessLookupError):
            while True:  # until init has taken it
                signal.pidfd_send_signal(fd, 0)
    finally:
        os.close(fd)


def test_one_that_cannot_be_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(hooks.HookFailed, match="hook poststop #0: cannot run /no/such: No such file"):
        hooks.run([{"path": "/no/such"}], "poststop", {"bundle": str(tmp_path)})
