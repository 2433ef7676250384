"""A bundle: config.json as runtimes usually get it, and a root file system of Debian's static busybox."""

import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hypercontainer.testing.busybox import FILES, FOLDERS, applets, find_busybox
from hypercontainer.testing.busybox import PATH as PATH

CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_MKNOD", "CAP_SETGID", "CAP_SETUID"]
MOUNTS: list[dict[str, Any]] = [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {
        "destination": "/dev",
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    {
        "destination": "/dev/shm",
        "type": "tmpfs",
        "source": "shm",
        "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
    },
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
]


@cache
def programs() -> list[str]:
    return applets(find_busybox())


class Bundle:
    """A folder whose config.json is written by `save`, which all who use the bundle call."""

    def __init__(self, folder: Path, busybox: Path, args: Sequence[str], cgroup: str) -> None:
        """`busybox` is on the file system of `folder`: its names in the rootfs are hard links, for Debian's busybox
        finds its applets itself and would be masked with one that is a symbolic link."""
        self.folder, self.rootfs = folder, folder / "rootfs"
        for name in FOLDERS:
            (self.rootfs / name).mkdir(parents=True)
        (self.rootfs / "tmp").chmod(0o1777)
        for name in ("busybox", *programs()):
            os.link(busybox, self.rootfs / "bin" / name)
        for path, content in FILES.items():
            (self.rootfs / path).write_bytes(content)
        self.config: dict[str, Any] = {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": list(args),
                "env": [f"PATH={PATH}"],
                "cwd": "/",
                "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
            },
            "root": {"path": "rootfs"},
            "hostname": "box",
            "mounts": json.loads(json.dumps(MOUNTS)),
            "linux": {
                "cgroupsPath": cgroup,
                "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
                "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            },
        }

    @property
    def process(self) -> dict[str, Any]:
        process: dict[str, Any] = self.config["process"]
        return process

    @property
    def linux(self) -> dict[str, Any]:
        linux: dict[str, Any] = self.config["linux"]
        return linux

    def save(self) -> None:
        (self.folder / "config.json").write_text(json.dumps(self.config))

    def mount(self, destination: str, source: str | Path, *options: str, type: str = "bind") -> None:
        """Add a mount, after all others."""
        mount = {"destination": destination, "type": type, "source": str(source), "options": list(options)}
        self.config["mounts"].append(mount)

    def namespace(self, type: str, path: str | Path | None = None) -> None:
        """Have one of this type: a new one, or that of `path`."""
        others = [one for one in self.linux["namespaces"] if one["type"] != type]
        self.linux["namespaces"] = [*others, {"type": type} if path is None else {"type": type, "path": str(path)}]

    def file(self, path: str, content: str = "", mode: int = 0o644) -> Path:
        """Make a file of the root file system, by its path in the container."""
        file = self.rootfs / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(mode)
        return file

    def hook(self, kind: str, script: str, *, timeout: int | None = None) -> None:
        """Add a hook that runs `script` by a shell, with the state in `$state`."""
        hook: dict[str, Any] = {"path": "/bin/sh", "args": ["sh", "-c", f"state=$(cat); {script}"]}
        if timeout is not None:
            hook["timeout"] = timeout
        self.config.setdefault("hooks", {}).setdefault(kind, []).append(hook)
