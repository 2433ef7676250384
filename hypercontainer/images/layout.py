"""What is in an archive of images: docker's manifest.json, an OCI layout, or docker's layout before 2016."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from hypercontainer.errors import InvalidInput, NotFound
from hypercontainer.images import compression, legacy, manifest, platform, reference
from hypercontainer.images.manifest import MAX_CONFIG, MAX_LAYERS, MAX_MANIFEST, Descriptor, Manifest, Platform
from hypercontainer.images.reference import Reference
from hypercontainer.images.spool import MAX_IMAGES, Archive, File
from hypercontainer.lib import foreign

CONTAINERD_NAME, OCI_NAME = "io.containerd.image.name", "org.opencontainers.image.ref.name"
SUFFIX = {"": "", "gzip": "+gzip", "zstd": "+zstd"}


class Found(NamedTuple):
    """An image in an archive, its documents read, its layers files."""

    manifest: bytes
    config: bytes
    layers: list[File]
    names: list[Reference]


class _DockerItem(msgspec.Struct, rename="pascal"):
    config: str = ""
    layers: list[str] | None = None
    repo_tags: list[str] | None = None


def read(archive: Archive, wanted: Sequence[Platform] = ()) -> list[Found]:
    """The images, for all platforms or those that run on one of `wanted`. InvalidInput says what the archive lacks, or
    that it is none; NotFound, for which platforms it has images."""
    if archive.find("manifest.json"):
        found = _docker(archive)
    elif archive.find("index.json"):
        found = _oci(archive)
    elif archive.find("repositories"):
        found = [synthesize(*image) for image in legacy.read(archive)]
    else:
        raise InvalidInput("cannot read archive: it has no manifest.json (docker) and no index.json (OCI)")
    if not found:
        raise InvalidInput("cannot read archive: there is no image in it")
    return _chosen(found, wanted) if wanted else found


def _chosen(found: list[Found], wanted: Sequence[Platform]) -> list[Found]:
    said = [manifest.read_config(each.config).platform for each in found]
    chosen: list[Found] = []
    for want in wanted:
        fit = [each for each, have in zip(found, said, strict=True) if platform.rank(have, want) is not None]
        if not fit:
            there = ", ".join(sorted({str(platform.exact(have)) for have in said}))[:300]
            raise NotFound(f"image for {want}", "in the archive", f"there is {there}")
        chosen += [each for each in fit if each not in chosen]
    return chosen


def _docker(archive: Archive) -> list[Found]:
    data = archive.read("manifest.json", MAX_MANIFEST)
    items = foreign.read(data, list[_DockerItem], "archive: manifest.json", MAX_MANIFEST)
    if len(items) > MAX_IMAGES:
        raise InvalidInput(f"absurd archive: {len(items)} images, {MAX_IMAGES} at most")
    found = []
    for item in items:
        if len(item.layers or []) > MAX_LAYERS:
            raise InvalidInput(f"absurd archive: {len(item.layers or [])} layers, {MAX_LAYERS} at most")
        config = archive.read(item.config, MAX_CONFIG)
        layers = [archive.file(layer) for layer in item.layers or []]
        found.append(synthesize(config, layers, [_name(tag) for tag in item.repo_tags or []]))
    return found


def synthesize(config: bytes, layers: list[File], names: list[Reference]) -> Found:
    """An image that came without a manifest of its own gets one."""
    document = Manifest(
        schemaVersion=2,
        mediaType=manifest.OCI_MANIFEST,
        config=Descriptor(mediaType=manifest.OCI_CONFIG, digest=manifest.digest(config), size=len(config)),
        layers=[Descriptor(mediaType=_media_type(f), digest=f.digest, size=f.size) for f in layers],
    )
    data = msgspec.json.encode(document)
    manifest.read_manifest(data)
    return Found(data, config, layers, names)


def _media_type(layer: File) -> str:
    with open(layer.path, "rb") as f:
        kind = compression.kind(f.read(8))
    return manifest.OCI_LAYER + SUFFIX.get(kind, f"+{kind}")


def _name(text: str) -> Reference:
    ref = reference.parse(text)
    if ref.digest:
        raise InvalidInput(f"damaged archive: the name {text[:200]!r} has a digest")
    return ref


def _oci(archive: Archive) -> list[Found]:
    index = manifest.read_index(archive.read("index.json", MAX_MANIFEST))
    if len(index.manifests) > MAX_IMAGES:
        raise InvalidInput(f"absurd archive: {len(index.manifests)} images, {MAX_IMAGES} at most")
    images: dict[str, Found] = {}
    count = 0
    for descriptor in index.manifests:
        names = _annotated(descriptor)
        for digest, found in _resolve(archive, descriptor):
            if (count := count + 1) > MAX_IMAGES:
                raise InvalidInput(f"absurd archive: its indexes name more than {MAX_IMAGES} images")
            before = images.get(digest)
            images[digest] = found._replace(names=[*(before.names if before else []), *names])
    return list(images.values())


def _annotated(descriptor: Descriptor) -> list[Reference]:
    """The names that a tool gave: containerd's annotation is whole, OCI's is often no more than a tag."""
    annotations = descriptor.annotations or {}
    name = annotations.get(CONTAINERD_NAME, "")
    if not name and set("/:") & set(annotations.get(OCI_NAME, "")):
        name = annotations[OCI_NAME]
    return [_name(name)] if name else []


def _blob(archive: Archive, descriptor: Descriptor) -> File:
    """InvalidInput names the blob that is missing, or is not what its name says."""
    found = archive.file(f"blobs/sha256/{descriptor.hex}")
    if found.digest != descriptor.digest:
        raise InvalidInput(f"damaged archive: blob {descriptor.digest} has digest {found.digest}")
    if found.size != descriptor.size:
        raise InvalidInput(f"damaged archive: blob {descriptor.digest} has {found.size} bytes, not {descriptor.size}")
    return found


def _document(archive: Archive, descriptor: Descriptor, limit: int) -> bytes:
    return archive.content(_blob(archive, descriptor), descriptor.digest, limit)


def _resolve(archive: Archive, descriptor: Descriptor, depth: int = 0) -> Iterator[tuple[str, Found]]:
    """The image behind a descriptor, by its manifest's digest; of an index those that the archive has of Linux."""
    data = _document(archive, descriptor, MAX_MANIFEST)
    if manifest.kind_of(data, descriptor.mediaType) == "index":
        if depth > 2:
            raise InvalidInput("absurd archive: an index of indexes of indexes")
        named = manifest.read_index(data).manifests
        there = [m for m in named if _is_ours(m) and archive.find(f"blobs/sha256/{m.hex}")]
        if not there:
            words = ", ".join(sorted({str(m.platform) for m in named if m.platform}))[:300] or "nothing"
            raise InvalidInput(f"cannot read archive: it has no image of those in its index, which names {words}")
        for each in there:
            yield from _resolve(archive, each, depth + 1)
        return
    document = manifest.read_manifest(data)
    config = _document(archive, document.config, MAX_CONFIG)
    yield descriptor.digest, Found(data, config, [_blob(archive, layer) for layer in document.layers], [])


def _is_ours(descriptor: Descriptor) -> bool:
    """Not what a builder says of an image (its platform is unknown), and nothing of Windows."""
    return descriptor.platform is None or descriptor.platform.os in ("", "linux")
