"""Image load: a docker archive of many files, against skopeo and umoci on the same archive."""

import hashlib
import io
import json
import random
import shutil
import subprocess
import tarfile
from pathlib import Path

from bench.measure import Series, wall_ms
from hypercontainer.model import arch
from hypercontainer.testing.busybox import member
from hypercontainer.testing.daemon import PrivateDaemon

FILES = 20_000
BYTES = 200_000_000


def many_files(path: Path, name: str = "many:latest", files: int = FILES, size: int = BYTES) -> None:
    """A docker archive: `files` files of `size` bytes in all, half of each random, as programs and texts are mixed."""
    rng = random.Random(0)
    each = size // files
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for n in range(files):
            content = rng.randbytes(each // 2) + bytes(each - each // 2)
            tar.addfile(member(f"data/{n // 100:03}/{n % 100:02}.bin", mode=0o644, size=each), io.BytesIO(content))
    layer = out.getvalue()
    config = json.dumps({
        "architecture": arch.host().docker, "os": "linux", "config": {"Cmd": ["true"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
    }).encode()  # fmt: skip
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(path, "w") as tar:
        for entry, content in ((config_name, config), ("layer.tar", layer), ("manifest.json", manifest)):
            tar.addfile(member(entry, mode=0o644, size=len(content)), io.BytesIO(content))


class ImageLoad:
    """The same archive, loaded by us and by the peers, each time from nothing."""

    def __init__(self, daemon: PrivateDaemon, folder: Path) -> None:
        self.daemon, self.folder, self.archive = daemon, folder, folder / "many.tar"
        many_files(self.archive)
        self.ours = Series("image load, 200 MB in 20,000 files")
        self.theirs = Series("skopeo copy + umoci unpack, the same")

    def load(self) -> None:
        argv = self.daemon.argv("load", "-q", "-i", str(self.archive))
        self.ours.samples.append(wall_ms(argv, env=self.daemon.env))
        removed = self.daemon.ctl("rmi", "-f", "many:latest")
        assert removed.status == 0, removed.err

    def unpack(self) -> None:
        layout, tree = self.folder / "layout", self.folder / "bundle"
        policy = ["--insecure-policy", "--tmpdir", str(self.folder)]
        copy = wall_ms(["skopeo", *policy, "copy", f"docker-archive:{self.archive}", f"oci:{layout}:many"])
        self.theirs.samples.append(copy + wall_ms(["umoci", "unpack", "--image", f"{layout}:many", str(tree)]))
        shutil.rmtree(layout)
        shutil.rmtree(tree)
        subprocess.run(["sync", "-f", self.folder], check=True, timeout=120)

    @property
    def series(self) -> list[Series]:
        return [self.ours, self.theirs]
