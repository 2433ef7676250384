"""Hooks that run where their caller is, with the container's state on their stdin."""

from __future__ import annotations

import json
import os
import signal
from typing import Any, BinaryIO

LAST_BYTES = 500  # of what a hook that fails has said


class HookFailed(Exception):
    """A hook ended badly, or not in time."""


def run(hooks: list[dict[str, Any]] | None, kind: str, state: dict[str, Any]) -> None:
    """One after the other. HookFailed: those after it were not run."""
    for n, hook in enumerate(hooks or []):
        try:
            status, said = _status(hook, state)
        except TimeoutError as e:
            raise HookFailed(f"hook {kind} #{n}: it did not end within {hook['timeout']} s") from e
        except OSError as e:
            raise HookFailed(f"hook {kind} #{n}: cannot run {hook['path']}: {e.strerror}") from e
        if status:
            raise HookFailed(f"hook {kind} #{n}: {hook['path']} ended with status {status}: {said}")


def _status(hook: dict[str, Any], state: dict[str, Any]) -> tuple[int, str]:
    """That of its own process, and its last words: what a hook leaves behind holds nobody up, for these are files.

    TimeoutError: it was ended, and all that it had started in its process group."""
    import subprocess

    with _memory() as given, _memory() as out:
        given.write(json.dumps(state).encode())
        given.seek(0)
        process = subprocess.Popen(
            hook.get("args") or [hook["path"]],
            executable=hook["path"],
            env=dict(entry.partition("=")[::2] for entry in hook.get("env") or []),
            stdin=given,
            stdout=out,
            stderr=out,
            cwd=state["bundle"],
            process_group=0,
        )
        try:
            status = process.wait(hook.get("timeout"))
        except BaseException as e:
            os.killpg(process.pid, signal.SIGKILL)  # whose leader is not waited for yet: it is still this group
            process.wait()
            if isinstance(e, subprocess.TimeoutExpired):
                raise TimeoutError from e
            raise
        out.seek(max(0, out.seek(0, os.SEEK_END) - LAST_BYTES))
        return status, out.read().decode(errors="replace").strip()


def _memory() -> BinaryIO:
    return os.fdopen(os.memfd_create("hook"), "w+b")
