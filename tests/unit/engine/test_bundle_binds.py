"""Binds of a bundle: what is a socket is carried, if hyperd sees the same one."""

import os
import socket
from pathlib import Path

import pytest

from hypercontainer.engine import bundle_binds
from hypercontainer.errors import InvalidInput
from hypercontainer.model.bundle import Bind


def listening(path: Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, kind)
    made.bind(str(path))
    if kind == socket.SOCK_STREAM:
        made.listen()
    path.chmod(0o640)
    return made


def test_a_socket_is_one_and_a_folder_is_none(tmp_path: Path) -> None:
    path = tmp_path / "s"
    tree = os.open(tmp_path, os.O_PATH)
    with listening(path), os.fdopen(os.open(path, os.O_PATH | os.O_CLOEXEC)) as seen:
        binds = [Bind(target="/s", source=str(path)), Bind(target="/d", source=str(tmp_path), read_only=True)]
        first, second = bundle_binds.mounts(binds, {str(path): seen.fileno(), str(tmp_path): tree})
    os.close(tree)
    assert first.socket and first.socket.mode == 0o640 and first.path == str(path)
    assert second.socket is None and second.read_only


def test_a_socket_of_another_mount_namespace_is_refused(tmp_path: Path) -> None:
    """What the engine sees at that path is not what is there for us."""
    with listening(tmp_path / "theirs"), listening(tmp_path / "ours"):
        theirs = os.open(tmp_path / "theirs", os.O_PATH)
        ours = str(tmp_path / "ours")
        with pytest.raises(InvalidInput, match="mount namespace"):
            bundle_binds.mounts([Bind(target="/s", source=ours)], {ours: theirs})
        os.close(theirs)


def test_a_socket_of_datagrams_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listening(path, socket.SOCK_DGRAM), pytest.raises(InvalidInput, match="datagrams"):
        bundle_binds.mounts([Bind(target="/s", source=str(path))], {})
