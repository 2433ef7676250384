"""Layers -> one EROFS file, in a process of its own."""

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from hypercontainer.errors import Exhausted, HyperError
from hypercontainer.images.unpack import BadLayer, Layer, LayerDone
from hypercontainer.images.workspace import Workspace
from hypercontainer.lib import document, proc

UNPACK_S = 3600.0  # a bound for the largest image on the slowest disk, no expectation


class _Answer(msgspec.Struct):
    layers: list[tuple[int, int, int]] = []
    error: str = ""
    kind: str = ""


async def make(work: Workspace, image: Path, layers: Sequence[Layer]) -> list[LayerDone]:
    """Make the EROFS file `image` of `layers`, the lowest first. Exhausted, BadLayer."""
    job = msgspec.json.encode({"image": str(image), "layers": layers})
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
        tail = result.stderr.decode(errors="replace")[-500:].strip()
        raise HyperError(f"cannot unpack the image: the unpacker ended with {result.status}: {tail}") from e
    if answer.error:
        raise {"exhausted": Exhausted, "invalid": BadLayer}.get(answer.kind, HyperError)(answer.error)
    return [LayerDone(*layer) for layer in answer.layers]
