"""An OCI runtime, known by its command line alone, and what it made."""

import array
import fcntl
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from hypercontainer.testing.busybox import find_busybox
from tests.oci import left, reaper
from tests.oci.bundle import Bundle

LIMIT_S = reaper.LIMIT_S
# crun refuses a hybrid host for its second hierarchy.
PRIVATE = """
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified || exit; fi
echo ready
exec cat
"""
numbers = itertools.count(1)


class Done(NamedTuple):
    """What became of a command, or of a process of a container."""

    status: int
    out: str
    err: str


@contextmanager
def private_mounts() -> Iterator[int]:
    """The pid of a process with mounts and a hostname of its own: in its namespaces the runtimes run."""
    argv: list[str | Path] = ["unshare", "--mount", "--propagation", "private", "--uts", "sh", "-c", PRIVATE]
    with reaper.begin(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin and holder.stdout
        assert holder.stdout.readline() == b"ready\n"
        yield holder.pid
        holder.stdin.close()


@contextmanager
def third(data: bytes) -> Iterator[int]:
    """Descriptor 3, which has `data` to read and then ends. What it was before it is again."""
    saved = fcntl.fcntl(3, fcntl.F_DUPFD_CLOEXEC, 10) if Path("/proc/self/fd/3").exists() else None
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    if read != 3:
        os.dup2(read, 3)
        os.close(read)
    try:
        yield 3
    finally:
        os.close(3)
        if saved is not None:
            os.dup2(saved, 3, inheritable=False)
            os.close(saved)


class Output:
    """The reading end of a pipe, or the master of a terminal. Each wait is bounded."""

    def __init__(self, fd: int) -> None:
        self.fd, self._read = fd, bytearray()

    def more(self) -> bool:
        """Wait for bytes; False at the end."""
        assert reaper.ready(self.fd), f"nothing came after {bytes(self._read[-200:])!r}"
        try:
            data = os.read(self.fd, 1 << 16)
        except OSError:  # a terminal that nobody has open
            data = b""
        self._read += data
        return bool(data)

    def until(self, end: str) -> str:
        """All up to `end`, which is taken too; to the end of everything when that comes first."""
        while end.encode() not in self._read and self.more():
            pass
        found = self._read.find(end.encode())
        size = len(self._read) if found < 0 else found + len(end.encode())
        taken = bytes(self._read[:size])
        del self._read[:size]
        return taken.decode()

    def line(self) -> str:
        return self.until("\n")

    def rest(self) -> str:
        while self.more():
            pass
        taken = self._read.decode()
        self._read.clear()
        return taken


class Console:
    """A socket that gets the master of a terminal."""

    def __init__(self, path: Path) -> None:
        self.path, self.socket = path, socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen()
        self.socket.settimeout(LIMIT_S)
        self.fds: list[int] = []

    def master(self) -> int:
        """The descriptor that comes next."""
        connection, _ = self.socket.accept()
        with connection:
            connection.settimeout(LIMIT_S)
            _, messages, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4 * 4))
        fds = array.array("i", b"".join(data for _, _, data in messages))
        self.fds += fds
        [fd] = fds
        return fd

    def hang_up(self) -> None:
        """Let go of the masters: nobody has them any more."""
        while self.fds:
            os.close(self.fds.pop())

    def close(self) -> None:
        self.socket.close()
        for fd in self.fds:
            with suppress(OSError):
                os.close(fd)


