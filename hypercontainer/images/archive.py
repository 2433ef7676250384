"""Images out of streams: `load` reads what docker, podman, skopeo and containerd write, `import_image` a plain tar."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from hypercontainer.errors import InvalidInput
from hypercontainer.images import layout, reference, spool
from hypercontainer.images import platform as platforms
from hypercontainer.images.assemble import Report, assemble, silent
from hypercontainer.images.index import Image
from hypercontainer.images.layout import Found
from hypercontainer.images.manifest import Platform
from hypercontainer.images.spool import MAX_ARCHIVE
from hypercontainer.images.store import ImageStore
from hypercontainer.images.workspace import Workspace
from hypercontainer.lib import clock
from hypercontainer.model.documents import Progress


async def load(
    store: ImageStore, chunks: AsyncIterator[bytes], report: Report = silent, *, wanted: Sequence[str] = ()
) -> list[Image]:
    """Take every image of a docker archive, or of an OCI layout in a tar, compressed or not, into the store: for all
    platforms, or those `wanted`.

    Each image is all or nothing; those before one that fails stay. `names` of what is returned are those that the
    archive gave, however many the image has besides. InvalidInput names what is wrong with the archive
    (BadLayer: with a layer), NotFound for which platforms it has images, Exhausted that the disk is full.
    """
    loop = asyncio.get_running_loop()
    those = [platforms.parse(each) for each in wanted]

    def tell(name: str, size: int) -> None:
        loop.call_soon_threadsafe(report, Progress(id=name[-40:], action="Read", current=size, total=size))

    async with store.workspace() as work:
        archive = await spool.in_thread(chunks, lambda pieces: spool.unpack(work.path, pieces, tell))
        images = []
        try:
            known = await asyncio.to_thread(layout.read, archive, those)
        finally:
            archive.abandon()
        for found in known:
            digest = await asyncio.to_thread(_adopt, work, found)
            image = await assemble(store, work, digest, found.names, report=report)
            images.append(msgspec.structs.replace(image, names=sorted(str(name) for name in found.names)))
        return images


def _adopt(work: Workspace, found: Found) -> str:
    """Let the files of an image be blobs of `work`; returns its manifest's digest."""
    work.put(found.config)
    for layer in found.layers:
        if not work.blob(layer.digest).exists():
            os.link(layer.path, work.blob(layer.digest))
    return work.put(found.manifest)


async def import_image(
    store: ImageStore,
    chunks: AsyncIterator[bytes],
    *,
    name: str = "",
    config: Mapping[str, Any] = MappingProxyType({}),
    message: str = "",
    platform: str = "",
    report: Report = silent,
) -> Image:
    """Make an image of one layer out of a root file system's tar, compressed or not; `platform` "" is this machine's.

    `config`: OCI's, of how it starts. InvalidInput says what is wrong with the name, the platform or the tar.
    """
    names = [reference.parse(name)] if name else []
    if names and names[0].digest:
        raise InvalidInput(f"cannot import as {name}: a digest is not given but computed")
    wanted = platforms.parse(platform)
    async with store.workspace() as work:
        layer = await spool.in_thread(chunks, lambda pieces: spool.write(work.path / "layer", _bounded(pieces)))
        document = _document(config, layer.digest, message, wanted)
        found = await asyncio.to_thread(layout.synthesize, document, [layer], names)
        digest = await asyncio.to_thread(_adopt, work, found)
        return await assemble(store, work, digest, names, report=report)


def _bounded(pieces: Iterator[bytes]) -> Iterator[bytes]:
    left = MAX_ARCHIVE
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise InvalidInput(f"cannot import a tar of more than {MAX_ARCHIVE} bytes")
        yield piece


def _document(config: Mapping[str, Any], diff_id: str, message: str, platform: Platform) -> bytes:
    now = clock.rfc3339(clock.now_ns())
    document = {
        "architecture": platform.architecture,
        "os": platform.os,
        **({"variant": platform.variant} if platform.variant else {}),
        "created": now,
        "comment": message,
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": now, "comment": message or "imported"}],
    }
    return json.dumps(document).encode()
