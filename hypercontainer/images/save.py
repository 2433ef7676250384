"""Images -> one tar that docker, podman, skopeo and we can load, made as it is read."""

import asyncio
import json
import tarfile
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from hypercontainer.errors import HyperError, InvalidInput
from hypercontainer.images import compression, manifest, reference, tar
from hypercontainer.images.index import Image
from hypercontainer.images.layout import CONTAINERD_NAME, OCI_NAME
from hypercontainer.images.manifest import Descriptor, Index, Platform
from hypercontainer.images.store import ImageStore
from hypercontainer.images.workspace import Workspace

Chosen = list[tuple[Image, list[str]]]  # with the names, in full, to save it under


def save(
    store: ImageStore,
    names: Sequence[str],
    format: Literal["docker", "oci"] = "docker",
    platforms: Sequence[str] = (),
) -> AsyncGenerator[bytes, None]:
    """A tar of the images, of each name for all platforms that are here or for each of `platforms`; NotFound and
    InvalidInput are raised by the call, not by the iteration.

    A name without a tag stands for all tags of its repository; an image named by id is saved without a name. docker:
    `docker save`'s layout, layers without compression. oci: an OCI layout, every blob as it
    is in the store, but a manifest in docker's words is put into OCI's; a name of several images is an index.
    """
    if not names:
        raise InvalidInput("cannot save no image: name one")
    chosen = choose(store, names, platforms)
    return _archive(store, chosen, format)


def choose(store: ImageStore, names: Sequence[str], platforms: Sequence[str] = ()) -> Chosen:
    found: dict[str, tuple[Image, list[str]]] = {}
    for name in names:
        for image, given in _find(store, name, platforms):
            found.setdefault(image.id, (image, []))[1].extend(n for n in given if n not in found[image.id][1])
    return list(found.values())


def _find(store: ImageStore, name: str, platforms: Sequence[str]) -> list[tuple[Image, list[str]]]:
    repository = reference.bare(name)
    if repository:
        tags = sorted({ref for image in store.list() for ref in map(reference.parse, image.names)})
        if refs := [ref.canonical for ref in tags if ref[:2] == repository[:2]]:
            return [(image, [ref]) for ref in refs for image in store.named(ref, platforms)]
    try:
        asked = reference.parse(name).canonical
    except InvalidInput:
        asked = ""
    found = store.named(name, platforms)
    return [(image, [n for n in (reference.parse(n).canonical for n in image.names) if n == asked]) for image in found]


async def _archive(store: ImageStore, chosen: Chosen, layout: str) -> AsyncGenerator[bytes, None]:
    async with store.workspace() as work:
        await asyncio.to_thread(store.hold, work, [image for image, _ in chosen])
        members = _docker(work, chosen) if layout == "docker" else _oci(work, chosen)
        while piece := await asyncio.to_thread(next, members, b""):
            yield piece
        yield bytes(2 * tarfile.BLOCKSIZE)


def _docker(work: Workspace, chosen: Chosen) -> Iterator[bytes]:
    items = []
    done: set[str] = set()
    for image, names in chosen:
        record = image.record
        layers = [f"{d.removeprefix('sha256:')}/layer.tar" for d in record.diff_ids]
        config = f"{record.config.removeprefix('sha256:')}.json"
        tags = [str(reference.parse(name)) for name in names]
        items.append({"Config": config, "RepoTags": tags or None, "Layers": layers})
        yield from _small(config, work.blob(record.config).read_bytes())
        for name, digest, size in zip(layers, record.layers, record.tar_sizes, strict=True):
            if name not in done:
                done.add(name)
                yield from _member(name, size, _padded(compression.plain(_read(work.blob(digest))), size))
    yield from _small("manifest.json", json.dumps(items).encode())


def _oci(work: Workspace, chosen: Chosen) -> Iterator[bytes]:
    yield from _small("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    there: dict[str, list[tuple[Descriptor, Platform]]] = {}  # by name
    nameless: list[Descriptor] = []
    done: set[str] = set()
    for image, names in chosen:
        data = manifest.to_oci(work.blob(image.record.manifest).read_bytes())
        one = _described(data, manifest.OCI_MANIFEST)
        for name in names:
            there.setdefault(name, []).append((one, image.record.platform))
        nameless += [] if names else [one]
        if one.digest not in done:
            done.add(one.digest)
            yield from _small(_blob(one.digest), data)
        for digest in {image.record.config: 0, **dict.fromkeys(image.record.layers)}:
            if digest not in done:
                done.add(digest)
                path = work.blob(digest)
                yield from _member(_blob(digest), path.stat().st_size, _read(path))
    for name, images in there.items():
        top = images[0][0]
        if len(images) > 1:
            data = manifest.index_of(images)
            top = _described(data, manifest.OCI_INDEX)
            if top.digest not in done:
                done.add(top.digest)
                yield from _small(_blob(top.digest), data)
        annotations = {CONTAINERD_NAME: name, OCI_NAME: reference.parse(name).tag}
        nameless.append(msgspec.structs.replace(top, annotations=annotations))
    yield from _small("index.json", msgspec.json.encode(Index(manifests=nameless)))


def _described(data: bytes, media_type: str) -> Descriptor:
    return Descriptor(mediaType=media_type, digest=manifest.digest(data), size=len(data))


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _read(path: Path) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as f:
        while data := f.read(compression.PIECE):
            yield data


def _padded(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """With the zeros that the layer's digest counts, where they are left out of the blob."""
    for piece in pieces:
        size -= len(piece)
        yield piece
    if 0 < size < tar.RECORD:
        yield bytes(size)


def _small(name: str, data: bytes) -> Iterator[bytes]:
    return _member(name, len(data), iter([data]))


def _member(name: str, size: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """A file's entry. HyperError when it is not as long as was known: the tar would be damaged."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    yield info.tobuf(tarfile.PAX_FORMAT)
    left = size
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            break
        if piece:
            yield piece
    if left:
        raise HyperError(f"cannot save {name}: it does not have the {size} bytes that it had")
    if size % tarfile.BLOCKSIZE:
        yield bytes(-size % tarfile.BLOCKSIZE)
