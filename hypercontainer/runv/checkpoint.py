"""checkpoint and restore: where CRIU's images are, and what of its flags is honoured."""

from __future__ import annotations

import os

from hypercontainer.lib import mount
from hypercontainer.runv.door import Refused
from hypercontainer.runv.flags import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hypercontainer.runv.door import Door
    from hypercontainer.runv.flags import Words

USUAL = "checkpoint"  # as runc has it: below where one is
PASSED = ("leave-running", "file-locks")  # CRIU's own words
REFUSED = {
    "tcp-established": "connections end with the machine that they are of; without it what has some is not saved",
    "ext-unix-sk": "whoever has the other end of a socket is not there any more",
    "shell-job": "a terminal is not saved",
    "lazy-pages": "memory is read before the container goes on",
    "page-server": "images are in a folder",
    "pre-dump": "images are whole",
    "parent-path": "images are whole",
    "auto-dedup": "images are whole",
    "empty-ns": "a container has the network of its machine",
    "status-fd": "descriptors do not reach into a machine",
}
OURS, THEIRS = "hyper.mounts", "inventory.img"  # of the files in a folder of images


class NoImages(Exception):
    """There is no folder that images are in, or go to."""


def check(words: Words) -> None:
    for flag, why in REFUSED.items():
        if flag in words.switches or words.values.get(flag):
            raise UsageError(f"--{flag}: {why}")
    if words.values.get("manage-cgroups-mode", "ignore") != "ignore":
        raise UsageError("--manage-cgroups-mode: the group is that of the container that is made; use ignore")


def save(door: Door, owner: str, words: Words) -> None:
    check(words)
    images = os.path.abspath(words.values.get("image-path", USUAL))
    _call(door, "checkpoint", "dump.log", owner, words, images)


def restore(door: Door, owner: str, words: Words) -> dict[str, Any]:
    """Have a container that is created go on from what was saved. Its state."""
    state: dict[str, Any] = _call(
        door, "restore", "restore.log", owner, words, os.path.abspath(words.values.get("image-path", USUAL))
    )
    return state


def find(words: Words) -> None:
    """Before a container is made for them."""
    check(words)
    images = os.path.abspath(words.values.get("image-path", USUAL))
    if not os.path.exists(os.path.join(images, THEIRS)):
        raise NoImages(f"cannot restore a container of {images}: there is no checkpoint")
    if not os.path.exists(os.path.join(images, OURS)):
        raise NoImages(f"cannot restore a container of {images}: another runtime has made that checkpoint")


def _call(door: Door, call: str, log: str, owner: str, words: Words, images: str) -> Any:
    work = os.path.abspath(words.values.get("work-path", images))
    trees: list[int] = []
    made = [path for path in dict.fromkeys((images, work)) if not os.path.exists(path)]
    try:
        for path in (images, work):
            os.makedirs(path, 0o700, exist_ok=True)
        trees = mount.clones([images, work])
        flags = [f"--{flag}" for flag in PASSED if flag in words.switches]
        return door.call(call, trees, owner=owner, id=words.arguments[0], flags=flags)
    except OSError as e:
        if e.filename is None:
            raise
        raise NoImages(f"cannot use {e.filename}: {e.strerror}") from e
    except Refused as e:
        path = os.path.join(work, log)
        more = f"; see {path}" if os.path.exists(path) and os.path.getsize(path) else ""  # podman makes an empty one
        for path in made:
            if not os.listdir(path):
                os.rmdir(path)
        raise Refused(e.kind, f"{e}{more}") from e
    finally:
        for tree in trees:
            os.close(tree)
