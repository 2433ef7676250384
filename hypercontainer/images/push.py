"""Images to registries: what is there already is not sent, what another repository has is taken from it."""

import asyncio
import os
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from hypercontainer.errors import InvalidInput, NotFound
from hypercontainer.images import compression, manifest, reference, spool, upload
from hypercontainer.images.assemble import Report, short, silent
from hypercontainer.images.hosts import Registries
from hypercontainer.images.index import Image, ImageRecord
from hypercontainer.images.manifest import Descriptor, Manifest
from hypercontainer.images.pull import first
from hypercontainer.images.reference import Reference
from hypercontainer.images.registry import Document
from hypercontainer.images.store import ImageStore
from hypercontainer.images.transport import Retry
from hypercontainer.images.upload import Destination
from hypercontainer.images.workspace import Workspace
from hypercontainer.lib.tasks import uninterrupted
from hypercontainer.model.api import Credentials
from hypercontainer.model.documents import Progress, Pushed

AT_ONCE = 5  # layers, as docker
GZIP = 31  # zlib's number for it; without a time, so that the same layer is the same blob


class _Work(NamedTuple):
    """An image that is being pushed: its blobs in a workspace, its manifest as the registry is to have it."""

    work: Workspace
    image: Image
    data: bytes
    blobs: Manifest

    @property
    def digest(self) -> str:
        return manifest.digest(self.data)

    @property
    def kind(self) -> str:
        return self.blobs.mediaType or manifest.OCI_MANIFEST

    @property
    def described(self) -> Descriptor:
        return Descriptor(mediaType=self.kind, digest=self.digest, size=len(self.data))


async def push(
    store: ImageStore,
    name: str,
    *,
    all_tags: bool = False,
    platform: str = "",
    credentials: Credentials | None = None,
    registries: Registries | None = None,
    report: Report = silent,
    retry: Retry = Retry(),  # noqa: B008  a value
) -> list[Pushed]:
    """Send the image of this name, or with `all_tags` those of all tags of the repository, to the registry in the name.
    One that is here for several platforms goes for all of them, and the tag is an index; with `platform` it is the one
    for that.

    An image that a registry knows goes as it came, to the byte; of any other one the layers are compressed first, and
    are so in the store from then on. NotFound: no such image. Denied: credentials. Unavailable: the registry.
    """
    refs = _refs(store, name, platform, all_tags=all_tags)
    report(Progress(id="", action=f"The push refers to repository [{refs[0].domain}/{refs[0].path}]"))
    async with upload.connect(refs[0], registries, credentials, retry) as destination:
        return [await _push(store, destination, ref, platform, report) for ref in refs]


def _refs(store: ImageStore, name: str, platform: str, *, all_tags: bool) -> Sequence[Reference]:
    ref = reference.parse(name)
    if ref.digest:
        raise InvalidInput(f"cannot push {name}: a digest is not given but computed, name a tag")
    if not all_tags:
        store.get(ref.canonical, platform)
        return [ref]
    if reference.bare(name) is None:
        raise InvalidInput(f"cannot push all tags of {name}: name the repository, without a tag")
    named = [reference.parse(one) for image in store.list() for one in image.names]
    found = sorted({one for one in named if one[:2] == ref[:2]})
    if not found:
        raise NotFound("image", name)
    for one in found:
        store.get(one.canonical, platform)
    return found


async def _push(store: ImageStore, destination: Destination, ref: Reference, platform: str, report: Report) -> Pushed:
    async with store.workspace() as work:
        images = store.named(ref.canonical, [platform] if platform else [])
        await asyncio.to_thread(_hold, store, work, images)
        ready = [await _ready(work, image, report) for image in images]
        for one in ready:
            await _Push(store, destination, ref, one, report).blobs()
        top = await _named(destination, ref.tag, ready, report, alone=bool(platform))
        name = f"{ref.domain}/{ref.path}"
        for one in ready:
            await asyncio.to_thread(_keep, store, one, sorted({f"{name}@{d}" for d in (one.digest, top.digest)}))
        size = len(top.data)
        report(Progress(id=ref.tag, action=f"digest: {top.digest} size: {size}"))
        return Pushed(name=name, tag=ref.tag, digest=top.digest, size=size)


def _hold(store: ImageStore, work: Workspace, images: Sequence[Image]) -> None:
    store.hold(work, images)
    for chain, path in {image.record.chain: store.rootfs(image) for image in images}.items():
        os.link(path, work.path / f"{chain}.erofs")


async def _named(
    destination: Destination, tag: str, ready: Sequence[_Work], report: Report, *, alone: bool
) -> Document:
    """Let the tag be these images, and what it is then: an index that names them stays, with all that it has for
    others, unless the image was wanted `alone`."""
    if not alone and (index := await destination.index(tag, {one.digest for one in ready})):
        what = "this image" if len(ready) == 1 else "these images"
        report(Progress(id="", action=f"{tag} is an index that names {what}: it stays as it is"))
        return index
    if len(ready) == 1:
        [one] = ready
        top = Document(one.data, one.kind, one.digest)
    else:
        for one in ready:
            await destination.manifest(one.data, one.kind, one.digest)
        data = manifest.index_of([(one.described, one.image.record.platform) for one in ready])
        top = Document(data, manifest.OCI_INDEX, manifest.digest(data))
    await destination.manifest(top.data, top.media_type, tag)
    return top


