"""Archives of images: `load` reads what docker, podman, skopeo and containerd write, from any stream."""

import asyncio
import os
from collections.abc import AsyncIterator

from hypercontainer.images import layout, spool
from hypercontainer.images.assemble import Report, assemble, silent
from hypercontainer.images.index import Image
from hypercontainer.images.layout import Found
from hypercontainer.images.store import ImageStore
from hypercontainer.images.workspace import Workspace
from hypercontainer.model.documents import Progress


async def load(store: ImageStore, chunks: AsyncIterator[bytes], report: Report = silent) -> list[Image]:
    """Take every image of a docker archive, or of an OCI layout in a tar, compressed or not, into the store.

    Each image is all or nothing; those before one that fails stay. InvalidInput names what is wrong with the archive
    (BadLayer: with a layer), Exhausted says that the disk is full.
    """
    loop = asyncio.get_running_loop()

    def tell(name: str, size: int) -> None:
        loop.call_soon_threadsafe(report, Progress(id=name[-40:], action="Read", current=size, total=size))

    async with store.workspace() as work:
        archive = await spool.in_thread(chunks, lambda pieces: spool.unpack(work.path, pieces, tell))
        images = []
        for found in await asyncio.to_thread(layout.read, archive):
            digest = await asyncio.to_thread(_adopt, work, found)
            images.append(await assemble(store, work, digest, found.names, report=report))
        return images


def _adopt(work: Workspace, found: Found) -> str:
    """Let the files of an image be blobs of `work`; returns its manifest's digest."""
    work.put(found.config)
    for layer in found.layers:
        if not work.blob(layer.digest).exists():
            os.link(layer.path, work.blob(layer.digest))
    return work.put(found.manifest)
