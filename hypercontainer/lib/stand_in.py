"""Starts what stands on this host for a process in a machine: host/standin.c."""

from __future__ import annotations

import _socket
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Sequence
else:
    import _signal  # nothing is imported that every `runv create` and `exec` would wait for

FREE = 1000  # descriptors from here on are in use nowhere
SHOWN = 4096  # bytes of a command line
PROGRAM = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "_bin", "hyper-standin")


class StandIn:
    """`ours`: it waits for a byte there, and ends when that is closed before."""

    def __init__(self, pid: int, start_time: int, key: str, ours: _socket.socket) -> None:
        self.pid, self.start_time, self.key, self.ours = pid, start_time, key, ours
        self.master = -1  # of a terminal that whoever started it passes on to

    def go(self, trees: Sequence[int] = (), places: Sequence[str] = ()) -> None:
        """hyperd knows its key. `trees`: what it sees of files, a root file system and one for each of `places`.

        OSError when it cannot enter them."""
        line = b"\n" + b"".join(os.fsencode(place) + b"\0" for place in places)
        rights = b"".join(fd.to_bytes(4, sys.byteorder) for fd in trees)
        try:
            self.ours.sendmsg([line], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if trees else [])
            entered = self.ours.recv(1)
        except ConnectionError as e:
            raise OSError("the stand-in was killed") from e
        if entered != b"\n":
            raise OSError("the stand-in cannot enter the root file system")
        self.ours.close()

    def give_up(self) -> None:
        """There is nothing that it could stand for: it ends."""
        self.ours.close()
        os.kill(self.pid, _signal.SIGKILL)  # which nobody else waits for, so that it is still this process
        os.waitpid(self.pid, 0)


def start(
    door: str,
    stdio: Sequence[int] = (0, 1, 2),
    *,
    args: Sequence[str] = (),
    terminal: bool = False,
    network: str = "",
    new_network: bool = False,
    hold: int = -1,
) -> StandIn:
    """`args`: of the process that it stands for, which are shown as its own. `terminal`: its stdio is one. `hold`: the
    other end of its stdin, a fifo, which it keeps open. It enters the network namespace at `network`, or makes one of
    its own.

    OSError when it cannot be started, or cannot enter `network`."""
    key = os.urandom(16).hex()
    own = {"SOCKET": door, "KEY": key}
    ours, theirs = _socket.socketpair()
    actions: list[tuple[int, ...]] = []
    fd = -1
    try:
        if terminal:
            own["TERMINAL"] = "1"
        # each goes far up first: its place may be that of another one
        actions += [(os.POSIX_SPAWN_DUP2, given, FREE + n) for n, given in enumerate(stdio)]
        if network:
            fd = os.open(network, os.O_RDONLY | os.O_CLOEXEC)
        actions.append((os.POSIX_SPAWN_DUP2, theirs.fileno(), FREE + 3))
        count = 4
        for name, more in (("NET", fd), ("HOLD", hold)):
            if more >= 0:
                actions.append((os.POSIX_SPAWN_DUP2, more, FREE + count))
                own[name] = str(count)
                count += 1
        if new_network:
            own["NEW_NET"] = "1"
        for n in range(count):
            actions += [(os.POSIX_SPAWN_DUP2, FREE + n, n), (os.POSIX_SPAWN_CLOSE, FREE + n)]
        pid = os.posix_spawn(PROGRAM, _shown(args), own, file_actions=actions)
    finally:
        theirs.close()
        if fd >= 0:
            os.close(fd)
    if ours.recv(1) != b"\n":
        _, status = os.waitpid(pid, 0)
        raise OSError(f"the stand-in ended with status {os.waitstatus_to_exitcode(status)}")
    return StandIn(pid, _start_time(pid), key, ours)


def _shown(args: Sequence[str]) -> list[bytes]:
    """As much of a command line as anyone reads in a list of processes; whatever is in it, none is refused here."""
    line = "\0".join(args).encode(errors="replace")
    return line[:SHOWN].split(b"\0") if line else [os.fsencode(PROGRAM)]


def _start_time(pid: int) -> int:
    """Clock ticks since boot: proc(5), field 22 of stat."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19])
