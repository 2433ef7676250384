"""Devices that a guest has by itself, which a container may be given by name. Those of the host are in no guest."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hypercontainer.engine.mounts import absolute
from hypercontainer.errors import InvalidInput
from hypercontainer.lib import files
from hypercontainer.model import container, spec
from hypercontainer.model.kube import KubeDevice
from hypercontainer.model.record import BlockRecord, DiskRecord

MOST = 32


class _Numbers(NamedTuple):
    major: int
    minor: int
    mode: int = 0o666


# Character devices, by the numbers that Linux has given them for good: Documentation/admin-guide/devices.txt.
USUAL = {  # of every container
    "/dev/null": _Numbers(1, 3), "/dev/zero": _Numbers(1, 5), "/dev/full": _Numbers(1, 7),
    "/dev/random": _Numbers(1, 8), "/dev/urandom": _Numbers(1, 9), "/dev/tty": _Numbers(5, 0),
}  # fmt: skip
KNOWN = {**USUAL, "/dev/fuse": _Numbers(10, 229), "/dev/kmsg": _Numbers(1, 11, 0o644)}


def resolve(asked: Sequence[spec.Device]) -> list[container.Device]:
    """Those that are to be made, but for what is there anyway. InvalidInput for what no guest has."""
    if len(asked) > MOST:
        raise InvalidInput(f"cannot give {len(asked)} devices: {MOST} at most")
    return [_device(each) for each in asked if each.path not in USUAL or each.target not in ("", each.path)]


def blocks(asked: Sequence[KubeDevice]) -> list[BlockRecord]:
    """Those that are block devices of this host: a guest has them as disks. InvalidInput for what is not there, and for
    what is at one place twice."""
    found = [made for each in asked if (made := _block(each))]
    if len({block.path for block in found}) < len(found):
        raise InvalidInput("cannot give two devices at one path")
    return found


def _block(asked: KubeDevice) -> BlockRecord | None:
    with files.telling(f"give device {asked.path[:200]}", InvalidInput):
        if asked.path in KNOWN or not stat.S_ISBLK((status := os.stat(asked.path)).st_mode):
            return None
    return BlockRecord(
        path=absolute(asked.target or asked.path, "path of a device"),
        disk=DiskRecord(target=0, path=str(Path(asked.path).resolve()), read_only=asked.read_only, device=True),
        mode=stat.S_IMODE(status.st_mode) & 0o777,
        uid=status.st_uid,
        gid=status.st_gid,
    )


def _device(asked: spec.Device) -> container.Device:
    if not (numbers := KNOWN.get(asked.path)):
        there = ", ".join(sorted(KNOWN))
        raise InvalidInput(
            f"cannot give device {asked.path[:200]!r}: a virtual machine has no devices of the host; it has {there}"
        )
    return container.Device(
        path=absolute(asked.target or asked.path, "path of a device"),
        type="c",
        major=numbers.major,
        minor=numbers.minor,
        file_mode=numbers.mode,
    )