async def _ready(work: Workspace, image: Image, report: Report) -> _Work:
    """The manifest to push. Its layers are compressed, unless a registry knows it as it is."""
    data = work.blob(image.record.manifest).read_bytes()
    blobs = manifest.read_manifest(data)
    if image.record.digests or not blobs.layers:
        return _Work(work, image, data, blobs)
    layers = [
        await _compressed(work, layer, diff_id, report)
        for layer, diff_id in zip(blobs.layers, image.record.diff_ids, strict=True)
    ]
    if layers != blobs.layers:
        said = manifest.read_manifest(manifest.to_oci(data))
        named = [new if new != old else same for new, old, same in zip(layers, blobs.layers, said.layers, strict=True)]
        blobs = msgspec.structs.replace(said, layers=named)
        data = msgspec.json.encode(blobs)
    return _Work(work, image, data, blobs)


async def _compressed(work: Workspace, layer: Descriptor, diff_id: str, report: Report) -> Descriptor:
    source = work.blob(layer.digest)
    with open(source, "rb") as f:
        if compression.kind(f.read(8)):
            return layer
    report(Progress(id=short(diff_id), action="Compressing", total=layer.size))
    stop = threading.Event()
    task = asyncio.ensure_future(asyncio.to_thread(_gzip, source, work.path / f"{layer.hex}.gz", stop))
    try:
        made = await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await uninterrupted(asyncio.wait([task]))
        raise
    work.adopt(made.path, made.digest)
    return Descriptor(mediaType=f"{manifest.OCI_LAYER}+gzip", digest=made.digest, size=made.size)


def _gzip(source: Path, target: Path, stop: threading.Event) -> spool.File:
    def pieces() -> Iterator[bytes]:
        z = zlib.compressobj(wbits=GZIP)
        with open(source, "rb", buffering=0) as f:
            while not stop.is_set() and (data := f.read(compression.PIECE)):
                yield z.compress(data)
        yield z.flush()

    target.unlink(missing_ok=True)  # one layer, twice in an image
    return spool.write(target, pieces())


class _Push:
    """The blobs of one image on their way."""

    def __init__(
        self, store: ImageStore, destination: Destination, ref: Reference, ready: _Work, report: Report
    ) -> None:
        self._store, self._destination, self._ref, self._ready, self._report = store, destination, ref, ready, report
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def blobs(self) -> None:
        layers = dict(zip((b.digest for b in self._ready.blobs.layers), self._ready.image.record.diff_ids, strict=True))
        origins = self._origins()
        try:
            async with asyncio.TaskGroup() as group:
                for blob in {b.digest: b for b in self._ready.blobs.layers}.values():
                    group.create_task(self._layer(blob, short(layers[blob.digest]), origins.get(blob.digest, "")))
        except BaseExceptionGroup as e:
            raise first(e) from None
        if not await self._destination.has(self._ready.blobs.config.digest):
            await self._put(self._ready.blobs.config, "")

    def _origins(self) -> dict[str, str]:
        """Layer -> another repository of this registry that was seen to have it."""
        found: dict[str, str] = {}
        for image in self._store.list():
            for ref in map(reference.parse, image.digests):
                if ref.domain == self._ref.domain and ref.path != self._ref.path:
                    found.update(dict.fromkeys(image.record.layers, ref.path))
        return found

    async def _layer(self, blob: Descriptor, id: str, origin: str) -> None:
        self._report(Progress(id=id, action="Preparing"))
        async with self._slots:
            if await self._destination.has(blob.digest):
                self._report(Progress(id=id, action="Layer already exists"))
            elif origin and await self._destination.mount(blob.digest, origin):
                self._report(Progress(id=id, action=f"Mounted from {origin}"))
            else:
                await self._put(blob, id)
                self._report(Progress(id=id, action="Pushed"))

    async def _put(self, blob: Descriptor, id: str) -> None:
        def tell(sent: int) -> None:
            if id:
                self._report(Progress(id=id, action="Pushing", current=sent, total=blob.size))

        tell(0)
        await self._destination.put(blob, self._ready.work.blob(blob.digest), tell)


def _keep(store: ImageStore, ready: _Work, known: list[str]) -> None:
    """Let the image be in the store as the registry has it. One that was removed meanwhile stays away."""
    record: ImageRecord = msgspec.structs.replace(
        ready.image.record,
        manifest=ready.digest,
        layers=[layer.digest for layer in ready.blobs.layers],
        blob_size=sum(layer.size for layer in ready.blobs.layers),
        digests=known,
    )
    ready.work.put(ready.data)
    store.publish(ready.work, ready.image.id, record, [], known=True)
