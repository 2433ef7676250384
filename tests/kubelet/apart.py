"""Namespaces of their own for a kubelet and its hyperd: it has paths, ports and sysctls that every kubelet has."""

import ctypes
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

CLONE_NEWNET = 0x40000000
KUBELET, LOGS = Path("/var/lib/kubelet"), Path("/var/log/pods")
PLACES = (KUBELET, LOGS, Path("/var/log/containers"))
ADDRESS = "192.0.2.1"  # the node's in there: a kubelet takes none of the loopback for it
# A kubelet sets these for the whole host, where they are others: it finds them as it wants them.
WANTED = {
    "vm/overcommit_memory": "1",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
MAKE = f"""
mount --make-rshared /
ip link set lo up
ip link add node0 type bridge
ip address add {ADDRESS}/24 dev node0
ip link set node0 up
sysctl -qw net.ipv4.ip_forward=1
while read -r from to; do mount --bind "$from" "$to"; done
echo ready
exec sleep infinity
"""


class Apart(NamedTuple):
    """`pid`: of who holds the namespaces. `folder` has what stands there for each of the places."""

    pid: int
    folder: Path

    def argv(self, *words: object) -> list[str]:
        """A command in there."""
        return ["nsenter", f"--target={self.pid}", "--net", "--mount", f"--wd={os.getcwd()}", *map(str, words)]

    def place(self, path: Path) -> Path:
        """Where this host has what is at `path` in there."""
        return self.folder / path.name

    def mounts(self) -> set[str]:
        return {line.split()[4] for line in Path(f"/proc/{self.pid}/mountinfo").read_text().splitlines()}


@contextmanager
def apart() -> Iterator[Apart]:
    """A network and mounts of their own, where the kubelet's places are empty. This thread has that network, too."""
    libc = ctypes.CDLL(None, use_errno=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kubelet-")))
        binds = []
        for place in PLACES:
            if not place.exists():
                place.mkdir(parents=True)
                stack.callback(place.rmdir)
            (folder / place.name).mkdir()
            binds.append(f"{folder / place.name} {place}\n")
        for key, value in WANTED.items():
            (stands := folder / key.replace("/", ".")).write_text(value)
            binds.append(f"{stands} /proc/sys/{key}\n")
        argv = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-ec", MAKE]
        holder = stack.enter_context(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        stack.callback(holder.kill)
        assert holder.stdin and holder.stdout
        holder.stdin.write("".join(binds).encode())
        holder.stdin.close()
        if holder.stdout.readline() != b"ready\n":
            raise OSError("cannot make namespaces of a kubelet's own: what failed is said above")
        with open("/proc/thread-self/ns/net") as before, open(f"/proc/{holder.pid}/ns/net") as there:
            if libc.setns(there.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            try:
                yield Apart(holder.pid, folder)
            finally:
                assert libc.setns(before.fileno(), CLONE_NEWNET) == 0


@contextmanager
def control_group(name: str) -> Iterator[None]:
    """One of that name in each hierarchy, gone after it with what was made in it."""
    tops = [top / name for top in sorted(Path("/sys/fs/cgroup").glob("*/")) if not top.is_symlink()]
    for top in tops:
        top.mkdir()
        for file in ("cpuset.cpus", "cpuset.mems"):  # version 1: nobody may enter one that has none
            if (top / file).exists():
                (top / file).write_text((top.parent / file).read_text())
    try:
        yield
    finally:
        for top in tops:
            for path, _, _ in os.walk(top, topdown=False):
                os.rmdir(path)
