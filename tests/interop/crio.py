"""CRI-O of one's own, with everything of it in a folder, in a mount and a network namespace that end with it."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.interop.clients import CLIENTS
from tests.interop.containerd import NETWORK
from tests.interop.podman import PODMAN

CRIO, PINNS, CONMON = CLIENTS / "crio/crio", CLIENTS / "crio/pinns", Path("/usr/bin/conmon")
READY_S, END_S = 60.0, 300.0
# Held by a shell that does nothing until its stdin ends.
HOLD = ["unshare", "--mount", "--propagation", "private", "--net", "sh", "-c", "ip link set lo up; echo; exec cat"]
CONFIG = """
[crio]
root = "{folder}/root"
runroot = "{folder}/run"
storage_driver = "overlay"
log_dir = "{folder}/logs"
version_file = "{folder}/version"
clean_shutdown_file = "{folder}/clean"
[crio.api]
listen = "{folder}/c.sock"
[crio.runtime]
default_runtime = "hyper"
cgroup_manager = "cgroupfs"
pinns_path = "{pinns}"
namespaces_dir = "{folder}/ns"
container_exits_dir = "{folder}/exits"
container_attach_socket_dir = "{folder}/attach"
[crio.runtime.runtimes.hyper]
runtime_path = "{folder}/runv"
runtime_type = "oci"
runtime_root = "{folder}/runv-root"
monitor_path = "{conmon}"
monitor_cgroup = "pod"
[crio.image]
pause_image = "docker.io/library/pause:1"
pause_command = ""
signature_policy = "{folder}/policy.json"
[crio.network]
network_dir = "{folder}/cni"
plugin_dirs = ["/usr/lib/cni/"]
"""


class Crio:
    """CRI-O below `folder`, whose containers `runtime`, a command, makes."""

    def __init__(self, folder: Path, runtime: str) -> None:
        self.folder, self.socket = folder, folder / "c.sock"
        (folder / "runv").write_text(f'#!/bin/sh\nexec {runtime} "$@"\n')
        (folder / "runv").chmod(0o755)
        (folder / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        (folder / "cni").mkdir()
        (folder / "cni/pods.conflist").write_text(json.dumps(NETWORK))
        (folder / "crio.conf").write_text(CONFIG.format(folder=folder, pinns=PINNS, conmon=CONMON))
        self._holder = subprocess.Popen(HOLD, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._holder.stdout
        self._holder.stdout.readline()  # it is in there
        self._process: subprocess.Popen[bytes] | None = None

    def inside(self) -> list[str]:
        """A command there, where it is."""
        return ["nsenter", f"--target={self._holder.pid}", "--mount", "--net", "--wd=/"]

    def load(self, archive: Path) -> None:
        """Have an image, by podman, whose store is the same."""
        store = ["--root", f"{self.folder}/root", "--runroot", f"{self.folder}/run", "--storage-driver", "overlay"]
        argv = [*self.inside(), str(PODMAN), *store, "load", "-q", "-i", str(archive)]
        subprocess.run(argv, check=True, capture_output=True)

    def start(self) -> None:
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [*self.inside(), str(CRIO), "--config", f"{self.folder}/crio.conf", "--config-dir", ""],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + READY_S
        while not self.socket.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise OSError(f"CRI-O does not answer:\n{self.log()[-2000:]}")
            time.sleep(0.05)

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def close(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(END_S)
        with self._holder:
            pass  # its stdin ends, and so does it


@contextmanager
def crio(runtime: str, *images: Path) -> Iterator[Crio]:
    """A running one, gone with the block. OSError, with its last words, where it cannot run."""
    with tempfile.TemporaryDirectory(prefix="hyo", ignore_cleanup_errors=True) as folder:  # a short path: sockets
        made = Crio(Path(folder), runtime)
        try:
            for image in images:
                made.load(image)
            made.start()
            yield made
        finally:
            made.close()
            assert os.path.isdir(folder)
