"""Calls of hyperd's door for bundles: see hyperd/oci/wire.py."""

from __future__ import annotations

import _socket
import os
import sys

from hypercontainer.lib import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT, CONFIG = "/run/hyper-oci.sock", "/etc/hypercontainer/config.toml"
MAX_BYTES = 16 << 20
GONE = "hyperd has gone before its answer"
HEAD_BYTES = 4  # a length, little-endian
ANSWER = "HYPER_RUNV_ANSWER"  # of the launcher, host/launcher/runv.c: the descriptor of what hyperd has answered


class Refused(Exception):
    """hyperd said no. `kind` is that of its error."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Door:
    """`config`: settings of the hyperd that is started when none listens; "": none is."""

    def __init__(self, path: str, config: str) -> None:
        self.path, self.config = path, config

    @property
    def stand_ins(self) -> str:
        """Where stand-ins connect."""
        return f"{self.path}.stand-ins"

    def call(self, call: str, fds: list[int] | None = None, **arguments: Any) -> Any:
        """Refused; OSError when nobody answers."""
        answer = _answered() or self._ask(call, fds, arguments)
        if error := answer.get("error"):
            raise Refused(error["kind"], error["message"])
        return answer["answer"]

    def _ask(self, call: str, fds: list[int] | None, arguments: dict[str, Any]) -> Any:
        document = fastjson.dumps({"call": call, **arguments}).encode()
        sock = self._connected()
        try:
            head = len(document).to_bytes(HEAD_BYTES, "little")
            rights = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds or [])
            if rights:
                sock.sendmsg([head], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
            else:
                sock.sendall(head)
            sock.sendall(document)
            return fastjson.loads(_exactly(sock, int.from_bytes(_exactly(sock, HEAD_BYTES), "little")))
        except ConnectionError as e:
            raise OSError(GONE) from e
        finally:
            sock.close()

    def _connected(self) -> _socket.socket:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            try:
                sock.connect(self.path)
            except (FileNotFoundError, ConnectionRefusedError):
                if not self.config:
                    raise
                from hypercontainer.runv import daemon

                daemon.start(self.path, self.config)
                sock.connect(self.path)
        except OSError as e:
            sock.close()
            if not e.errno:
                raise  # words of our own
            raise OSError(e.errno, f"hyperd does not listen on {self.path}: {os.strerror(e.errno)}") from e
        return sock


def _answered() -> Any:
    """What the launcher was answered, to the first call alone. OSError when hyperd had gone."""
    fd = os.environ.pop(ANSWER, "")
    if not fd:
        return None
    with open(int(fd), "rb") as file:
        data = file.read()
    if not data:
        raise OSError(GONE)
    return fastjson.loads(data)


def _exactly(sock: _socket.socket, size: int) -> bytes:
    if size > MAX_BYTES:
        raise OSError(f"hyperd's answer has {size} bytes")
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise OSError(GONE)
        data += piece
    return data
