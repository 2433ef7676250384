"""Layers -> one EROFS file, by way of a temporary tree. All of it in processes of its own."""

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from hypercontainer.errors import Exhausted, HyperError, InvalidInput
from hypercontainer.images.unpack import LATEST_S, BadLayer, Layer, LayerDone
from hypercontainer.images.workspace import Workspace
from hypercontainer.lib import proc

UNPACK_S, MKFS_S = 3600.0, 3600.0  # bounds for the largest image on the slowest disk, not expectations
FIXED_UUID = "00000000-0000-0000-0000-000000000000"


class _Answer(msgspec.Struct):
    layers: list[tuple[int, int, int]] = []
    error: str = ""
    kind: str = ""


async def unpack(work: Workspace, tree: Path, layers: Sequence[Layer]) -> list[LayerDone]:
    """Put `layers`, the lowest first, into `tree`, an empty folder."""
    job = msgspec.json.encode({"folder": str(tree), "layers": layers})
    result = await proc.run(
        [sys.executable, "-I", "-m", "hypercontainer.images.unpack"],
        stdin=job,
        timeout_s=UNPACK_S,
        check=False,
        pass_fds=[work.lock],
    )
    try:
        answer = msgspec.json.decode(result.stdout, type=_Answer)
    except msgspec.DecodeError as e:
        tail = result.stderr.decode(errors="replace")[-500:].strip()
        raise HyperError(f"cannot unpack the image: the unpacker ended with {result.status}: {tail}") from e
    if answer.error:
        raise {"exhausted": Exhausted, "invalid": BadLayer}.get(answer.kind, HyperError)(answer.error)
    return [LayerDone(*layer) for layer in answer.layers]


async def make(work: Workspace, tree: Path, image: Path) -> None:
    """Write `tree` as the EROFS file `image`: no compression, so that guests spend no time on it; reproducible.

    SOURCE_DATE_EPOCH is the time of the file system itself, and the latest that a file may have.
    """
    try:
        await proc.run(
            ["mkfs.erofs", "--quiet", "--preserve-mtime", f"-U{FIXED_UUID}", image, "."],
            timeout_s=MKFS_S,
            cwd=tree,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SOURCE_DATE_EPOCH": str(LATEST_S)},
            pass_fds=[work.lock],
        )
    except proc.CommandFailed as e:
        if "No space left" in e.stderr or "Disk quota" in e.stderr:
            raise Exhausted("cannot write the image's root file system: no space left on the disk") from e
        why = e.stderr.partition("usage:")[0].strip()[-300:] or f"mkfs.erofs ended with {e.status}"
        raise InvalidInput(f"cannot write the image's root file system: {why}") from e
    image.chmod(0o600)
