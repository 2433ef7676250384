"""The container that guests rehearse with: hyperstart itself, which says a word and ends, on disks like all others."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from hypercontainer.images.erofs import Writer
from hypercontainer.images.tree import Node, Tree
from hypercontainer.model.record import DiskRecord
from hypercontainer.storage import scratch


async def disks(hyperstart: Path, scratch_mib: int, scratches: Path, folder: Path) -> Sequence[DiskRecord]:
    """RehearsalDisks of the factories: an image with the program, and a scratch disk of the usual size, in `folder`."""
    image, upper = folder / "rehearsal.erofs", folder / "rehearsal.img"
    program = hyperstart.read_bytes()
    with open(image, "xb") as out:
        tree, writer = Tree(), Writer(out)
        node = tree.add(tree.root, b"hyperstart", Node(stat.S_IFREG | 0o755))
        writer.content(node, len(program), [memoryview(program)])
        writer.finish(tree)
    os.chmod(image, 0o600)
    await scratch.create(upper, scratch_mib, scratches)
    return [
        DiskRecord(target=0, path=str(image), read_only=True),
        DiskRecord(target=1, path=str(upper), read_only=False),
    ]
