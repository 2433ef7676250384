"""Hooks that run where their caller is, with the container's state on their stdin."""

from __future__ import annotations

import json
from typing import Any


class HookFailed(Exception):
    """A hook ended badly, or not in time."""


def run(hooks: list[dict[str, Any]] | None, kind: str, state: dict[str, Any]) -> None:
    """One after the other. HookFailed: those after it were not run."""
    for n, hook in enumerate(hooks or []):
        import subprocess

        try:
            done = subprocess.run(
                hook.get("args") or [hook["path"]],
                executable=hook["path"],
                env=dict(entry.partition("=")[::2] for entry in hook.get("env") or []),
                input=json.dumps(state).encode(),
                capture_output=True,
                cwd=state["bundle"],
                timeout=hook.get("timeout"),
            )
        except subprocess.TimeoutExpired as e:
            raise HookFailed(f"hook {kind} #{n}: it did not end within {hook['timeout']} s") from e
        except OSError as e:
            raise HookFailed(f"hook {kind} #{n}: cannot run {hook['path']}: {e.strerror}") from e
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()[-500:]
            raise HookFailed(f"hook {kind} #{n}: {hook['path']} ended with status {done.returncode}: {said}")
