"""OCI runtimes on the same files: runv, runc, crun, gVisor. What an engine does with each, verb by verb."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.engines import need, new_name
from bench.measure import CommandFailed, Series, ended, wall_ms
from bench.peers import bundle
from hypercontainer.errors import Unavailable
from hypercontainer.testing.daemon import PrivateDaemon

LIMIT_S = 60.0
STAYS = "stays"
PIPES: Mapping[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}


class Runtime:
    """One runtime with a container that stays, for `state` and `exec`; others come and go, in a network namespace with
    an interface, as engines make them. `ready` is called before each of these, and not counted."""

    def __init__(self, name: str, argv: Sequence[str], folder: Path, ready: Callable[[], None] = lambda: None) -> None:
        self.argv, self.folder, self.ready = list(argv), folder, ready
        self.state_series = Series(f"{name} state")
        self.exec_series = Series(f"{name} exec true")
        self.create_series = Series(f"{name} create")
        self.start_series = Series(f"{name} create and start, echo: first output")
        self.delete_series = Series(f"{name} delete")
        self.long = bundle(folder / "long", ["sleep", "86400"])
        self.short = bundle(folder / "short", ["echo", "hello"])

    @staticmethod
    def join(place: str, bundle: Path) -> None:
        """Have a bundle's containers in the network namespace at `place`."""
        path = bundle / "config.json"
        config = json.loads(path.read_text())
        others = [one for one in config["linux"]["namespaces"] if one["type"] != "network"]
        config["linux"]["namespaces"] = [*others, {"type": "network", "path": place}]
        path.write_text(json.dumps(config))

    def state(self) -> None:
        self.state_series.samples.append(wall_ms([*self.argv, "state", STAYS]))

    def exec(self) -> None:
        self.exec_series.samples.append(wall_ms([*self.argv, "exec", STAYS, "true"]))

    def start(self) -> None:
        """The whole life of a container that says a word."""
        with netns() as place:
            self.join(place, self.short)
            self.ready()
            self._life()

    def _life(self) -> None:
        id = new_name()
        ours, theirs = os.pipe()
        with open(ours, "rb", buffering=0) as output:
            begin = time.perf_counter()
            try:
                self.run("create", "--bundle", str(self.short), id, stdout=theirs)
            finally:
                os.close(theirs)
            created = time.perf_counter()
            self.run("start", id)
            if not output.read(1):
                raise CommandFailed(f"{self.argv[0]}: {id} has said nothing")
            first = time.perf_counter()
            output.read()
        self.create_series.samples.append((created - begin) * 1e3)
        self.start_series.samples.append((first - begin) * 1e3)
        self.delete_series.samples.append(wall_ms([*self.argv, "delete", "--force", id]))

    def run(self, *words: str, stdout: int = subprocess.DEVNULL) -> None:
        """stderr is a file: a container has it, too, and may outlive the command."""
        with open(self.folder / "log", "w+b") as log:
            argv = [*self.argv, *words]
            with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=log) as process:
                status = ended(process, LIMIT_S)
            if status:
                log.seek(0)
                said = log.read().decode(errors="replace")[-500:]
                raise CommandFailed(f"{' '.join(argv)}: status {status}: {said}")

    @property
    def series(self) -> list[Series]:
        return [self.state_series, self.exec_series, self.create_series, self.start_series, self.delete_series]


@contextmanager
def runtime(
    name: str, argv: Sequence[str], folder: Path, ready: Callable[[], None] = lambda: None
) -> Iterator[Runtime]:
    """One with its container. Unavailable where it is not installed, or runs nothing here."""
    need("runc")
    made = Runtime(name, argv, folder, ready)
    try:
        made.run("--version")
        made.run("create", "--bundle", str(made.long), STAYS)
        made.run("start", STAYS)
        yield made
    except (CommandFailed, FileNotFoundError) as e:
        raise Unavailable(str(e)) from e
    finally:
        with suppress(FileNotFoundError):
            subprocess.run([*made.argv, "delete", "--force", STAYS], capture_output=True, timeout=LIMIT_S)


@contextmanager
def netns(subnet: int = 0) -> Iterator[str]:
    """The path of a network namespace with one interface, whose other end is here: by a process, for where `ip netns`
    mounts it not everybody looks."""
    name = new_name()
    inside = ["ip", "-n", name]
    try:
        for argv in (
            ["ip", "netns", "add", name],
            ["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name],
            [*inside, "addr", "add", f"198.18.{subnet}.2/30", "dev", "eth0"],
            [*inside, "link", "set", "eth0", "up"],
            [*inside, "route", "add", "default", "via", f"198.18.{subnet}.1"],
            ["ip", "addr", "add", f"198.18.{subnet}.1/30", "dev", name],
            ["ip", "link", "set", name, "up"],
        ):
            subprocess.run(argv, check=True, capture_output=True, timeout=LIMIT_S)
        with subprocess.Popen(["ip", "netns", "exec", name, "sh", "-c", "echo; exec cat"], **PIPES) as holder:
            assert holder.stdin and holder.stdout
            holder.stdout.readline()
            yield f"/proc/{holder.pid}/ns/net"
            holder.stdin.close()
    finally:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, timeout=LIMIT_S)


def runv(daemon: PrivateDaemon, root: Path) -> list[str]:
    """The words before a verb."""
    return [str(daemon.bin / "runv"), "--host", f"unix://{daemon.folder}/hyper-oci.sock", "--root", str(root)]


@contextmanager
def peers(folder: Path) -> Iterator[list[tuple[str, list[str]]]]:
    """Names of those that Debian has, and their words before a verb."""
    gvisor = ["--platform=ptrace", "--network=none", "--ignore-cgroups"]
    with _one_hierarchy() as inside:
        yield [
            ("runc", ["runc", "--root", f"{folder}/runc-state"]),
            ("crun", [*inside, "crun", "--root", f"{folder}/crun-state"]),
            ("gVisor: runsc", ["runsc", "--root", f"{folder}/runsc-state", *gvisor]),
        ]


@contextmanager
def _one_hierarchy() -> Iterator[list[str]]:
    """The words that run a command where the second hierarchy of a hybrid host is not mounted: crun refuses one."""
    hide = "if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi; echo; exec cat"
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", hide]
    with subprocess.Popen(argv, **PIPES) as holder:
        assert holder.stdin and holder.stdout
        holder.stdout.readline()
        yield ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt"]
        holder.stdin.close()
