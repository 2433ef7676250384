"""Binds of a bundle: folders and files are shown to the guest, connections to sockets are carried."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from hypercontainer.errors import InvalidInput
from hypercontainer.lib import files
from hypercontainer.model.bundle import Bind
from hypercontainer.model.record import MountRecord, SocketRecord
from hypercontainer.sandbox import relay


def mounts(binds: Sequence[Bind], trees: Mapping[str, int]) -> list[MountRecord]:
    """As they are recorded. `trees`: what the engine sees at their sources; of others what is seen here counts.
    InvalidInput for a socket that cannot be carried."""
    return [
        MountRecord(
            type="bind",
            target=bind.target,
            source=bind.source,
            path=bind.source,
            read_only=bind.read_only,
            ids=bind.ids,
            socket=_socket(bind.source, trees),
        )
        for bind in binds
    ]


def _socket(source: str, trees: Mapping[str, int]) -> SocketRecord | None:
    """Whose socket it is; None: it is something else. A socket is connected to by its path, so that has to be one here:
    who made the bundle may be in another mount namespace."""
    with files.telling(f"mount {source}", InvalidInput):
        if source not in trees and not os.path.exists(source):
            return None  # whoever mounts it says so
        status = os.fstat(trees[source]) if source in trees else os.stat(source)
        found = relay.owner(status)
        if found is None:
            return None
        if not (os.path.exists(source) and os.path.samestat(status, os.stat(source))):
            raise InvalidInput(f"cannot mount {source}: it is a socket in a mount namespace that hyperd is not in")
        if relay.has_datagrams(Path(source)):
            raise InvalidInput(f"cannot mount {source}: it is a socket of datagrams, and streams are carried alone")
    return found
