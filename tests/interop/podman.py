"""Debian's podman with everything of it in a folder of its own, in a mount and a network namespace that end with it."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from hypercontainer.testing.daemon import Result

PODMAN = Path("/usr/bin/podman")
LIMIT_S = 600.0  # of one command: room costs nothing, and the machine may be busy
# Held by a shell that does nothing until its stdin ends: bridges, rules and mounts are in its namespaces.
HOLD = ["unshare", "--mount", "--propagation", "private", "--net", "sh", "-c", "ip link set lo up; echo; exec cat"]
# runc cannot raise limits on a host without CAP_SYS_RESOURCE, and podman's own are high.
CONFIG = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
cgroup_manager = "{manager}"
events_logger = "file"
[network]
network_backend = "cni"
network_config_dir = "{folder}/cni"
cni_plugin_dirs = ["/usr/lib/cni"]
[engine.runtimes]
{runtimes}
"""


class Podman:
    """podman below `folder`, for containers of `runtimes`: how each is run, by name.

    Its own clean-up passes neither --runtime-flag nor the environment on, so a runtime is a script that says all."""

    def __init__(self, folder: Path, runtimes: Mapping[str, str], systemd: Sequence[str] = ()) -> None:
        """`systemd`: what has a command run where one is PID 1, which is asked for control groups."""
        self.folder = folder
        (folder / "cni").mkdir()
        for name, command in runtimes.items():
            (folder / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            (folder / name).chmod(0o755)
        manager = "systemd" if systemd else "cgroupfs"
        table = "".join(f"{name} = {json.dumps([str(folder / name)])}\n" for name in runtimes)
        (folder / "containers.conf").write_text(CONFIG.format(folder=folder, runtimes=table, manager=manager))
        (folder / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        self.env = {**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf")}
        self.holder = subprocess.Popen(HOLD, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.holder.stdout
        self.holder.stdout.readline()  # it is in there
        self.inside = list(systemd) or ["nsenter", f"--target={self.holder.pid}", "--mount", "--net", "--wd=/"]

    def argv(self, runtime: str, *words: str) -> list[str]:
        return [
            *self.inside, str(PODMAN),
            "--root", f"{self.folder}/root",
            "--runroot", f"{self.folder}/run",
            "--tmpdir", f"{self.folder}/tmp",
            "--storage-driver", "overlay",
            "--runtime", runtime,
            *words,
        ]  # fmt: skip

    def __call__(self, *words: str, stdin: bytes = b"", runtime: str = "runv") -> Result:
        argv = self.argv(runtime, *words)
        done = subprocess.run(argv, env=self.env, input=stdin, capture_output=True, timeout=LIMIT_S)
        return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def ok(self, *words: str, stdin: bytes = b"", runtime: str = "runv") -> str:
        done = self(*words, stdin=stdin, runtime=runtime)
        assert done.status == 0, (words, done)
        return done.out.strip()

    def close(self) -> None:
        self("pod", "rm", "-a", "-f", "-t", "0")
        self("rm", "-a", "-f", "-t", "0")
        with self.holder:
            pass  # its stdin ends, and so does it


@contextmanager
def podman(runtimes: Mapping[str, str], systemd: Sequence[str] = ()) -> Iterator[Podman]:
    with tempfile.TemporaryDirectory(prefix="pod", ignore_cleanup_errors=True) as folder:  # a short path: sockets
        made = Podman(Path(folder), runtimes, systemd)
        try:
            yield made
        finally:
            made.close()
