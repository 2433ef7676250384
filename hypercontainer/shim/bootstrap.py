"""What a containerd of 2.3 and later tells a shim that it starts, and is answered: a message of protobuf each.

Those before say all by flags and by the environment, may have options of the runtime on stdin, and are answered by an
address alone, for the service Task of version 2, which each of them speaks.
"""

from __future__ import annotations

import os

from hypercontainer.shim import call

MAX_BYTES = 10 << 20
VERSION, PROTOCOL = 3, "ttrpc"  # of the service Task
INSTANCE, NAMESPACE, SOCKETS = 1, 2, 9  # of BootstrapParams


def read(fd: int) -> bytes:
    """All that there is. OSError when that is too much."""
    data = b""
    while piece := os.read(fd, 65536):
        data += piece
        if len(data) > MAX_BYTES:
            raise OSError(f"containerd says more than {MAX_BYTES} bytes on stdin")
    return data


def asked(data: bytes, id: str, namespace: str) -> dict[int, int | bytes] | None:
    """Its fields by number; None when `data` is not of a containerd that knows them. Options are a message, too, so it
    has to name the same container as the flags do."""
    try:
        found = call.fields(data)
    except OSError:
        return None
    same = (found.get(INSTANCE), found.get(NAMESPACE)) == (id.encode(), namespace.encode())
    return found if same else None


def sockets(found: dict[int, int | bytes]) -> str:
    """The folder where containerd wants the shim to listen; "": it does not say."""
    said = found.get(SOCKETS)
    return os.fsdecode(said) if isinstance(said, bytes) else ""


def answer(address: str) -> bytes:
    """A BootstrapResult."""
    return call.message({1: VERSION, 2: address.encode(), 3: PROTOCOL.encode()})
