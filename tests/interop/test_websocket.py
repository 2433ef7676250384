"""A container's streams over a websocket, by the client library that docker-py takes."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from hypercontainer.testing.daemon import PrivateDaemon

client = pytest.importorskip("websocket")
pytestmark = [
    pytest.mark.interop,
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="hyperd is root's"),
]
WAIT_S = 120


@contextmanager
def attached(hyper: PrivateDaemon, container: str, query: str) -> Iterator[Any]:
    with closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.settimeout(WAIT_S)
        sock.connect(f"{hyper.folder}/hyper-docker.sock")
        url = f"ws://docker/v1.51/containers/{container}/attach/ws?{query}"
        with closing(client.create_connection(url, socket=sock, timeout=WAIT_S)) as ws:
            yield ws


def until(ws: Any, words: bytes) -> bytes:
    """What comes, as far as `words`."""
    seen = b""
    while words not in seen:
        seen += ws.recv()
    return seen


def test_bytes_there_and_back(hyper: PrivateDaemon) -> None:
    done = hyper.ctl("run", "-d", "-i", "--name", "web", "busybox", "sh", "-c", "cat; echo ended >&2")
    assert done.status == 0, done
    data = os.urandom(300_000)
    with attached(hyper, "web", "stream=1&stdin=1&stdout=1&stderr=1") as ws:
        ws.send_binary(data)
        got = b""
        while len(got) < len(data):
            got += ws.recv()
        assert got == data
        ws.send("tëxt\n")
        assert until(ws, b"\n") == "tëxt\n".encode()
    with attached(hyper, "web", "stream=1&stdout=1&stderr=1") as ws:  # it runs on
        assert hyper.ctl("kill", "web").status == 0
        assert ws.recv() == ""  # the end
    hyper.ctl("rm", "web")


def test_a_terminal_and_its_detach_keys(hyper: PrivateDaemon) -> None:
    assert hyper.ctl("run", "-d", "-i", "-t", "--name", "web", "busybox", "sh").status == 0
    with attached(hyper, "web", "stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,q") as ws:
        ws.send_binary(b"echo $((6*7))\r")
        until(ws, b"42\r\n")
        ws.send_binary(b"\x01q")
        ws.recv_data()  # the end
    assert hyper.ctl("inspect", "-f", "{{.State.Status}}", "web").out == "running\n"
    hyper.ctl("rm", "-f", "web")


def test_what_cannot_be_attached(hyper: PrivateDaemon) -> None:
    with pytest.raises(client.WebSocketBadStatusException, match="404"), attached(hyper, "none", "stream=1"):
        pass
