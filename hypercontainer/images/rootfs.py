"""Layers -> one EROFS file, in a process of its own."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from hypercontainer.errors import Exhausted, HyperError
from hypercontainer.images.unpack import BadLayer, Layer, LayerDone
from hypercontainer.images.workspace import Workspace
from hypercontainer.lib import cgroup, document, proc

UNPACK_S = 3600.0  # a bound for the largest image on the slowest disk, no expectation
TASKS = 16  # its threads: it has two
# Python and its libraries take 20 MiB; zstd's window or xz's dictionary 128; what is on its way between threads 10.
MEMORY = 256 << 20
# A file without content is 512 bytes in a tar, eight when they are compressed, and 700 in memory with a short name.
MEMORY_FOR_A_BYTE = 128
MAX_MEMORY = 2 << 30  # a million files, with all the names and attributes that an image may have, take 1.4 GiB
CPU_S = 60
CPU_FOR_A_MIB_S = 30  # of files without content a compressed MiB takes 2.5 s; deep ones take more


class _Answer(msgspec.Struct):
    layers: list[tuple[int, int, int]] = []
    error: str = ""
    kind: str = ""


class Room(NamedTuple):
    """What unpacking may take: bytes of memory, seconds of a processor."""

    memory: int
    cpu_s: int


def of(layers: Sequence[Layer]) -> Room:
    """For each byte that came, however often a layer is named. An honest image takes a twentieth of it."""
    size = sum(os.stat(path).st_size for path in {layer.path for layer in layers})
    return Room(
        min(MEMORY + MEMORY_FOR_A_BYTE * size, MAX_MEMORY),
        int(min(CPU_S + CPU_FOR_A_MIB_S * size / (1 << 20), UNPACK_S)),
    )


async def make(
    work: Workspace,
    image: Path,
    layers: Sequence[Layer],
    room: Room | None = None,
    *,
    base: Path | None = None,
    below: int = 0,
) -> list[LayerDone]:
    """Make the EROFS file `image` of `layers`, the lowest first, within `room`. Exhausted, BadLayer.

    `base`: what the first `below` of them have made; see unpack.unpack."""
    room = room or of(layers)
    cgroups = work.bound(room.memory, TASKS)
    job = msgspec.json.encode(
        {
            "image": str(image),
            "layers": layers,
            "base": str(base or ""),
            "below": below,
            "cgroups": [str(folder) for folder in cgroups],
            "room": room,
        }
    )
    result = await proc.run(
        [sys.executable, "-I", "-m", "hypercontainer.images.unpack"],
        stdin=job,
        timeout_s=UNPACK_S,
        check=False,
        pass_fds=[work.lock],
    )
    try:
        answer = document.decode(result.stdout, _Answer, "its answer")
    except HyperError as e:
        if result.status == -signal.SIGXCPU:
            raise BadLayer(f"cannot unpack the image: that takes more than {room.cpu_s} s of a processor") from e
        if result.status == -signal.SIGKILL and cgroup.out_of_memory(cgroups):
            raise BadLayer(f"cannot unpack the image: that takes more than {room.memory >> 20} MiB of memory") from e
        tail = result.stderr.decode(errors="replace")[-500:].strip()
        raise HyperError(f"cannot unpack the image: the unpacker ended with {result.status}: {tail}") from e
    if answer.error:
        raise {"exhausted": Exhausted, "invalid": BadLayer}.get(answer.kind, HyperError)(answer.error)
    return [LayerDone(*layer) for layer in answer.layers]
