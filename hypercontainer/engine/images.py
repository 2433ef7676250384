"""The use cases of images."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from hypercontainer.engine import filters
from hypercontainer.engine.host import Host
from hypercontainer.engine.progress import Report, told
from hypercontainer.images import archive
from hypercontainer.images.index import Image
from hypercontainer.model import documents as doc
from hypercontainer.model.api import Filters


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

    async def load_images(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[doc.Progress | doc.ImagesDone, None]:
        async def load(report: Report) -> doc.ImagesDone:
            images = await archive.load(self.host.images, chunks, report)
            for image in images:
                self._emit("load", image.id, image.names)
            return doc.ImagesDone(images=[_ref(image) for image in images])

        return told(load)

    async def tag_image(self, name: str, target: str) -> None:
        self.host.images.tag(name, target)
        image = self.host.images.get(target)
        self._emit("tag", image.id, [target])

    def _emit(self, action: str, image_id: str, names: Sequence[str]) -> None:
        self.host.events.emit("image", action, image_id, {"name": names[0] if names else image_id})


def _matches(entry: doc.ImageEntry, wanted: Filters) -> bool:
    names = [*entry.repo_tags, *(name.partition(":")[0] for name in entry.repo_tags)]
    return (
        (not wanted.get("reference") or any(name in wanted["reference"] for name in names))
        and filters.has_label(entry.labels, wanted.get("label", []))
        and (not wanted.get("dangling") or str(not entry.repo_tags).lower() in wanted["dangling"])
    )
