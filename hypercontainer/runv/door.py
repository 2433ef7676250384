"""Calls of hyperd's door for bundles: see hyperd/oci/wire.py."""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import Any

DEFAULT, CONFIG = "/run/hyper-oci.sock", "/etc/hypercontainer/config.toml"
MAX_BYTES = 16 << 20
_HEAD = struct.Struct("<I")


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
        document = json.dumps({"call": call, **arguments}).encode()
        with self._connected() as sock:
            head = _HEAD.pack(len(document))
            if fds:
                socket.send_fds(sock, [head], fds)
            else:
                sock.sendall(head)
            sock.sendall(document)
            answer = json.loads(_exactly(sock, _HEAD.unpack(_exactly(sock, _HEAD.size))[0]))
        if error := answer.get("error"):
            raise Refused(error["kind"], error["message"])
        return answer["answer"]

    def _connected(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
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


def _exactly(sock: socket.socket, size: int) -> bytes:
    if size > MAX_BYTES:
        raise OSError(f"hyperd's answer has {size} bytes")
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise OSError("hyperd has gone before its answer")
        data += piece
    return data
