"""-v, --mount, --tmpfs: Mounts of model/spec.py."""

from __future__ import annotations

import os

from hypercontainer.hyperctl import text
from hypercontainer.hyperctl.flags import boolean

Mount = dict[str, object]

PROPAGATION = ("shared", "slave", "private", "rshared", "rslave", "rprivate")
TMPFS_FLAGS = ("rw", "noexec", "exec", "nosuid", "suid", "nodev", "dev", "noatime", "atime")
TMPFS_NUMBERS = ("uid", "gid", "nr_inodes", "nr_blocks")


def volume(word: str) -> Mount:
    """[SOURCE:]TARGET[:OPTIONS]. SOURCE: a host path (absolute, or beginning with a dot), or a volume's name."""
    parts = word.split(":")
    if len(parts) > 3 or not all(parts):
        raise ValueError("use [SOURCE:]TARGET[:ro]")
    if len(parts) == 1:
        return _checked({"type": "volume", "target": parts[0]})
    source, target, options = parts[0], parts[1], parts[2].split(",") if len(parts) == 3 else []
    if source.startswith((".", "~")):
        source = os.path.abspath(os.path.expanduser(source))
    mount: Mount = {"type": "bind" if source.startswith("/") else "volume", "source": source, "target": target}
    if mount["type"] == "bind":
        mount["create"] = True
    for option in options:
        if option == "ro":
            mount["read_only"] = True
        elif option in PROPAGATION:
            raise ValueError(f"mount propagation ({option}) does not cross into a virtual machine")
        elif option == "nocopy" and mount["type"] == "volume":
            mount["no_copy"] = True
        elif option not in ("rw", "z", "Z"):  # z, Z: no SELinux label is needed, the VM's helper serves the files
            raise ValueError(f"unknown option {option!r}: use ro or rw, nocopy for a volume")
    return _checked(mount)


def tmpfs(word: str) -> Mount:
    """TARGET[:size=64m,mode=1777,ro,exec,uid=1000…]"""
    target, _, words = word.partition(":")
    options: list[str] = []
    mount: Mount = {"type": "tmpfs", "target": target, "options": options}
    for option in words.split(",") if words else ():
        key, equals, value = option.partition("=")
        if key == "size":
            mount["size_mib"] = text.parse_mib(value)
        elif key == "mode":
            mount["mode"] = mode(value)
        elif option == "ro":
            mount["read_only"] = True
        elif option in TMPFS_FLAGS or (equals and key in TMPFS_NUMBERS):
            options.append(option)
        else:
            known = ", ".join([*TMPFS_FLAGS, *(f"{name}=" for name in TMPFS_NUMBERS)])
            raise ValueError(f"unknown option {option!r}: use size=, mode=, ro, {known}")
    return _checked(mount)


def mode(word: str) -> int:
    if not word or len(word) > 4 or word.strip("01234567"):
        raise ValueError(f"{word!r} is not a file mode: use octal digits, such as 1777")
    return int(word, 8)


NAMES = {
    **dict.fromkeys(("target", "destination", "dst"), "target"),
    **dict.fromkeys(("source", "src"), "source"),
    **dict.fromkeys(("readonly", "ro"), "read_only"),
}


def long(word: str) -> Mount:
    """type=bind|volume|tmpfs,source=…,target=…,readonly,volume-nocopy,volume-subpath=…,tmpfs-size=…,tmpfs-mode=…"""
    mount: Mount = {"type": "volume"}
    for part in word.split(","):
        key, equals, value = part.partition("=")
        key = key.strip().lower()
        if key == "type":
            if value not in ("bind", "volume", "tmpfs"):
                raise ValueError(f"the type {value!r} is not bind, volume or tmpfs")
            mount["type"] = value
        elif key in ("readonly", "ro"):
            mount["read_only"] = boolean(value) if equals else True
        elif key == "volume-nocopy":
            mount["no_copy"] = boolean(value) if equals else True
        elif key == "volume-subpath" and value:
            mount["subpath"] = value
        elif key in NAMES and value:
            mount[NAMES[key]] = value
        elif key == "tmpfs-size":
            mount["size_mib"] = text.parse_mib(value)
        elif key == "tmpfs-mode":
            mount["mode"] = mode(value)
        else:
            known = "type=, source=, target=, readonly, volume-nocopy, volume-subpath=, tmpfs-size=, tmpfs-mode="
            raise ValueError(f"unknown part {part!r}: use {known}")
    return _checked(mount)


def _checked(mount: Mount) -> Mount:
    target, source, kind = str(mount.get("target", "")), str(mount.get("source", "")), mount["type"]
    if not target.startswith("/") or not target.strip("/"):
        raise ValueError(f"the target {target!r} is not an absolute path below / in the container")
    if kind == "bind" and not source.startswith("/"):
        raise ValueError(f"the source {source!r} of a bind mount is not an absolute path of the host")
    if kind == "tmpfs" and source:
        raise ValueError("a tmpfs has no source")
    if kind != "tmpfs" and ("size_mib" in mount or "mode" in mount):
        raise ValueError("only a tmpfs has tmpfs-size and tmpfs-mode")
    if kind != "volume" and (mount.get("no_copy") or mount.get("subpath")):
        raise ValueError("only a volume has volume-nocopy and volume-subpath")
    return {key: value for key, value in mount.items() if value is not False and value != []}
