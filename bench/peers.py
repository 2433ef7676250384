"""What Debian has to compare with: runc on the same files."""

import json
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.measure import Series, first_output_ms, wall_ms
from hypercontainer.testing.busybox import find_busybox, layer


def bundle(folder: Path, args: list[str]) -> Path:
    """An OCI bundle of the busybox image whose process is `args`."""
    folder.mkdir(parents=True)
    (folder / "layer.tar").write_bytes(layer(find_busybox(), {}))
    with tarfile.open(folder / "layer.tar") as tar:
        tar.extractall(folder / "rootfs")
    subprocess.run(["runc", "spec", "-b", folder], check=True, timeout=20)
    config = json.loads((folder / "config.json").read_text())
    config["process"].update(args=args, terminal=False)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


class Runc:
    """One short bundle to run, and one container that stays for exec. Its state is below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.run_series = Series("runc run echo: first output")
        self.exec_series = Series("runc exec true")
        self.short = bundle(folder / "short", ["echo", "hello"])
        self.long = bundle(folder / "long", ["sleep", "3600"])
        self.argv = ["runc", "--root", str(folder / "state")]

    def run(self) -> None:
        argv = [*self.argv, "run", "-b", str(self.short), f"b{uuid.uuid4().hex[:8]}"]
        self.run_series.samples.append(first_output_ms(argv)[0])

    def exec(self) -> None:
        self.exec_series.samples.append(wall_ms([*self.argv, "exec", "stays", "true"]))

    @property
    def series(self) -> list[Series]:
        return [self.run_series, self.exec_series]


@contextmanager
def runc(folder: Path) -> Iterator[Runc]:
    peer = Runc(folder)
    argv = [*peer.argv, "run", "-d", "-b", str(peer.long), "stays"]
    quiet = subprocess.DEVNULL
    subprocess.run(argv, check=True, timeout=20, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        yield peer
    finally:
        subprocess.run([*peer.argv, "delete", "-f", "stays"], check=True, timeout=20)
