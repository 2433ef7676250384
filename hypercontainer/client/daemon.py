"""Starts a hyperd when none listens. Of several who find none at once one starts it, and the others wait for that."""

from __future__ import annotations

import fcntl
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

READY_S = 30.0  # it may have VMs to attach to again before it answers
PAUSE_S = 0.02
TAIL_LINES = 5


def command(program: str) -> list[str]:
    """The hyperd beside the program that was called, or the module for this Python."""
    beside = os.path.join(os.path.dirname(program), "hyperd")
    if os.path.isabs(program) and os.access(beside, os.X_OK):
        return [beside]
    return [sys.executable or "/usr/bin/python3", "-m", "hypercontainer.hyperd.main"]


class Daemon:
    """One that may have to be started by `words`, to answer at `place`, which `answers` tries; its log is at `log`."""

    def __init__(
        self,
        place: str,
        log: str,
        words: list[str],
        answers: Callable[[], bool],
        environment: Mapping[str, str],
    ) -> None:
        self.place, self.log, self.words, self.answers, self.environment = place, log, words, answers, environment

    def start(self, begun: Callable[[int], None]) -> None:
        """Start it, in a session of its own, and wait until it answers. `begun` is told its pid, by who starts it.

        Unavailable, with the last words of its log."""
        try:
            os.makedirs(os.path.dirname(self.log), mode=0o711, exist_ok=True)
            fd = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            lock = os.open(self.log, os.O_RDONLY | os.O_CLOEXEC)  # of our own: hyperd inherits the other one
        except OSError as e:
            raise _unavailable(f"{self._none}, and none can be started: {self.log}: {e.strerror}") from e
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.answers():
                end = os.fstat(fd).st_size
                pid = self._spawn(fd)
                begun(pid)
                self._wait(pid, end)
        finally:
            os.close(lock)
            os.close(fd)

    def expect(self) -> None:
        """Wait until one answers that somebody else starts. Unavailable when it does not come."""
        self._wait(None, 0)

    @property
    def _none(self) -> str:
        return f"no hyperd at {self.place}"

    def _spawn(self, log: int) -> int:
        """A child that outlives us: a session of its own, of our files and our signals none."""
        files: list[tuple[int | str, ...]] = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, log, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
        ]
        files += [(os.POSIX_SPAWN_CLOSE, fd) for fd in sorted(map(int, os.listdir("/proc/self/fd"))) if fd > 2]
        try:
            return os.posix_spawnp(
                self.words[0], self.words, self.environment, file_actions=files, setsid=True, setsigmask=()
            )
        except OSError as e:
            raise _unavailable(f"{self._none}, and {self.words[0]} cannot be started: {e.strerror}") from e

    def _wait(self, pid: int | None, begin: int) -> None:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            if self.answers():
                return
            ended, status = os.waitpid(pid, os.WNOHANG) if pid else (0, 0)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                said = self._tail(begin) or "it said nothing"
                raise _unavailable(f"hyperd ended with status {code}: {said} ({self.log})")
            time.sleep(PAUSE_S)
        if not pid:
            raise _unavailable(f"{self._none} within {READY_S:g} s: whoever keeps its socket has not started one")
        said = self._tail(begin) or "it said nothing"
        raise _unavailable(f"hyperd (pid {pid}) did not answer within {READY_S:g} s: {said} ({self.log})")

    def _tail(self, begin: int) -> str:
        """The last lines that this hyperd wrote."""
        try:
            with open(self.log, "rb") as f:
                size = f.seek(0, os.SEEK_END)
                f.seek(max(begin, size - 4096))
                return " | ".join(f.read().decode(errors="replace").split("\n")[-TAIL_LINES - 1 :]).strip(" |")
        except OSError:
            return ""


def _unavailable(why: str) -> Exception:
    from hypercontainer.errors import Unavailable

    return Unavailable(why)
