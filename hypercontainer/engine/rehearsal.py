"""What guests rehearse with: hyperstart itself, which says a word, on disks like all others, and in a folder."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from hypercontainer.factory.base import Roots
from hypercontainer.images.erofs import Writer
from hypercontainer.images.tree import Node, Tree
from hypercontainer.model.record import DiskRecord
from hypercontainer.storage import scratch


async def roots(hyperstart: Callable[[str], Path], scratch_mib: int, scratches: Path, arch: str, folder: Path) -> Roots:
    """RehearsalRoots of the factories, the scratch disk of the usual size, in `folder`."""
    image, upper, root = folder / "rehearsal.erofs", folder / "rehearsal.img", folder / "root"
    path = hyperstart(arch)
    program = path.read_bytes()
    with open(image, "xb") as out:
        tree, writer = Tree(), Writer(out)
        node = tree.add(tree.root, b"hyperstart", Node(stat.S_IFREG | 0o755))
        writer.content(node, len(program), [memoryview(program)])
        writer.finish(tree)
    os.chmod(image, 0o600)
    await scratch.create(upper, scratch_mib, scratches)
    root.mkdir()
    shutil.copy(path, root / "hyperstart")
    disks = [
        DiskRecord(target=0, path=str(image), read_only=True),
        DiskRecord(target=1, path=str(upper), read_only=False),
    ]
    return Roots(disks, root)
