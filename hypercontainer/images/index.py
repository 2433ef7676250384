"""The store's table of contents: one JSON file, replaced whole under the store's lock, read without one."""

from pathlib import Path

import msgspec

from hypercontainer.images import platform as platforms
from hypercontainer.images.manifest import Platform
from hypercontainer.lib import document, files
from hypercontainer.model import upgrade

VERSION = document.version(upgrade.IMAGES)


class ImageRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An image whose blobs and root file system are in the store."""

    manifest: str  # digests
    config: str
    layers: list[str]
    diff_ids: list[str]
    chain: str  # names the root file system: the last of the chain ids, without "sha256:"
    tar_sizes: list[int]  # of each layer: bytes without compression,
    sizes: list[int]  # and of the files in it
    blob_size: int
    architecture: str
    os: str
    variant: str = ""
    created_ns: int = 0
    digests: list[str] = []  # "docker.io/library/busybox@sha256:…"
    tagged_ns: int = 0
    parent: str = ""  # the image that it was made of here, which may have gone

    @property
    def platform(self) -> Platform:
        return platforms.exact(Platform(self.os, self.architecture, self.variant))


class Index(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: int = VERSION
    images: dict[str, ImageRecord] = {}  # by id
    # "docker.io/library/busybox:latest" -> ids, each for another platform, that which came last at the end
    names: dict[str, list[str]] = {}

    def named(self, image_id: str) -> list[str]:
        """The names of an image, sorted."""
        return sorted(name for name, ids in self.names.items() if image_id in ids)

    def give(self, name: str, image_id: str) -> None:
        """Let the image have that name beside those for other platforms; one for the same one has it no more."""
        here = self.images[image_id].platform
        others = [i for i in self.names.get(name, []) if i != image_id and self.images[i].platform != here]
        self.names[name] = [*others, image_id]

    def take(self, name: str, image_id: str) -> None:
        """Let it have that name no more."""
        self.names[name] = [other for other in self.names[name] if other != image_id]
        if not self.names[name]:
            del self.names[name]


def read(path: Path) -> Index:
    try:
        return document.read_versioned(path, Index, upgrade.IMAGES)
    except FileNotFoundError:
        return Index()


def write(path: Path, index: Index) -> None:
    """The caller holds the store's lock. A full disk leaves the old one, and nothing beside it."""
    try:
        files.replace(path, msgspec.json.format(msgspec.json.encode(index), indent=1))
    except OSError:
        sweep(path)
        raise


def sweep(path: Path) -> None:
    """Remove what a killed writer left beside the index. The caller holds the store's lock."""
    path.with_name(f".{path.name}.new").unlink(missing_ok=True)


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image in the store."""

    id: str  # "sha256:…", the digest of its configuration
    names: list[str]  # as docker shows them: "busybox:latest"
    digests: list[str]  # "busybox@sha256:…"
    record: ImageRecord

    @property
    def size(self) -> int:
        """Bytes of the files in it."""
        return sum(self.record.sizes)
