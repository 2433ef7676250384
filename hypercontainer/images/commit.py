"""An image out of another one and what a container has made of it: one more layer, and how it starts from now on."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from hypercontainer.errors import Exhausted, NotFound
from hypercontainer.images import manifest, spool
from hypercontainer.images.assemble import Report, assemble, silent
from hypercontainer.images.index import Image
from hypercontainer.images.manifest import Descriptor, History, Manifest, Platform
from hypercontainer.images.reference import Reference
from hypercontainer.images.spool import File
from hypercontainer.images.store import ImageStore
from hypercontainer.images.workspace import Workspace
from hypercontainer.lib import clock

EMPTY = manifest.digest(bytes(1024))  # of a layer with nothing in it: it is left out, as docker does


class Words(NamedTuple):
    """What the new image says of how it came about."""

    author: str = ""
    message: str = ""
    created_by: str = ""
    container: str = ""  # id of the one that it was made of
    container_config: Mapping[str, Any] | None = None  # of that, in docker's words


async def commit(
    store: ImageStore,
    parent: Image,
    layer: AsyncIterator[bytes],
    *,
    config: Mapping[str, Any],
    names: Sequence[Reference] = (),
    words: Words = Words(),  # noqa: B008  a value
    limit: int,
    report: Report = silent,
) -> Image:
    """Make an image of `parent` and a layer's tar, of `limit` bytes at most. It starts as `config` says (OCI's
    "config" of an image).

    The tar is a stranger's: it is written down as it comes, and unpacked as every layer is. BadLayer says what is wrong
    with it, Exhausted that it is larger, or that the disk is full. All or nothing.
    """
    async with store.workspace() as work:
        await asyncio.to_thread(store.hold, work, [parent])
        made = await spool.in_thread(layer, lambda pieces: spool.write(work.path / "layer", _bounded(pieces, limit)))
        digest = await asyncio.to_thread(_document, work, parent, made, config, words)
        return await assemble(store, work, digest, names, parent=parent, report=report)


async def scratch(store: ImageStore, wanted: Platform) -> Image:
    """The image with nothing in it, which builds from scratch begin with. It is the same one every time for a
    platform."""
    document = {
        "architecture": wanted.architecture,
        "os": wanted.os,
        **({"variant": wanted.variant} if wanted.variant else {}),
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": [],
    }
    data = msgspec.json.encode(document)
    with suppress(NotFound):
        return store.get(manifest.digest(data))
    async with store.workspace() as work:
        config = Descriptor(mediaType=manifest.OCI_CONFIG, digest=work.put(data), size=len(data))
        whole = Manifest(mediaType=manifest.OCI_MANIFEST, config=config, layers=[])
        return await assemble(store, work, work.put(msgspec.json.encode(whole)), [])


async def nothing() -> AsyncIterator[bytes]:
    """The layer of what changed no file."""
    yield bytes(1024)


def _bounded(pieces: Iterator[bytes], left: int) -> Iterator[bytes]:
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise Exhausted("cannot commit: the guest sends more than its image and its disk hold together")
        yield piece


def _document(work: Workspace, parent: Image, layer: File, config: Mapping[str, Any], words: Words) -> str:
    """Write the new image's documents, and have the layer among the blobs; the manifest's digest."""
    before = manifest.read_manifest(manifest.to_oci(work.blob(parent.record.manifest).read_bytes()))
    whole = manifest.read_config(work.blob(parent.id).read_bytes())
    empty = layer.digest == EMPTY
    if not empty:
        work.adopt(layer.path, layer.digest)
    now = clock.rfc3339(clock.now_ns())
    step = History(
        created=now,
        created_by=words.created_by or None,
        author=words.author or None,
        comment=words.message or None,
        empty_layer=empty or None,
    )
    document = msgspec.json.encode(
        {
            "architecture": whole.architecture,
            "os": whole.os,
            **({"variant": whole.variant} if whole.variant else {}),
            "created": now,
            **({"author": words.author} if words.author else {}),
            **({"container": words.container} if words.container else {}),
            **({"container_config": words.container_config} if words.container_config else {}),
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [*whole.diff_ids, *([] if empty else [layer.digest])]},
            "history": [*(whole.history or [History() for _ in whole.diff_ids]), step],
        }
    )
    manifest.read_config(document)
    added = Descriptor(mediaType=manifest.OCI_LAYER, digest=layer.digest, size=layer.size)
    return work.put(
        msgspec.json.encode(
            Manifest(
                mediaType=manifest.OCI_MANIFEST,
                config=Descriptor(mediaType=manifest.OCI_CONFIG, digest=work.put(document), size=len(document)),
                layers=[*before.layers, *([] if empty else [added])],
            )
        )
    )
