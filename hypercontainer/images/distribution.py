"""What a registry has under a name, asked of it without fetching the image."""

from collections.abc import Sequence

import msgspec

from hypercontainer.images import manifest, reference, registry
from hypercontainer.images.hosts import Registries
from hypercontainer.images.manifest import MAX_CONFIG, Platform
from hypercontainer.images.registry import Document, Registry
from hypercontainer.images.transport import Retry
from hypercontainer.lib import foreign
from hypercontainer.model import documents as doc
from hypercontainer.model.api import Credentials


async def distribution(
    name: str,
    *,
    credentials: Credentials | None = None,
    registries: Registries | None = None,
    retry: Retry = Retry(),  # noqa: B008  a value
) -> doc.Distribution:
    """The manifest or index of this name, and for which platforms it is. NotFound, Denied, Unavailable, BadBlob."""
    ref = reference.parse(name)
    async with registry.connect(ref, registries, credentials, retry) as source:
        top = await source.manifest(ref.digest or ref.tag)
        platforms = await _platforms(source, top)
    found = doc.Descriptor(media_type=manifest.type_of(top.data, top.media_type), digest=top.digest, size=len(top.data))
    return doc.Distribution(
        descriptor=found, platforms=[doc.Platform(**msgspec.structs.asdict(each)) for each in platforms]
    )


async def _platforms(source: Registry, top: Document) -> Sequence[Platform]:
    """Those that an index names; of a manifest, what its configuration says of one, if it does."""
    if manifest.kind_of(top.data, top.media_type) == "index":
        return [each.platform for each in manifest.read_index(top.data).manifests if each.platform]
    return platform_of(await source.document(manifest.read_manifest(top.data).config, MAX_CONFIG))


def platform_of(config: bytes) -> Sequence[Platform]:
    """What a configuration says of it, if anything."""
    platform = foreign.read(config, Platform, "image configuration", MAX_CONFIG)
    return [platform] if platform.os or platform.architecture else []
