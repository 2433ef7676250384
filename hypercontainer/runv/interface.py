"""runv interface: what is in the network namespace of a container that runs. Its machine follows that."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from hypercontainer.lib import fastjson
from hypercontainer.runv.flags import UsageError, Words

FLAGS = {
    "add": {"host-device", "name", "ip", "mac", "mtu"},
    "ls": set[str](),
    "rm": set[str](),
    "update": {"add-ip", "delete-ip", "mtu"},
}
NAMES = {"list": "ls", "remove": "rm"}


class NoInterface(Exception):
    """It cannot be had, changed or taken away; `ip` says why."""


def check(words: Words) -> str:
    """The command; UsageError when its words make no sense."""
    command = NAMES.get(words.arguments[0], words.arguments[0])
    if command not in FLAGS:
        raise UsageError(f"there is no interface command {command!r}: use {', '.join(FLAGS)}")
    if wrong := sorted(set(words.values) - FLAGS[command]):
        raise UsageError(f"interface {command} has no flag --{wrong[0]}")
    if (command in ("rm", "update")) != (len(words.arguments) == 3):
        raise UsageError(f"interface {command}: " + ("name is missing" if command in ("rm", "update") else "no name"))
    if command == "add" and not words.values.get("host-device"):
        raise UsageError("interface add: --host-device is missing, an interface of this host that the container gets")
    if command == "update" and not words.values:
        raise UsageError("interface update: nothing to change: use --add-ip, --delete-ip or --mtu")
    return command


def listed(pid: int) -> list[list[str]]:
    """A row for each: name, MAC, MTU, addresses."""
    found: list[dict[str, Any]] = fastjson.loads(_ip(pid, "-j", "-d", "addr").encode() or b"[]")
    return [
        [
            link["ifname"],
            link["address"],
            str(link["mtu"]),
            ",".join(f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a.get("scope") != "link"),
        ]
        for link in found
        if "LOOPBACK" not in link["flags"]
        and link.get("linkinfo", {}).get("info_kind") not in ("tun", "macvtap")  # our taps
    ]


def add(pid: int, values: dict[str, str]) -> None:
    """Move an interface of this namespace into that of process `pid`. On failure it is here, as it was called."""
    device = values["host-device"]
    name = values.get("name", device)
    _run(["ip", "link", "set", "dev", device, "netns", str(pid)])
    now = device
    try:
        if name != device:
            _ip(pid, "link", "set", "dev", device, "name", name)
            now = name
        for key, word in (("mac", "address"), ("mtu", "mtu")):
            if key in values:
                _ip(pid, "link", "set", "dev", name, word, values[key])
        if "ip" in values:
            _ip(pid, "addr", "add", values["ip"], "dev", name)
        _ip(pid, "link", "set", "dev", name, "up")
    except NoInterface:
        _ip(pid, "link", "set", "dev", now, "name", device, "down")
        remove(pid, device)
        raise


def remove(pid: int, name: str) -> None:
    """Move it into this namespace."""
    _ip(pid, "link", "set", "dev", name, "netns", str(os.getpid()))


def update(pid: int, name: str, values: dict[str, str]) -> None:
    if "mtu" in values:
        _ip(pid, "link", "set", "dev", name, "mtu", values["mtu"])
    if "add-ip" in values:
        _ip(pid, "addr", "add", values["add-ip"], "dev", name)
    if "delete-ip" in values:
        _ip(pid, "addr", "del", values["delete-ip"], "dev", name)


def _ip(pid: int, *words: str) -> str:
    """`ip`, in the network namespace of that process."""
    return _run(["nsenter", f"--net=/proc/{pid}/ns/net", "ip", *words])


def _run(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise NoInterface(f"cannot {' '.join(argv[argv.index('ip') :])}: {done.stderr.strip()}")
    return done.stdout
