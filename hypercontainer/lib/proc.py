"""The one door to commands, and to telling processes apart."""

import asyncio
import errno
import os
import signal
import socket
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from hypercontainer.errors import HyperError, TimedOut
from hypercontainer.lib.tasks import all_of

Argv = Sequence[str | os.PathLike[str]]
TAIL = 2000  # characters of stderr that an error carries
PIECE = 1 << 16
# What pidfd_open says of one that is gone: also where it goes at this very moment, and where its number is a thread's.
NO_PROCESS = (errno.ESRCH, errno.ENOENT, errno.EINVAL)
UCRED = struct.Struct("iII")  # unix(7), SO_PEERCRED


class CommandFailed(HyperError):
    """A command ended with a status other than 0. `status` is negative for a signal."""

    def __init__(self, argv: Argv, status: int, stderr: str) -> None:
        words = " ".join(os.fspath(word) for word in argv)
        super().__init__(f"{words[:300]}: exit status {status}: {stderr.strip()[-TAIL:] or 'it said nothing'}")
        self.argv, self.status, self.stderr = list(argv), status, stderr


class Peer(NamedTuple):
    pid: int  # 0: it is in a namespace that we do not see
    uid: int
    gid: int


class Result(NamedTuple):
    status: int
    stdout: bytes
    stderr: bytes


async def run(
    argv: Argv,
    *,
    timeout_s: float,
    stdin: bytes | None = None,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    log: int | None = None,
    most: int = 0,
) -> Result:
    """Run `argv` to its end, never through a shell, and return what it wrote; with `log`, a descriptor, it goes there.

    Raises CommandFailed for a status other than 0 (unless `check` is off), TimedOut after `timeout_s` seconds
    with the command killed, FileNotFoundError as CommandFailed 127. `most`, of a program whose output nobody knows:
    HyperError, and it is killed, when its stdout has more bytes; of stderr the end is returned.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE if log is None else log,
            stderr=asyncio.subprocess.PIPE if log is None else log,
            env=env,
            cwd=cwd,
            pass_fds=pass_fds,
            start_new_session=True,
        )
    except FileNotFoundError as e:
        raise CommandFailed(argv, 127, f"{argv[0]} is not installed") from e
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await (_bounded(process, argv, stdin, most) if most else process.communicate(stdin))
    except BaseException as e:
        if process.returncode is None:
            with suppress(ProcessLookupError):  # it has ended, which the loop is about to hear
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        if isinstance(e, TimeoutError):
            raise TimedOut(f"{argv[0]} did not end within {timeout_s:g} s") from e
        raise
    status = process.returncode
    assert status is not None  # noqa: S101  communicate() has returned
    if check and status:
        raise CommandFailed(argv, status, (err or b"").decode(errors="replace"))
    return Result(status, out or b"", err or b"")


async def _bounded(
    process: asyncio.subprocess.Process, argv: Argv, stdin: bytes | None, most: int
) -> tuple[bytes, bytes]:
    assert process.stdout and process.stderr  # noqa: S101  there is no log
    out, err, (stdout, stderr) = bytearray(), bytearray(), (process.stdout, process.stderr)

    async def feed() -> None:
        if process.stdin:
            with suppress(BrokenPipeError, ConnectionResetError):  # it need not read what it is told
                process.stdin.write(stdin or b"")
                await process.stdin.drain()
            process.stdin.close()
            with suppress(BrokenPipeError, ConnectionResetError):
                await process.stdin.wait_closed()

    async def take() -> None:
        while piece := await stdout.read(PIECE):
            if len(out) <= most:
                out.extend(piece)
            if len(out) > most:  # what is on its way is read, and nobody has it
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    async def listen() -> None:
        while piece := await stderr.read(PIECE):
            err.extend(piece)
            del err[:-TAIL]

    await all_of(feed(), take(), listen())
    await process.wait()
    if len(out) > most:
        raise HyperError(f"{argv[0]} wrote more than {most} bytes")
    return bytes(out), bytes(err)


def start_time(pid: int) -> int | None:
    """Start time of process `pid` in clock ticks since boot (proc(5), stat field 22); None if it is not there."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            fields = f.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def peer(sock: socket.socket) -> Peer:
    """Who connected to a unix socket, or listens there, as the kernel has it from that moment; it may have ended."""
    return Peer(*UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)))


def parent(pid: int) -> int:
    """0: it has none, or is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def children(pid: int) -> list[tuple[int, int]]:
    """Pids and start times of those that its first thread has; [] where the host's kernel does not tell."""
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # or it is gone
        return []
    found = [(int(word), start_time(int(word))) for word in words]
    return [(child, started) for child, started in found if started is not None]


def pidfd(pid: int, started: int) -> int | None:
    """A pidfd for the process that had `pid` at start time `started`; None if that one is gone. Close it."""
    try:
        fd = os.pidfd_open(pid)
    except OSError as e:
        if e.errno in NO_PROCESS:
            return None
        raise
    if start_time(pid) == started:
        return fd
    os.close(fd)
    return None


def kill(pid: int, started: int, sig: int = signal.SIGKILL) -> bool:
    """Signal that very process, never a later one with its pid. False if it is gone."""
    fd = pidfd(pid, started)
    if fd is None:
        return False
    try:
        signal.pidfd_send_signal(fd, sig)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)


def told(name: str, value: str) -> list[tuple[int, int]]:
    """Pids and start times of processes that were started with `name=value` in their environment."""
    wanted, found = f"{name}={value}".encode(), []
    for word in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{word}/environ", "rb") as f:  # it has ended, or is another user's
            if wanted in f.read().split(b"\0") and (started := start_time(int(word))) is not None:
                found.append((int(word), started))
    return found


def nice(pid: int, level: int) -> None:
    """Have process `pid`, with all its threads, give way to others (nice(1): 0 does not, 19 most). One that is gone is
    fine. A kernel that shares time by sessions is told of its session (sched(7), "The autogroup feature")."""
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.setpriority(os.PRIO_PROCESS, int(thread), level)
        if os.path.exists(path := f"/proc/{pid}/autogroup"):
            with open(path, "w") as f:
                f.write(str(level))
    except (FileNotFoundError, ProcessLookupError):
        pass


def waited_s(pid: int) -> dict[int, float]:
    """How long each thread of process `pid` was ready to run and had no processor, since its start. Empty if that is
    gone, or if the kernel does not count it."""
    found = dict[int, float]()
    with suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/task/{thread}/schedstat") as f:
                found[int(thread)] = int(f.read().split()[1]) / 1e9
    return found


def largest_file(pid: int) -> int | None:
    """How many bytes process `pid` may write into one file (its RLIMIT_FSIZE); None if any, or if it is gone."""
    try:
        with open(f"/proc/{pid}/limits") as f:
            word = next(line for line in f if line.startswith("Max file size")).split()[3]
    except (FileNotFoundError, ProcessLookupError, StopIteration):
        return None
    return int(word) if word.isdigit() else None


async def gone(pid: int, started: int) -> None:
    """Wait until that very process has ended; it need not be our child."""
    fd = pidfd(pid, started)
    if fd is None:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(fd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)


def boot_id() -> str:
    """The kernel's id of this boot: records made under another one speak of processes that are gone."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
