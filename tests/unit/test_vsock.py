"""Connections to guests by vsock; that guests hear them is tests/vm/test_kvmtool.py's."""

import asyncio
import os
import socket

import pytest

from hypercontainer.lib import vsock
from hypercontainer.lib.vsock import RESERVED, Vsock

NOBODY = Vsock(0x7FFF_FFF1, 1)  # no guest of this host has that number


def has_vsocks() -> bool:
    try:
        socket.socket(socket.AF_VSOCK).close()
    except OSError:
        return False
    return os.geteuid() == 0


pytestmark = pytest.mark.skipif(not has_vsocks(), reason="this kernel has no vsocks, or we are not root")


def test_each_connection_comes_from_another_port_of_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vsock, "RESERVED", range(700, 703))
    sockets = [socket.socket(socket.AF_VSOCK) for _ in range(4)]
    try:
        for one in sockets[:3]:
            vsock._bind(one)
        ports = {one.getsockname()[1] for one in sockets[:3]}
        assert ports == {700, 701, 702} and ports < {*RESERVED}
        with pytest.raises(OSError, match="Address already in use"):
            vsock._bind(sockets[3])
    finally:
        for one in sockets:
            one.close()


async def test_one_that_comes_to_nothing_leaves_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vsock, "RESERVED", range(710, 711))
    with pytest.raises(OSError):
        async with asyncio.timeout(60):
            await vsock.connect(NOBODY)
    with socket.socket(socket.AF_VSOCK) as another:
        vsock._bind(another)
