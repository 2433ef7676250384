"""The use cases of images."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Literal

from hypercontainer.engine import filters
from hypercontainer.engine.host import Host
from hypercontainer.engine.progress import Report, told
from hypercontainer.images import archive, auth, pull, reference
from hypercontainer.images.index import Image
from hypercontainer.images.save import save
from hypercontainer.model import documents as doc
from hypercontainer.model.api import Credentials, Filters


def _ref(image: Image) -> doc.ImageRef:
    return doc.ImageRef(id=image.id, name=image.names[0] if image.names else "")


class Images:
    """Part of LocalEngine."""

    host: Host

    async def list_images(self, filters_: Filters) -> Sequence[doc.ImageEntry]:
        filters.check("images", filters_, ["reference", "label", "dangling"])
        users = [container.image_id for _, container in self.host.index.containers()]
        entries = [
            self.host.images.entry(image, users.count(image.id))
            for image in await asyncio.to_thread(self.host.images.list)
        ]
        return [entry for entry in entries if _matches(entry, filters_)]

    async def inspect_image(self, name: str) -> doc.Image:
        return self.host.images.inspect(self.host.images.get(name))

    async def image_history(self, name: str) -> Sequence[doc.HistoryEntry]:
        return self.host.images.history(self.host.images.get(name))

    async def pull_image(
        self, name: str, *, platform: str, credentials: Credentials | None
    ) -> AsyncGenerator[doc.Progress | doc.ImagesDone, None]:
        settings = self.host.settings
        domain = reference.parse(name).domain
        given = credentials or await auth.credentials(Path(settings.docker_config), domain)

        async def fetch(report: Report) -> doc.ImagesDone:
            image = await pull.pull(
                self.host.images,
                name,
                platform=platform,
                credentials=given,
                registries=settings.registries,
                report=report,
            )
            self._emit("pull", image.id, [name])
            return doc.ImagesDone(images=[doc.ImageRef(id=image.id, name=name)])

        return told(fetch)

    async def load_images(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[doc.Progress | doc.ImagesDone, None]:
        async def load(report: Report) -> doc.ImagesDone:
            images = await archive.load(self.host.images, chunks, report)
            for image in images:
                self._emit("load", image.id, image.names)
            return doc.ImagesDone(images=[_ref(image) for image in images])

        return told(load)

    async def save_images(self, names: Sequence[str], format: Literal["docker", "oci"]) -> AsyncGenerator[bytes, None]:
        return save(self.host.images, names, format)

    async def import_image(
        self, chunks: AsyncIterator[bytes], *, name: str, changes: Sequence[str], message: str
    ) -> doc.ImageRef:
        images = self.host.images
        image = await archive.import_image(images, chunks, name=name, changes=changes, message=message)
        self._emit("import", image.id, image.names)
        return _ref(image)

    async def tag_image(self, name: str, target: str) -> None:
        self.host.images.tag(name, target)
        image = self.host.images.get(target)
        self._emit("tag", image.id, [target])

    async def remove_image(self, name: str, *, force: bool) -> Sequence[doc.ImageRemoved]:
        image = self.host.images.get(name)
        removed = await asyncio.to_thread(self.host.images.remove, name, force=force, users=self.host.index.image_user)
        self._emit("delete" if any(step.deleted for step in removed) else "untag", image.id, image.names)
        return removed

    async def prune_images(self, *, all: bool) -> doc.Pruned:
        return await asyncio.to_thread(self.host.images.prune, all=all, users=self.host.index.image_user)

    def _emit(self, action: str, image_id: str, names: Sequence[str]) -> None:
        self.host.events.emit("image", action, image_id, {"name": names[0] if names else image_id})


def _matches(entry: doc.ImageEntry, wanted: Filters) -> bool:
    names = [*entry.repo_tags, *(name.partition(":")[0] for name in entry.repo_tags)]
    return (
        (not wanted.get("reference") or any(name in wanted["reference"] for name in names))
        and filters.has_label(entry.labels, wanted.get("label", []))
        and (not wanted.get("dangling") or str(not entry.repo_tags).lower() in wanted["dangling"])
    )
