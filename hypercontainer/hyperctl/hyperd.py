"""Starts a hyperd when none listens at the default socket, and says so.

Who names another socket means a hyperd of other settings: one with the default ones would be in its place.
"""

from __future__ import annotations

import errno
import os

from hypercontainer.client.daemon import Daemon, command
from hypercontainer.hyperctl.context import DEFAULT_ADDRESS, complain

HOST = f"unix://{DEFAULT_ADDRESS}"
LOG = "/run/hyper/hyperd.log"


def start(program: str) -> None:
    """Unavailable when it does not come."""
    Daemon(HOST, LOG, command(program), _answers, os.environ).start(
        lambda pid: complain(f"no hyperd at {HOST}: started one (pid {pid}, log {LOG})")
    )


def _answers() -> bool:
    from hypercontainer.client.http import Client
    from hypercontainer.errors import HyperError

    try:
        with Client(DEFAULT_ADDRESS) as client:
            client.get("/v1/ping")
    except HyperError as e:
        return not isinstance(e.__cause__, OSError) or e.__cause__.errno not in (errno.ENOENT, errno.ECONNREFUSED)
    return True