class Container:
    """A container that `create` made. Its first process reads `stdin` and writes `out`; stderr goes to a file."""

    def __init__(self, runtime: "Runtime", id: str, pid: int, stdin: int, out: Output, errors: Path) -> None:
        self.runtime, self.id, self.pid, self.stdin, self.out, self.errors = runtime, id, pid, stdin, out, errors

    def call(self, verb: str, *words: str | Path) -> Done:
        """Options before the id: `call("kill", "--all")`. What comes after it is `exec`'s and `kill`'s matter."""
        return self.runtime.call(verb, *words, self.id)

    def start(self) -> "Container":
        self.runtime.ok("start", self.id)
        return self

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.runtime.ok("state", self.id).out)
        return state

    def kill(self, signal: str = "KILL") -> None:
        self.runtime.ok("kill", self.id, signal)

    def exec(self, *words: str, options: Sequence[str | Path] = (), stdin: bytes = b"") -> Done:
        return self.runtime.call("exec", *options, self.id, *words, stdin=stdin)

    def close(self) -> None:
        """Have its stdin end."""
        if self.stdin >= 0:
            os.close(self.stdin)
        self.stdin = -1

    def wait(self) -> int:
        """The status of its first process, as a shell says it. The process is a child of who called the runtime."""
        return reaper.wait(self.pid)

    def end(self) -> int:
        """Kill it, whatever it does, and wait for that."""
        self.kill("KILL")
        return self.wait()


