"""Who is at the other end of a connection."""

import os
import socket
from collections.abc import Callable

from aiohttp import web

from hypercontainer.lib import proc
from hypercontainer.model.principal import UNKNOWN, Principal, Role


def peer(sock: socket.socket | None, others: Role) -> Principal:
    """The process that connected to a unix socket. Root and our own user are admins, `others` is everybody else's role.

    This very process connects for a container that has the socket (sandbox/relay.py), which is root of nothing here.

    UNKNOWN where the kernel does not tell: a connection that has ended, a socket that is no unix one."""
    if sock is None or sock.family != socket.AF_UNIX:
        return UNKNOWN
    pid, uid, gid = proc.peer(sock)
    trusted = uid in (0, os.geteuid()) and pid != os.getpid()
    return Principal(Role.ADMIN if trusted else others, uid=uid, gid=gid, pid=pid)


def local(others: Role) -> Callable[[web.Request], Principal]:
    """Who makes a request that came over a unix socket."""
    return lambda request: peer(request.get_extra_info("socket"), others)
