"""A systemd that is PID 1, on a host whose own PID 1 may be another: in namespaces of its own, with a bus.

It runs what a folder of ours says and nothing of this host's, and all that is started in there ends with it.
"""

import os
import re
import select
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from hypercontainer.testing.daemon import Result

SYSTEMD, BUS = Path("/lib/systemd/systemd"), Path("/usr/bin/dbus-daemon")
READY_S = 120.0
SHUTTING = ("shutdown.target", "umount.target", "final.target", "exit.target", "basic.target", "sysinit.target")
UNITS = {
    "lab.target": "[Unit]\nDefaultDependencies=no\nRequires=dbus.service\nAfter=dbus.service\n",
    "dbus.socket": "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=/run/dbus/system_bus_socket\n",
    "dbus.service": "[Unit]\nDefaultDependencies=no\nRequires=dbus.socket\n[Service]\n"
    f"ExecStart={BUS} --system --address=systemd: --nofork --nopidfile --systemd-activation --syslog-only\n",
    **dict.fromkeys(SHUTTING, "[Unit]\nDefaultDependencies=no\n"),
}
BOOT = """
set -e
for folder in $FOLDERS; do echo $$ >$folder/cgroup.procs; done
exec unshare --pid --fork --kill-child --mount --cgroup --ipc --propagation private sh -ec '
umount -R /sys/fs/cgroup
%s
mount -t tmpfs -o mode=755 none /run
mount -t proc proc /proc
exec %s --system --unit=lab.target --log-target=null --show-status=no'
"""
VERSION_2 = "mount -t cgroup2 none /sys/fs/cgroup"


class Hierarchy(NamedTuple):
    """Control groups of this host, and where they are; `options`: of version 1."""

    place: Path
    options: str


class Lab(NamedTuple):
    """`pid`: of systemd, as this host has it."""

    pid: int

    def argv(self, *words: str) -> list[str]:
        return ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--cgroup", "--ipc", "--wd=/", *words]

    def run(self, *words: str, stdin: bytes = b"") -> Result:
        done = subprocess.run(self.argv(*words), input=stdin, capture_output=True, timeout=READY_S)
        return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def ok(self, *words: str) -> str:
        done = self.run(*words)
        assert done.status == 0, (words, done)
        return done.out.strip()


def hierarchies() -> list[Hierarchy]:
    """That can be entered here."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            said = ",".join(word for word in options.split(",") if word not in ("rw", "ro", "xattr"))
            named = re.sub("^name=", "none,name=", said)
            found.append(Hierarchy(Path(before.split(" ")[4]), named if kind == "cgroup" else ""))
    return found


@contextmanager
def systemd(version: int) -> Iterator[Lab]:
    """One with control groups of that version. OSError: it does not come here."""
    name = f"lab-{os.getpid()}"
    all_ = hierarchies()
    if version not in [1 if each.options else 2 for each in all_]:
        raise OSError(f"this host has no control groups of version {version}")
    mounts = ["mount -t tmpfs none /sys/fs/cgroup"] if version == 1 else [VERSION_2]
    for each in all_ if version == 1 else []:
        if each.options:
            mounts += [f"mkdir {each.place}", f"mount -t cgroup -o {each.options} cgroup {each.place}"]
    folders = [each.place / name for each in all_]
    with tempfile.TemporaryDirectory(prefix="lab") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        for unit, text in UNITS.items():
            Path(folder, unit).write_text(text)
        told.bind(f"{folder}/notify")
        told.settimeout(READY_S)
        env = {
            "PATH": os.environ["PATH"],
            "FOLDERS": " ".join(map(str, folders)),
            "container": "lab",
            "NOTIFY_SOCKET": f"{folder}/notify",
            "SYSTEMD_UNIT_PATH": f"{folder}:/run/systemd/transient",  # the second of what is asked of it later
            "SYSTEMD_GENERATOR_PATH": "/nonexistent",
        }
        for top in folders:
            top.mkdir()
            for file in ("cpuset.cpus", "cpuset.mems"):  # version 1: nobody may enter one that has none
                if (top / file).exists():
                    (top / file).write_text((top.parent / file).read_text())
        holder = subprocess.Popen(["sh", "-c", BOOT % ("\n".join(mounts), SYSTEMD)], env=env, stdin=subprocess.DEVNULL)
        try:
            try:
                while b"READY=1" not in told.recv(4096).split(b"\n"):
                    pass
            except TimeoutError:
                raise OSError("systemd does not say that it is ready") from None
            yield Lab(_child(holder.pid))
        finally:
            _end(holder)
            for top in folders:
                for path, _, _ in os.walk(top, topdown=False):
                    os.rmdir(path)


def _child(pid: int) -> int:
    [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def _end(holder: subprocess.Popen[bytes]) -> None:
    """With its child, which takes all in its namespace along and is gone when they are."""
    with suppress(ValueError):  # it has none
        child = os.pidfd_open(_child(holder.pid))
        holder.kill()
        select.select([child], [], [], READY_S)
        os.close(child)
    holder.wait()
