"""The store's table of contents: one JSON file, replaced whole under the store's lock, read without one."""

from pathlib import Path

import msgspec

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


class Index(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: int = VERSION
    images: dict[str, ImageRecord] = {}  # by id
    names: dict[str, str] = {}  # "docker.io/library/busybox:latest" -> id


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
