"""A small image that needs no registry: Debian's static busybox, as `docker save` would write it.

python -m hypercontainer.testing.busybox IMAGE.tar [NAME[:TAG]]
"""

import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from hypercontainer.errors import NotFound
from hypercontainer.lib import clock
from hypercontainer.model import arch

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
FOLDERS = ("bin", "dev", "etc", "home", "lib", "proc", "root", "sys", "tmp", "usr", "usr/bin", "var", "var/log", "www")
FILES = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nwww:x:33:33:www:/www:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    "etc/group": b"root:x:0:\nwww:x:33:\nstaff:x:50:www\nnobody:x:65534:\n",
    "www/index.html": b"<h1>Hello from a virtual machine of my own</h1>\n",
}


def find_busybox() -> Path:
    """Debian's, statically linked: the guest has no other library."""
    found = shutil.which("busybox", path="/usr/bin:/bin:/usr/sbin:/sbin")
    if found is None:
        raise NotFound("program", "busybox", "install busybox-static")
    return Path(found)


def applets(busybox: Path) -> list[str]:
    """The names that this host's build of busybox answers to; Debian's of every architecture has the same."""
    listed = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True, timeout=20)
    return sorted(set(listed.stdout.split()) - {"busybox"})


def member(name: str, kind: bytes = tarfile.REGTYPE, *, mode: int, link: str = "", size: int = 0) -> tarfile.TarInfo:
    """An entry that is the same on every run: root's, at time 0."""
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname, info.size = kind, mode, link, size
    return info


def layer(busybox: Path, files: Mapping[str, bytes]) -> bytes:
    """The image's one layer: busybox once, its applets as hard links to it, `files` by path below the root."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for folder in FOLDERS:
            tar.addfile(member(folder, tarfile.DIRTYPE, mode=0o1777 if folder == "tmp" else 0o755))
        program = busybox.read_bytes()
        tar.addfile(member("bin/busybox", mode=0o755, size=len(program)), io.BytesIO(program))
        for applet in applets(find_busybox()):
            tar.addfile(member(f"bin/{applet}", tarfile.LNKTYPE, mode=0o755, link="bin/busybox"))
        for path, content in sorted({**FILES, **files}.items()):
            tar.addfile(member(path, mode=0o644, size=len(content)), io.BytesIO(content))
    return out.getvalue()


def write_archive(
    path: Path,
    names: Iterable[str] = ("busybox:latest",),
    *,
    files: Mapping[str, bytes] = {},
    config: Mapping[str, object] = {},
    busybox: Path | None = None,
    architecture: str = "",
) -> None:
    """Write the archive to `path`. `config` adds to the image's own, in docker's words: {"Cmd": ["httpd"]}. `busybox`
    is another one than this host's, of that architecture.

    The same arguments and the same busybox give the same bytes. NotFound when busybox is not installed.
    """
    busybox = busybox or find_busybox()
    blob, created = layer(busybox, files), clock.rfc3339(busybox.stat().st_mtime_ns)
    document = {
        "architecture": architecture or arch.host().docker,
        "os": "linux",
        "created": created,
        "config": {"Env": [f"PATH={PATH}"], "Cmd": ["sh"], "WorkingDir": "/", **config},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(blob).hexdigest()]},
        "history": [{"created": created, "created_by": "busybox from Debian"}],
    }
    written = json.dumps(document, sort_keys=True).encode()
    config_name = hashlib.sha256(written).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": list(names), "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in ((config_name, written), ("layer.tar", blob), ("manifest.json", manifest)):
            tar.addfile(member(name, mode=0o644, size=len(content)), io.BytesIO(content))


if __name__ == "__main__":
    write_archive(Path(sys.argv[1]), sys.argv[2:] or ["busybox:latest"])
