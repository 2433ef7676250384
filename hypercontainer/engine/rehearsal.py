"""What guests rehearse with: hyperstart itself, and users as an image has them, on disks and in a folder."""

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

PASSWD, GROUP = b"root:x:0:0:root:/root:/bin/sh\n", b"root:x:0:\n"


async def roots(hyperstart: Callable[[str], Path], scratch_mib: int, scratches: Path, arch: str, folder: Path) -> Roots:
    """RehearsalRoots of the factories, the scratch disk of the usual size, in `folder`."""
    image, upper, root = folder / "rehearsal.erofs", folder / "rehearsal.img", folder / "root"
    path = hyperstart(arch)
    with open(image, "xb") as out:
        tree, writer = Tree(), Writer(out)
        etc = tree.add(tree.root, b"etc", Node(stat.S_IFDIR | 0o755))
        for place, name, mode, content in (
            (tree.root, b"hyperstart", 0o755, path.read_bytes()),
            (etc, b"passwd", 0o644, PASSWD),
            (etc, b"group", 0o644, GROUP),
        ):
            node = tree.add(place, name, Node(stat.S_IFREG | mode))
            writer.content(node, len(content), [memoryview(content)])
        writer.finish(tree)
    os.chmod(image, 0o600)
    await scratch.create(upper, scratch_mib, scratches)
    (root / "etc").mkdir(parents=True)
    shutil.copy(path, root / "hyperstart")
    (root / "etc/passwd").write_bytes(PASSWD)
    (root / "etc/group").write_bytes(GROUP)
    disks = [
        DiskRecord(target=0, path=str(image), read_only=True),
        DiskRecord(target=1, path=str(upper), read_only=False),
    ]
    return Roots(disks, root)
