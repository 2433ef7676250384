"""The control group of a stand-in: engines read a container's from its pid."""

from __future__ import annotations

import os
from contextlib import suppress

ROOT = "/sys/fs/cgroup"


def place(path: str, pid: int) -> None:
    """Have `pid` in the group `path` of each hierarchy that there is, made if it is missing."""
    for root in _roots():
        folder = os.path.join(root, path.strip("/"))
        with suppress(OSError):  # a hierarchy that this host does not let us use: the pid is where we are
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, "cgroup.procs"), "w") as file:
                file.write(str(pid))


def remove(path: str) -> None:
    """Groups with nobody in them."""
    for root in _roots():
        with suppress(OSError):
            os.rmdir(os.path.join(root, path.strip("/")))


def _roots() -> list[str]:
    if os.path.exists(f"{ROOT}/cgroup.controllers"):
        return [ROOT]
    with suppress(OSError):
        return [entry.path for entry in os.scandir(ROOT) if os.path.exists(f"{entry.path}/cgroup.procs")]
    return []
