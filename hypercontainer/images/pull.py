"""Images from registries: layers side by side, what is there already not fetched, what was cut short gone on with."""

import asyncio
import os
from collections.abc import Sequence

import msgspec

from hypercontainer.errors import HyperError, InvalidInput, NotFound, Unavailable
from hypercontainer.images import manifest, partial, platform, reference, registry
from hypercontainer.images.assemble import Report, assemble, short, silent
from hypercontainer.images.hosts import Registries
from hypercontainer.images.index import Image
from hypercontainer.images.manifest import Descriptor, Manifest, Platform
from hypercontainer.images.reference import Reference
from hypercontainer.images.registry import Document, Registry
from hypercontainer.images.store import ImageStore
from hypercontainer.images.transport import Retry
from hypercontainer.images.workspace import Workspace
from hypercontainer.model.api import Credentials
from hypercontainer.model.documents import Progress

AT_ONCE = 3  # layers, as docker


async def pull(
    store: ImageStore,
    name: str,
    *,
    platform: str = "",
    credentials: Credentials | None = None,
    registries: Registries | None = None,
    report: Report = silent,
    retry: Retry = Retry(),  # noqa: B008  a value
) -> Image:
    """Fetch an image and let it be in the store under its name; `platform` "" is this machine's.

    NotFound: no such image, or none for the platform. Denied: credentials. Unavailable: the registry; what came so
    far is kept for the next attempt, for a day. BadBlob, BadLayer: it sends what it should not. Exhausted: the disk.
    """
    ref = reference.parse(name)
    async with registry.connect(ref, registries, credentials, retry) as source:
        return await _one(store, source, ref, platform, report)


async def pull_all(
    store: ImageStore,
    name: str,
    *,
    platform: str = "",
    credentials: Credentials | None = None,
    registries: Registries | None = None,
    report: Report = silent,
    retry: Retry = Retry(),  # noqa: B008  a value
) -> dict[str, Image]:
    """Fetch the images of all tags of the repository `name`, one after the other; the first that fails ends it.
    They come by their names.

    InvalidInput for a name with a tag; the rest as `pull`."""
    if (ref := reference.bare(name)) is None:
        raise InvalidInput(f"cannot pull all tags of {name}: name the repository, without a tag")
    async with registry.connect(ref, registries, credentials, retry) as source:
        tags = await source.tags()
        if not tags:
            raise NotFound("image", ref.repository, "its repository has no tags")
        found = {}
        for tag in tags:
            report(Progress(id=tag, action=f"Pulling from {ref.path}"))
            image = await _one(store, source, ref._replace(tag=tag), platform, _of_tag(tag, report))
            found[f"{name}:{tag}"] = image
        return found


def _of_tag(tag: str, report: Report) -> Report:
    """What is said of no layer is said of this tag."""
    return lambda progress: report(progress if progress.id else msgspec.structs.replace(progress, id=tag))


async def _one(store: ImageStore, source: Registry, ref: Reference, platform: str, report: Report) -> Image:
    async with store.workspace() as work:
        return await _Pull(store, work, source, ref, report).run(platform)


class _Pull:
    """One pull under way."""

    def __init__(self, store: ImageStore, work: Workspace, source: Registry, ref: Reference, report: Report) -> None:
        self._store, self._work, self._source, self._ref, self._report = store, work, source, ref, report
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def run(self, wanted: str) -> Image:
        want = platform.parse(wanted)
        top = await self._source.manifest(self._ref.digest or self._ref.tag)
        document, blobs = await self._manifest(top, want)
        self._work.put(document.data)
        try:
            await self._blobs(blobs, want)
            image = await assemble(
                self._store,
                self._work,
                document.digest,
                [] if self._ref.digest else [self._ref],
                digests=sorted({f"{self._ref.domain}/{self._ref.path}@{d.digest}" for d in (top, document)}),
                report=self._report,
            )
            self._report(Progress(id="", action=f"Digest: {top.digest}"))
            return image
        except Unavailable:
            raise  # the next attempt goes on from here
        except (HyperError, OSError):
            everything = [blobs.config.digest, *(layer.digest for layer in blobs.layers)]
            await asyncio.to_thread(self._store.forget, everything)
            raise

    async def _manifest(self, top: Document, want: Platform) -> tuple[Document, Manifest]:
        """The manifest for the platform, through indexes."""
        document = top
        for _ in range(3):
            if manifest.kind_of(document.data, document.media_type) == "manifest":
                return document, manifest.read_manifest(document.data)
            chosen = platform.choose(manifest.read_index(document.data).manifests, want, str(self._ref))
            document = await self._source.manifest(chosen.digest)
        raise InvalidInput(f"cannot pull {self._ref}: an index of indexes of indexes")

    async def _blobs(self, blobs: Manifest, want: Platform) -> None:
        await self._fetch(blobs.config)
        config = manifest.read_config(self._work.blob(blobs.config.digest).read_bytes(), len(blobs.layers))
        if platform.rank(config.platform, want) is None:
            raise InvalidInput(f"cannot pull {self._ref}: it is for {config.platform}, not for {want}")
        layers = list({layer.digest: layer for layer in blobs.layers}.values())
        try:
            async with asyncio.TaskGroup() as group:
                for layer in layers:
                    group.create_task(self._layer(layer))
        except BaseExceptionGroup as e:
            raise first(e) from None

    async def _layer(self, layer: Descriptor) -> None:
        async with self._slots:
            await self._fetch(layer, shown=True)

    async def _fetch(self, blob: Descriptor, *, shown: bool = False) -> None:
        def tell(action: str, current: int = 0) -> None:
            if shown:
                self._report(Progress(id=short(blob.digest), action=action, current=current, total=blob.size))

        if self._take(blob):
            return tell("Already exists", blob.size)
        name = self._store.partial / blob.hex
        async with partial.held(name, blob.size, lambda n: tell("Downloading", n)) as part:
            if self._take(blob):  # while we waited
                return tell("Already exists", blob.size)
            tell("Downloading", part.offset)
            await self._content(blob, part)
            part.finish(self._work.blob(blob.digest), self._store.blob(blob.digest))
        return tell("Download complete", blob.size)

    async def _content(self, blob: Descriptor, part: partial.Partial) -> None:
        try:
            await self._source.blob(blob, part)
        except NotFound as e:
            if not blob.urls:
                raise
            raise InvalidInput(
                f"cannot pull {self._ref}: layer {blob.digest} is to be had outside of the registry, at "
                f"{blob.urls[0][:200]!r}: only what the registry itself has is fetched"
            ) from e

    def _take(self, blob: Descriptor) -> bool:
        """Hold on to a blob that the store has, by a link of our own."""
        try:
            os.link(self._store.blob(blob.digest), self._work.blob(blob.digest))
        except FileExistsError:
            return True
        except FileNotFoundError:
            return False
        return True


def first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to tell out of several at once: one of ours, if there is one."""
    leaves: Sequence[BaseException] = _leaves(group)
    return next((e for e in leaves if isinstance(e, HyperError)), leaves[0])


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [leaf for e in group.exceptions for leaf in (_leaves(e) if isinstance(e, BaseExceptionGroup) else [e])]
