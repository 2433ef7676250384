"""Hooks that run where their caller is, with the container's state on their stdin."""

from __future__ import annotations

import os
import select

from hypercontainer.lib import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Any
else:
    import _signal  # docker has a hook for each container: it waits for what is imported

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
    given, out = os.memfd_create("hook"), os.memfd_create("hook")
    try:
        os.write(given, fastjson.dumps(state).encode())
        os.lseek(given, 0, os.SEEK_SET)
        pid = _begun(hook, state["bundle"], given, out)
        try:
            _end(pid, hook.get("timeout"))
        except BaseException:
            os.killpg(pid, _signal.SIGKILL)  # whose leader is not waited for yet: it is still this group
            os.waitpid(pid, 0)
            raise
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.lseek(out, max(0, os.lseek(out, 0, os.SEEK_END) - LAST_BYTES), os.SEEK_SET)
        return status, os.read(out, LAST_BYTES).decode(errors="replace").strip()
    finally:
        os.close(given)
        os.close(out)


def _begun(hook: dict[str, Any], folder: str, given: int, out: int) -> int:
    """A process group of its own in `folder`, without what we were given of files and signals."""
    files: list[tuple[int, ...]] = [(os.POSIX_SPAWN_DUP2, fd, n) for n, fd in enumerate((given, out, out))]
    files += [(os.POSIX_SPAWN_CLOSE, fd) for fd in _inherited()]
    here = os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        os.chdir(folder)
        return os.posix_spawn(
            hook["path"],
            hook.get("args") or [hook["path"]],
            dict(entry.partition("=")[::2] for entry in hook["env"]) if hook.get("env") else os.environ,
            file_actions=files,
            setpgroup=0,
            setsigdef=[_signal.SIGPIPE, _signal.SIGXFSZ],  # which Python ignores
        )
    finally:
        os.fchdir(here)
        os.close(here)


def _inherited() -> list[int]:
    """Descriptors behind stdio that a program which is run would have."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and os.get_inheritable(int(name)):
                found.append(int(name))
        except OSError:
            pass  # that of the list
    return found


def _end(pid: int, timeout_s: float | None) -> None:
    """Wait for it, without taking its status. TimeoutError."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(None if timeout_s is None else timeout_s * 1000):
            raise TimeoutError
    finally:
        os.close(pidfd)
