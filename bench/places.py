"""Where the measurements find and keep things, and how they say what they do."""

import os
import subprocess
import sys
from pathlib import Path

from hypercontainer.kernel.bundle import KernelStore
from hypercontainer.model.arch import host_name
from hypercontainer.testing.busybox import write_archive
from hypercontainer.testing.daemon import PrivateDaemon

CHECKOUT = Path(__file__).parents[1]
KERNELS = CHECKOUT / ".cache/hyper/kernels"
OUT = CHECKOUT / "bench/out"
IMAGE = "busybox"


def say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)


def program(source: str, output: Path) -> None:
    """A C program of this folder, for a guest or a container: static."""
    argv = [sys.executable, "-m", "ziglang", "cc", "-target", f"{host_name()}-linux-musl", "-static", "-Os", "-s"]
    env = {"ZIG_GLOBAL_CACHE_DIR": str(CHECKOUT / ".cache/zig"), **os.environ}
    subprocess.run([*argv, "-D_GNU_SOURCE", str(CHECKOUT / "bench" / source), "-o", str(output)], check=True, env=env)


def our_kernel() -> str:
    """The name of the kernel bundle that was built last (`make kernel`), "" if there is none."""
    built = [bundle for bundle in KernelStore(KERNELS.parent).list() if bundle.source]
    return max(built, key=lambda bundle: bundle.path.stat().st_mtime).name if built else ""


def load_image(daemon: PrivateDaemon) -> None:
    """The same image for all: Debian's static busybox."""
    archive = daemon.folder / "busybox.tar"
    write_archive(archive)
    loaded = daemon.ctl("load", "-q", "-i", str(archive))
    if loaded.status:
        raise SystemExit(f"bench: cannot load the image: {loaded.err}")
