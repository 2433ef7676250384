"""Starts a hyperd when none listens where runv calls: one that has nothing of the engine's.

An engine's descriptors would keep its pipes open, its control group and its mount namespace would end with it, and
NOTIFY_SOCKET in its environment is its own.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from hypercontainer.client.daemon import Daemon, command
from hypercontainer.errors import HyperError
from hypercontainer.lib import engine_cgroup
from hypercontainer.model.settings import Settings, load

INIT = 1
NAMESPACES = {"mnt": "--mount", "net": "--net", "ipc": "--ipc", "uts": "--uts", "cgroup": "--cgroup"}
KEPT = ("PATH", "HOME", "LANG", "TZ", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
CLOSED = (FileNotFoundError, ConnectionRefusedError)


def socket_of(config: str) -> str:
    """Where a hyperd with the settings of this file has calls of runv. OSError: nowhere, or the file is wrong."""
    if path := _settings(config).bundles_socket():
        return path
    raise OSError(f'cannot call hyperd: oci_socket is "" in {config}')


def start(path: str, config: str) -> None:
    """Have a hyperd with these settings listen at `path`. OSError, with its last words, when it does not come."""
    if (place := socket_of(config)) != path:
        raise OSError(f"no hyperd at {path}, and one with {config} listens at {place}: name this file by --config")
    settings = _settings(config)
    daemon = Daemon(
        f"unix://{path}",
        f"{settings.run}/hyperd.log",
        # a folder of nobody's; who is kept by systemd is woken at its socket, and not started
        ["nsenter", "--wd=/", *outside(INIT), "--", *command(sys.argv[0]), "--config", os.path.abspath(config)],
        lambda: _listens(path),
        {key: value for key, value in os.environ.items() if key in KEPT},
    )
    try:
        if _listens(settings.socket):
            daemon.expect()
        else:
            daemon.start(lambda pid: engine_cgroup.place("/", pid))
    except HyperError as e:
        raise OSError(str(e)) from e


def outside(pid: int) -> list[str]:
    """nsenter's words for those namespaces of `pid` that are not ours; none where nobody lets us look."""
    try:
        other = [flag for kind, flag in NAMESPACES.items() if _namespace(pid, kind) != _namespace(os.getpid(), kind)]
    except OSError:
        return []
    return [f"--target={pid}", *other] if other else []


def _namespace(pid: int, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def _settings(config: str) -> Settings:
    try:
        return load(Path(config))
    except HyperError as e:
        raise OSError(str(e)) from e


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(path)
        except CLOSED:
            return False
    return True
