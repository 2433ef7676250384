"""Blobs in a workspace -> an image in the store: the last part of pull, load and import alike."""

import asyncio
import os
from collections.abc import Callable, Sequence

from hypercontainer.errors import InvalidInput
from hypercontainer.images import manifest, rootfs
from hypercontainer.images.index import Image, ImageRecord
from hypercontainer.images.manifest import Config, Manifest
from hypercontainer.images.reference import Reference
from hypercontainer.images.store import ImageStore
from hypercontainer.images.unpack import Layer, LayerDone
from hypercontainer.images.workspace import Workspace
from hypercontainer.model.documents import Progress

Report = Callable[[Progress], None]
EMPTY = manifest.digest(b"").removeprefix("sha256:")  # the chain of an image without layers


def silent(progress: Progress) -> None:
    """For callers who do not want to know."""


def short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


async def assemble(
    store: ImageStore,
    work: Workspace,
    manifest_digest: str,
    names: Sequence[Reference],
    *,
    digests: Sequence[str] = (),
    parent: Image | None = None,
    report: Report = silent,
) -> Image:
    """Make the image whose manifest, configuration and layers are blobs of `work`; all or nothing. `parent`: the image
    whose layers it has, and more.

    BadLayer when a layer's content is not what the configuration says; Exhausted when the disk is full.
    """
    blobs = manifest.read_manifest(work.blob(manifest_digest).read_bytes())
    config = manifest.read_config(work.blob(blobs.config.digest).read_bytes(), len(blobs.layers))
    if config.os not in ("linux", ""):
        raise InvalidInput(f"cannot use the image: it is for {config.os}, and guests run linux")
    chain = manifest.chain(config.diff_ids)[-1].removeprefix("sha256:") if config.diff_ids else EMPTY
    layers = await _rootfs(store, work, chain, blobs, config, parent, report)
    record = _record(manifest_digest, blobs, config, chain, layers, digests, parent.id if parent else "")
    return await asyncio.to_thread(store.publish, work, blobs.config.digest, record, names)


async def _rootfs(
    store: ImageStore,
    work: Workspace,
    chain: str,
    blobs: Manifest,
    config: Config,
    parent: Image | None,
    report: Report,
) -> list[LayerDone]:
    """Make the root file system, unless the store has it. What the layers hold, either way."""
    target = work.path / f"{chain}.erofs"
    there = store.find_chain(chain)
    if there is not None and _share(store, chain, target):
        return _recorded(there)
    report(Progress(id=short(chain), action="Unpacking"))
    layers = [Layer(str(work.blob(b.digest)), d) for b, d in zip(blobs.layers, config.diff_ids, strict=True)]
    base = work.path / "base.erofs"
    if parent is None or not _share(store, parent.record.chain, base):
        return await rootfs.make(work, target, layers)
    done = await rootfs.make(work, target, layers, base=base, below=len(parent.record.diff_ids))
    return [*_recorded(parent.record)[: len(layers) - len(done)], *done]


def _recorded(record: ImageRecord) -> list[LayerDone]:
    return [LayerDone(tar, size, 0) for tar, size in zip(record.tar_sizes, record.sizes, strict=True)]


def _share(store: ImageStore, chain: str, target: os.PathLike[str]) -> bool:
    """Hold on to the store's file by a link of our own, so that no removal in between takes it."""
    try:
        os.link(store.rootfs_of(chain), target)
    except FileNotFoundError:
        return False
    except FileExistsError:  # two images of one archive have it
        pass
    return True


def _record(
    manifest_digest: str,
    blobs: Manifest,
    config: Config,
    chain: str,
    layers: Sequence[LayerDone],
    digests: Sequence[str],
    parent: str,
) -> ImageRecord:
    return ImageRecord(
        manifest=manifest_digest,
        config=blobs.config.digest,
        layers=[layer.digest for layer in blobs.layers],
        diff_ids=config.diff_ids,
        chain=chain,
        tar_sizes=[layer.tar_size for layer in layers],
        sizes=[layer.size for layer in layers],
        blob_size=sum(layer.size for layer in blobs.layers),
        architecture=config.architecture,
        os=config.os,
        variant=config.variant or "",
        created_ns=manifest.time_ns(config.created),
        digests=list(digests),
        parent=parent,
    )
