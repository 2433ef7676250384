"""Manifests, indexes and configurations of images, OCI's and docker's: read, bounded, checked. No I/O."""

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from hypercontainer.errors import InvalidInput
from hypercontainer.lib import foreign

MAX_MANIFEST = 4 << 20  # bytes; registries allow no more
MAX_CONFIG = 8 << 20
MAX_LAYER = 128 << 30
MAX_LAYERS = 500
OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
OCI_MANIFEST, OCI_INDEX = OCI + "manifest.v1+json", OCI + "index.v1+json"
OCI_CONFIG, OCI_LAYER = OCI + "config.v1+json", OCI + "layer.v1.tar"
DOCKER_MANIFEST = DOCKER + "distribution.manifest.v2+json"
DOCKER_LIST = DOCKER + "distribution.manifest.list.v2+json"
# the last one: docker's registries of 2016 called it that
CONFIG_TYPES = (OCI_CONFIG, DOCKER + "container.image.v1+json", "application/octet-stream")
ACCEPT = (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Platform(
    msgspec.Struct, frozen=True, omit_defaults=True, rename={"os_version": "os.version", "os_features": "os.features"}
):
    os: str = ""
    architecture: str = ""
    variant: str = ""
    os_version: str = ""
    os_features: list[str] = []

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Descriptor(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a document says of a blob: to be believed only when the bytes bear it out."""

    mediaType: str = ""  # noqa: N815
    digest: str = ""
    size: int = 0
    annotations: dict[str, str] | None = None
    urls: list[str] | None = None  # where it is, if not in the registry: nobody's word is taken for that
    platform: Platform | None = None

    @property
    def hex(self) -> str:
        return self.digest.removeprefix("sha256:")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    schemaVersion: int = 2  # noqa: N815
    mediaType: str = ""  # noqa: N815
    config: Descriptor = Descriptor()
    layers: list[Descriptor] = []


class Index(msgspec.Struct, frozen=True, kw_only=True):
    schemaVersion: int = 2  # noqa: N815
    mediaType: str = ""  # noqa: N815
    manifests: list[Descriptor] = []


class _Rootfs(msgspec.Struct, frozen=True, kw_only=True):
    type: str = "layers"
    diff_ids: list[str] | None = None


class History(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    created: str | None = None
    created_by: str | None = None
    author: str | None = None
    comment: str | None = None
    empty_layer: bool | None = None


class Healthcheck(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """In nanoseconds. What is not there is docker's default."""

    test: list[str] | None = None
    interval: int | None = None
    timeout: int | None = None
    start_period: int | None = None
    start_interval: int | None = None
    retries: int | None = None


class Process(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """How a container of the image starts."""

    hostname: str | None = None
    user: str | None = None
    env: list[str] | None = None
    cmd: list[str] | None = None
    entrypoint: list[str] | None = None
    working_dir: str | None = None
    labels: dict[str, str] | None = None
    exposed_ports: dict[str, dict[str, str] | None] | None = None
    volumes: dict[str, dict[str, str] | None] | None = None
    stop_signal: str | None = None
    on_build: list[str] | None = None
    healthcheck: Healthcheck | None = None
    shell: list[str] | None = None


class Config(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The configuration whose digest is the image's id."""

    architecture: str = ""  # "": nobody said, as in images of old
    os: str = ""
    variant: str | None = None
    created: str | None = None
    author: str | None = None
    comment: str | None = None
    container: str | None = None  # docker's: that it was committed of, and how that was configured
    container_config: dict[str, Any] | None = None
    config: Process | None = None
    rootfs: _Rootfs = _Rootfs()
    history: list[History] | None = None

    @property
    def diff_ids(self) -> list[str]:
        return self.rootfs.diff_ids or []

    @property
    def platform(self) -> Platform:
        return Platform(self.os, self.architecture, self.variant or "")


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def chain(diff_ids: Sequence[str]) -> list[str]:
    """The chain ids (OCI image-spec): the n-th names the tree that the first n + 1 layers make."""
    out: list[str] = []
    for diff_id in diff_ids:
        out.append(digest(f"{out[-1]} {diff_id}".encode()) if out else diff_id)
    return out


def check_digest(text: str, what: str) -> str:
    if not DIGEST.fullmatch(text):
        raise InvalidInput(f"cannot read {what}: {text[:80]!r} is not a sha256 digest")
    return text


def _check(descriptor: Descriptor, what: str, limit: int) -> None:
    check_digest(descriptor.digest, what)
    if not 0 <= descriptor.size <= limit:
        raise InvalidInput(f"cannot read {what}: {descriptor.digest} has {descriptor.size} bytes, {limit} at most")


def kind_of(data: bytes, media_type: str = "") -> Literal["manifest", "index"]:
    """What a document is: by its own word, then by what the registry called it. InvalidInput for anything else."""
    head = foreign.read(data, _Head, "manifest", MAX_MANIFEST)
    name = _type(head, media_type)
    if name in (OCI_INDEX, DOCKER_LIST) or (name not in ACCEPT and head.manifests is not None):
        return "index"
    if name in (OCI_MANIFEST, DOCKER_MANIFEST) or head.config is not None:
        return "manifest"
    if head.schemaVersion == 1:
        raise InvalidInput("cannot read manifest: it is in docker's schema 1, which went out of use in 2017")
    raise InvalidInput(f"cannot read manifest: type {name[:80]!r} is not an image's")


def type_of(data: bytes, media_type: str) -> str:
    """What a document calls itself, else what the registry called it."""
    return _type(foreign.read(data, _Head, "manifest", MAX_MANIFEST), media_type)


def _type(head: "_Head", media_type: str) -> str:
    return head.mediaType or media_type.partition(";")[0].strip()


class _Head(msgspec.Struct):
    schemaVersion: int = 0  # noqa: N815
    mediaType: str = ""  # noqa: N815
    manifests: Any = None
    config: Any = None


def read_manifest(data: bytes) -> Manifest:
    """InvalidInput unless it is of an image that can be run here in principle."""
    manifest = foreign.read(data, Manifest, "manifest", MAX_MANIFEST)
    _check(manifest.config, "manifest", MAX_CONFIG)
    if len(manifest.layers) > MAX_LAYERS:
        raise InvalidInput(f"cannot read manifest: {len(manifest.layers)} layers, {MAX_LAYERS} at most")
    if manifest.config.mediaType not in CONFIG_TYPES:
        raise InvalidInput(f"cannot read manifest: {manifest.config.mediaType[:80]!r} is not an image's configuration")
    for layer in manifest.layers:
        _check(layer, "manifest", MAX_LAYER)
    return manifest


def to_oci(data: bytes) -> bytes:
    """A manifest in OCI's words; one that is so already stays as it is, to the byte."""
    said = read_manifest(data)
    if not (said.mediaType or said.config.mediaType).startswith(DOCKER):
        return data
    return msgspec.json.encode(
        Manifest(
            mediaType=OCI_MANIFEST,
            config=msgspec.structs.replace(said.config, mediaType=OCI_CONFIG),
            layers=[msgspec.structs.replace(d, mediaType=_oci_layer(d.mediaType)) for d in said.layers],
        )
    )


def _oci_layer(kind: str) -> str:
    """docker's "image.rootfs.diff.tar.gzip" is OCI's "layer.v1.tar+gzip"."""
    if not kind.startswith(DOCKER):
        return kind
    compression = kind.rpartition(".tar")[2].lstrip(".+")
    return f"{OCI_LAYER}+{compression}" if compression else OCI_LAYER


def index_of(manifests: Sequence[tuple[Descriptor, Platform]]) -> bytes:
    """An index of images for several platforms; of the same ones it is always the same, to the byte."""
    named = sorted(manifests, key=lambda each: str(each[1]))
    listed = [msgspec.structs.replace(one, platform=platform) for one, platform in named]
    return msgspec.json.encode(Index(mediaType=OCI_INDEX, manifests=listed))


def read_index(data: bytes) -> Index:
    index = foreign.read(data, Index, "index", MAX_MANIFEST)
    for descriptor in index.manifests:
        _check(descriptor, "index", 1 << 62)
    return index


def read_config(data: bytes, layers: int | None = None) -> Config:
    """`layers`: how many the manifest has; the configuration must speak of as many."""
    config = foreign.read(data, Config, "image configuration", MAX_CONFIG)
    for diff_id in config.diff_ids:
        check_digest(diff_id, "image configuration")
    if layers is not None and len(config.diff_ids) != layers:
        raise InvalidInput(f"cannot read image configuration: {len(config.diff_ids)} diff ids for {layers} layers")
    if len(config.diff_ids) > MAX_LAYERS:
        raise InvalidInput(f"cannot read image configuration: more than {MAX_LAYERS} layers")
    process = config.config or Process()
    for text in [*(process.env or []), *(process.cmd or []), *(process.entrypoint or []), process.user or ""]:
        if "\0" in text:
            raise InvalidInput("cannot read image configuration: a NUL in its environment, command or user")
    return config


def time_ns(text: str | None) -> int:
    """A document's RFC 3339 time; 0 when it has none that can be read."""
    if not text or len(text) > 64:
        return 0
    try:
        at = datetime.fromisoformat(_microseconds(text))
    except ValueError:
        return 0
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    try:
        return max(int(at.timestamp()) * 1_000_000_000 + at.microsecond * 1000, 0)
    except (OverflowError, ValueError):
        return 0


def _microseconds(text: str) -> str:
    """Python reads six decimals at most; Go writes up to nine."""
    head, dot, tail = text.partition(".")
    if not dot:
        return text
    digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
    return f"{head}.{digits[:6].ljust(6, '0')}{tail[len(digits) :]}"
