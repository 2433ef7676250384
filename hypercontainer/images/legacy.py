"""docker's archives before 2016: a folder a layer, each with its own JSON that names the one below."""

import hashlib
import json
from typing import Any

from hypercontainer.errors import InvalidInput
from hypercontainer.images import manifest, reference
from hypercontainer.images.manifest import MAX_CONFIG, MAX_LAYERS, MAX_MANIFEST
from hypercontainer.images.reference import Reference
from hypercontainer.images.spool import MAX_IMAGES, Archive, File
from hypercontainer.lib import foreign

KEPT = ("architecture", "os", "created", "author", "config")


def read(archive: Archive) -> list[tuple[bytes, list[File], list[Reference]]]:
    """(configuration, layers with the lowest first, names) of each image that `repositories` names."""
    data = archive.read("repositories", MAX_MANIFEST)
    repositories = foreign.read(data, dict[str, dict[str, str]], "archive: repositories", MAX_MANIFEST)
    names: dict[str, list[Reference]] = {}
    diff_ids: dict[str, str] = {}
    for repository, tags in repositories.items():
        for tag, layer in tags.items():
            names.setdefault(layer, []).append(reference.parse(f"{repository}:{tag}"))
    if len(names) > MAX_IMAGES:
        raise InvalidInput(f"absurd archive: {len(names)} images, {MAX_IMAGES} at most")
    return [(*_image(archive, layer, diff_ids), refs) for layer, refs in names.items()]


def _image(archive: Archive, top: str, diff_ids: dict[str, str]) -> tuple[bytes, list[File]]:
    chain: list[dict[str, Any]] = []
    layers: list[File] = []
    layer: object = top
    while layer:
        if not isinstance(layer, str) or len(chain) >= MAX_LAYERS:
            raise InvalidInput("absurd archive: the parents of a layer have no end")
        chain.insert(0, _json(archive, layer))
        layers.insert(0, archive.file(f"{layer}/layer.tar"))
        layer = chain[0].get("parent")
    history = [{k: one[k] for k in ("created", "author", "comment") if k in one} for one in chain]
    config = {k: chain[-1][k] for k in KEPT if k in chain[-1]}
    config.setdefault("architecture", "amd64")
    config.setdefault("os", "linux")
    config |= {
        "rootfs": {"type": "layers", "diff_ids": [_diff_id(archive, f, diff_ids) for f in layers]},
        "history": history,
    }
    try:
        data = json.dumps(config, sort_keys=True).encode()
    except RecursionError as e:
        raise InvalidInput(f"absurd archive: {top[:80]}/json is nested too deep") from e
    manifest.read_config(data, len(layers))
    return data, layers


def _json(archive: Archive, layer: str) -> dict[str, Any]:
    value = foreign.loose(archive.read(f"{layer}/json", MAX_CONFIG), f"archive: {layer[:80]}/json", MAX_CONFIG)
    if not isinstance(value, dict):
        raise InvalidInput(f"damaged archive: {layer[:80]}/json is not an object")
    return value


def _diff_id(archive: Archive, layer: File, known: dict[str, str]) -> str:
    """Computed once for each layer, however many images have it."""
    if layer.digest not in known:
        digest = hashlib.sha256()
        for piece in archive.pieces(layer):
            digest.update(piece)
        known[layer.digest] = "sha256:" + digest.hexdigest()
    return known[layer.digest]