class Runtime:
    """A runtime with a root of its own. `end` takes away what it made, and finds what it left."""

    def __init__(self, program: Path, holder: int) -> None:
        self.program, self.holder = program, holder
        self.folder = Path(tempfile.mkdtemp(prefix="oci-"))
        self.folder.chmod(0o711)
        self.root = self.folder / "root"
        self.name = f"oci-{os.getpid()}-{next(numbers)}"  # in the names of all cgroups
        self.busybox = Path(shutil.copy(find_busybox(), self.folder))
        self.ids: list[str] = []
        self.containers: list[Container] = []
        self.consoles: list[Console] = []
        self.background: list[subprocess.Popen[bytes]] = []
        self.processes, self.mounts = left.below(os.getpid()), left.mounts(holder)

    # what tests make

    def bundle(self, *args: str) -> Bundle:
        """A bundle that runs `args`; without any, one that runs until its stdin ends."""
        n = next(numbers)
        return Bundle(self.folder / f"b{n}", self.busybox, args or ("cat",), f"/{self.name}-{n}")

    def id(self) -> str:
        """An id that no container had. What has it is deleted in the end."""
        self.ids.append(f"c{next(numbers)}-{self.name}")
        return self.ids[-1]

    def console(self) -> Console:
        self.consoles.append(Console(self.folder / f"tty{next(numbers)}"))
        return self.consoles[-1]

    def path(self, name: str = "file") -> Path:
        """A path of the host, for whatever."""
        return self.folder / f"{name}{next(numbers)}"

    # how it is called

    def argv(self, *words: str | Path, cwd: Path | None = None) -> list[str | Path]:
        return [*self.inside(cwd), self.program, "--root", self.root, *words]

    def inside(self, cwd: Path | None = None) -> list[str | Path]:
        """What has a command run where the runtime runs."""
        namespaces = [f"--mount=/proc/{self.holder}/ns/mnt", f"--uts=/proc/{self.holder}/ns/uts"]
        return ["nsenter", *namespaces, "sh", "-c", 'cd "$0" && exec "$@"', cwd or self.folder]

    def call(self, *words: str | Path, stdin: bytes = b"", cwd: Path | None = None, fds: Sequence[int] = ()) -> Done:
        """Run a verb to its end. Its streams are files: who inherits them holds nobody up."""
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(stdin)
            given.seek(0)
            argv = self.argv(*words, cwd=cwd)
            status = reaper.finish(reaper.begin(argv, stdin=given, stdout=out, stderr=err, pass_fds=fds))
            out.seek(0)
            err.seek(0)
            return Done(status, out.read().decode(errors="replace"), err.read().decode(errors="replace"))

    def ok(self, *words: str | Path, stdin: bytes = b"") -> Done:
        done = self.call(*words, stdin=stdin)
        assert done.status == 0, (words, done)
        return done

    def no(self, *words: str | Path, stdin: bytes = b"") -> str:
        """Call what is refused: with status 1, and why."""
        done = self.call(*words, stdin=stdin)
        assert done.status == 1, (words, done)
        assert done.err.strip(), (words, done)
        return done.err

    def spawn(self, *words: str | Path, **how: Any) -> subprocess.Popen[bytes]:
        """Begin a verb, with pipes unless `how` says another."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self.background.append(reaper.begin(self.argv(*words), **{**pipes, **how}))
        return self.background[-1]

    def host(self, *argv: str | Path) -> str:
        """Run a command of the host where the runtime runs."""
        with tempfile.TemporaryFile() as out:
            whole = [*self.inside(), *argv]
            status = reaper.finish(reaper.begin(whole, stdin=subprocess.DEVNULL, stdout=out, stderr=out))
            out.seek(0)
            said = out.read().decode()
        assert status == 0, (argv, said)
        return said

    # the verbs that make containers

    def run(self, bundle: Bundle, *options: str | Path, stdin: bytes = b"") -> Done:
        """Run a bundle to its end: the status and output of its process."""
        bundle.save()
        return self.call("run", *options, "--bundle", bundle.folder, self.id(), stdin=stdin)

    def create(self, bundle: Bundle, *options: str | Path, id: str | None = None, fds: Sequence[int] = ()) -> Container:
        bundle.save()
        id = id or self.id()
        pid_file, errors = self.path("pid"), self.path("err")
        stdin, ours = os.pipe()
        out, theirs = os.pipe()
        words = ["create", "--bundle", bundle.folder, "--pid-file", pid_file, *options, id]
        with open(errors, "wb") as err:
            argv = self.argv(*words)
            status = reaper.finish(reaper.begin(argv, stdin=stdin, stdout=theirs, stderr=err, pass_fds=fds))
        os.close(stdin)
        os.close(theirs)
        self.containers.append(Container(self, id, -1, ours, Output(out), errors))
        assert status == 0, errors.read_text()
        self.containers[-1].pid = int(pid_file.read_text())
        return self.containers[-1]

    def start(self, bundle: Bundle | None = None, *options: str | Path) -> Container:
        """A container that runs."""
        return self.create(bundle or self.bundle(), *options).start()

    def refuses(self, bundle: Bundle, *options: str | Path, status: int | None = 1) -> str:
        """Why a bundle is refused, of which no container may be left. `status` None: whatever it is."""
        bundle.save()
        id = self.id()
        done = self.call("create", "--bundle", bundle.folder, *options, id)
        assert done.status == status or (status is None and done.status != 0), done
        assert done.err.strip(), done
        self.no("state", id)
        return done.err

    # the end

    def end(self) -> None:
        """Delete all containers; AssertionError when something of them is left."""
        for id in self.ids:
            self.call("delete", "--force", id)
        self.close()
        left_over: dict[str, list[Any]] = {
            "processes": left.processes(self.processes),
            "mounts": [path for number, path in left.mounts(self.holder).items() if number not in self.mounts],
            "cgroups": left.cgroups(self.name),
            "states": list(self.root.glob("*")),
        }
        left.kill(self.processes)
        for mount in reversed(left_over["mounts"]):
            self.host("umount", "--lazy", mount)
        for cgroup in reversed(left_over["cgroups"]):
            cgroup.rmdir()
        shutil.rmtree(self.folder, ignore_errors=True)
        assert not any(left_over.values()), left_over

    def close(self) -> None:
        """End what tests began and hold open."""
        for container in self.containers:
            container.close()
            if container.out.fd >= 0:
                os.close(container.out.fd)
            container.out.fd = -1
        for console in self.consoles:
            console.close()
        for process in self.background:
            process.kill()
            reaper.finish(process)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    with suppress(OSError):
                        stream.close()
        self.containers, self.consoles, self.background = [], [], []


def number(name: str) -> int:
    """Of a signal: number("TERM")."""
    return int(signal.Signals[f"SIG{name}"])
