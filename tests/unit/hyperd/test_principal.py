"""Who may call what: the kernel says who calls, the table says for whom each call is."""

import os
import re
import socket
from pathlib import Path

import pytest

from hypercontainer.hyperd.http.principal import peer
from hypercontainer.hyperd.rest.routes import ROUTES
from hypercontainer.lib.proc import UCRED
from hypercontainer.model.principal import UNKNOWN, Principal, Role
from tests.unit.hyperd.conftest import Server

USER = Principal(Role.USER, uid=1000, gid=100, pid=7)


class Peer:
    """A unix socket that somebody has connected to."""

    family = socket.AF_UNIX

    def __init__(self, pid: int, uid: int, gid: int) -> None:
        self._credentials = UCRED.pack(pid, uid, gid)

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option, size) == (socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
        return self._credentials


@pytest.mark.parametrize("others", [Role.USER, Role.ADMIN])
def test_the_kernel_says_who_is_there_and_we_speak_for_containers(others: Role) -> None:
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        ourselves = Principal(others, uid=os.geteuid(), gid=os.getegid(), pid=os.getpid())
        assert peer(here, others) == ourselves


@pytest.mark.parametrize("others", [Role.USER, Role.ADMIN])
def test_a_door_says_what_others_are(others: Role) -> None:
    stranger = os.geteuid() + 1000
    assert peer(Peer(7, stranger, 100), others) == Principal(others, uid=stranger, gid=100, pid=7)  # type: ignore[arg-type]
    assert peer(Peer(7, 0, 100), others).role == Role.ADMIN  # type: ignore[arg-type]


def test_nobody_is_taken_for_root() -> None:
    with socket.socket(socket.AF_INET) as sock:
        assert peer(sock, Role.ADMIN) == peer(None, Role.ADMIN) == UNKNOWN
    assert UNKNOWN.role == Role.ANYONE


@pytest.mark.parametrize("principal", [USER, UNKNOWN], ids=lambda p: p.role.name)
async def test_each_call_is_for_whom_the_table_says(server: Server, principal: Principal) -> None:
    server.dispatcher.caller = lambda _: principal
    for route in ROUTES:
        path = re.sub(r"{\w+}", "web", route.path)
        async with server.http.request(route.method, f"http://hyper{path}?un=known") as response:
            document = await response.json()
        if route.access > principal.role:
            assert (response.status, document["kind"]) == (403, "permission"), path
            assert document["message"].startswith(f"cannot {route.method} {route.path}: it is for ")
        else:
            assert response.status == 400, path  # what it asked is looked at
    assert server.engine.calls == []


async def test_who_makes_a_container_is_told(server: Server) -> None:
    server.dispatcher.caller = lambda _: USER
    pod = {"containers": [{"image": "busybox"}]}
    for path, body in (("/v1/containers", pod), ("/v1/pods", pod), ("/v1/pods/p/containers", {"image": "busybox"})):
        assert (await server.ask("POST", path, json=body))[0] == 200
        assert server.engine.calls[-1][2] == {"by": USER}


def test_the_handbook_says_which_are_for_admins_and_for_anyone() -> None:
    text = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
    rows = re.findall(r"^\| `(\w+) (/v1/[^`]*)`[^|]*\|([^\n]*)", text, re.MULTILINE)
    marked = {(method, path): words for method, path, words in rows}
    for route in ROUTES:
        words = marked[route.method, route.path]
        assert ("*Admins.*" in words) == (route.access == Role.ADMIN), route.path
        assert ("*Anyone.*" in words) == (route.access == Role.ANYONE), route.path
