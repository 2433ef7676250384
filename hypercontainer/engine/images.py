"""The use cases of images. model.api.Images says what each promises."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from hypercontainer.engine import filters
from hypercontainer.engine.build import config
from hypercontainer.engine.host import Host
from hypercontainer.engine.progress import Report, with_progress
from hypercontainer.errors import InvalidInput, NotFound
from hypercontainer.images import archive, auth, reference
from hypercontainer.images import pull as pulling
from hypercontainer.images import push as pushing
from hypercontainer.images import registry as registry_client
from hypercontainer.images import save as saving
from hypercontainer.images.distribution import distribution
from hypercontainer.images.index import Image
from hypercontainer.model import documents as doc
from hypercontainer.model.api import Credentials, Filters
from hypercontainer.model.kube import DiskUsage


def _ref(image: Image) -> doc.ImageRef:
    return doc.ImageRef(id=image.id, name=image.names[0] if image.names else "")


class Images:
    def __init__(self, host: Host) -> None:
        """InvalidInput for a name of the setting `pinned_images` that is none."""
        self.host = host
        try:
            self._pins = {reference.parse(name).whole for name in host.settings.pinned_images}
        except InvalidInput as e:
            raise InvalidInput(f"{e}: see `pinned_images` in config.toml") from e

    def _pinned(self, image: Image) -> bool:
        names = (*image.names, *image.digests)
        return bool(self._pins) and any(reference.parse(name).whole in self._pins for name in names)

    async def list(self, wanted: Filters, /, *, all: bool = False) -> Sequence[doc.ImageEntry]:
        matches = self._matching("images", wanted, ["reference", "dangling", "before", "since"])
        users = [container.image_id for _, container in self.host.index.containers(None)]
        there = await asyncio.to_thread(self.host.images.list)
        parents = set() if all else {image.record.parent for image in there}
        entries = []
        for image in there:
            if matches(image) and (image.names or image.digests or image.id not in parents):
                try:
                    entries.append(self.host.images.entry(image, users.count(image.id)))
                except NotFound:
                    if any(image.id == other.id for other in self.host.images.list()):
                        raise  # what it is made of is damaged: else it was removed meanwhile
        patterns = [filters.check_reference(pattern) for pattern in wanted.get("reference", [])]
        return [_named(entry, patterns) for entry in entries] if patterns else entries

    def _matching(self, what: str, wanted: Filters, known: Sequence[str]) -> Callable[[Image], bool]:
        """What an image has to be; the filters beside `known` are those of a list and of a prune."""
        filters.check(what, wanted, [*known, "label", "label!", "until"])
        patterns = [filters.check_reference(pattern) for pattern in wanted.get("reference", [])]
        dangling, until = filters.boolean(wanted, "dangling"), filters.until(wanted)
        before, since = (
            self.host.images.get(name).record.created_ns if name is not None else None
            for name in (filters.one(wanted, "before"), filters.one(wanted, "since"))
        )
        labels = "label" in wanted or "label!" in wanted

        def matches(image: Image) -> bool:
            created, names = image.record.created_ns, [*image.names, *image.digests]
            return (
                (not patterns or any(filters.matches_reference(n, p) for n in names for p in patterns))
                and dangling in (None, not image.names)
                and (until is None or created < until)
                and (before is None or created < before)
                and (since is None or created > since)
                and (not labels or filters.labelled(self.host.images.inspect(image).config.labels, wanted))
            )

        return matches

    async def usage(self) -> Sequence[DiskUsage]:
        return await asyncio.to_thread(lambda: [_usage(self.host.root / name) for name in ("images", "pods")])

    async def inspect(self, name: str, platform: str = "") -> doc.Image:
        image = self.host.images.get(name, platform)
        return msgspec.structs.replace(self.host.images.inspect(image), pinned=self._pinned(image))

    async def history(self, name: str, platform: str = "") -> Sequence[doc.HistoryEntry]:
        return self.host.images.history(self.host.images.get(name, platform))

    async def pull(
        self, name: str, *, all_tags: bool, platform: str, credentials: Credentials | None
    ) -> AsyncGenerator[doc.Progress | doc.ImagesDone, None]:
        store, registries = self.host.images, self.host.registries
        given = await self._credentials(name, credentials)

        async def fetch(report: Report) -> doc.ImagesDone:
            if all_tags:
                pulled = await pulling.pull_all(
                    store, name, platform=platform, credentials=given, registries=registries, report=report
                )
            else:
                image = await pulling.pull(
                    store, name, platform=platform, credentials=given, registries=registries, report=report
                )
                pulled = {name: image}
            for each, image in pulled.items():
                self._emit("pull", image.id, [each])
            return doc.ImagesDone(images=[doc.ImageRef(id=image.id, name=each) for each, image in pulled.items()])

        return with_progress(fetch)

    async def push(
        self, name: str, *, all_tags: bool, platform: str = "", credentials: Credentials | None
    ) -> AsyncGenerator[doc.Progress | doc.PushDone, None]:
        store, registries = self.host.images, self.host.registries
        given = await self._credentials(name, credentials)

        async def send(report: Report) -> doc.PushDone:
            pushed = await pushing.push(
                store,
                name,
                all_tags=all_tags,
                platform=platform,
                credentials=given,
                registries=registries,
                report=report,
            )
            for one in pushed:
                ref = f"{one.name}:{one.tag}"
                self._emit("push", store.get(ref, platform).id, [ref])
            return doc.PushDone(pushed=pushed)

        return with_progress(send)

    async def distribution(self, name: str, *, credentials: Credentials | None) -> doc.Distribution:
        given = await self._credentials(name, credentials)
        return await distribution(name, credentials=given, registries=self.host.registries)

    async def _credentials(self, name: str, given: Credentials | None) -> Credentials | None:
        """Those of the caller, else what the daemon's user keeps for the registry in `name`."""
        return given or await auth.credentials(Path(self.host.settings.docker_config), reference.parse(name).domain)

    async def login(self, registry: str, credentials: Credentials) -> None:
        domain = auth.domain_of(registry)
        await registry_client.login(domain, self.host.registries, credentials)

    async def load(
        self, chunks: AsyncIterator[bytes], platforms: Sequence[str] = ()
    ) -> AsyncGenerator[doc.Progress | doc.ImagesDone, None]:
        async def load(report: Report) -> doc.ImagesDone:
            images = await archive.load(self.host.images, chunks, report, wanted=platforms)
            for image in images:
                self._emit("load", image.id, image.names)
            refs = [doc.ImageRef(id=image.id, name=name) for image in images for name in image.names or [""]]
            return doc.ImagesDone(images=refs)

        return with_progress(load)

    async def save(
        self, names: Sequence[str], format: Literal["docker", "oci"], platforms: Sequence[str] = ()
    ) -> AsyncGenerator[bytes, None]:
        return saving.save(self.host.images, names, format, platforms)

    async def import_(
        self, chunks: AsyncIterator[bytes], *, name: str, changes: Sequence[str], message: str, platform: str = ""
    ) -> doc.ImageRef:
        image = await archive.import_image(
            self.host.images, chunks, name=name, config=config.apply(changes), message=message, platform=platform
        )
        self._emit("import", image.id, image.names)
        return _ref(image)

    async def tag(self, name: str, target: str, platform: str = "") -> None:
        self.host.images.tag(name, target, platform)
        image = self.host.images.get(target, platform)
        self._emit("tag", image.id, [target])

    async def remove(
        self, name: str, *, force: bool, parents: bool = True, platforms: Sequence[str] = ()
    ) -> Sequence[doc.ImageRemoved]:
        image = self.host.images.named(name, platforms)[-1]
        removed = await asyncio.to_thread(
            self.host.images.remove,
            name,
            force=force,
            users=self.host.index.image_user,
            parents=parents,
            wanted=platforms,
        )
        for step in removed:
            if step.untagged:
                self._emit("untag", image.id, [])  # called by its id, as docker does
        if any(step.deleted for step in removed):
            self._emit("delete", image.id, [])
        return removed

    async def prune(self, *, all: bool, wanted: Filters) -> doc.Pruned:
        """`dangling=false` says what `all` says, as in docker. Pinned ones stay."""
        matches = self._matching(
            "a prune of images", {k: v for k, v in wanted.items() if k != "dangling"}, ["dangling"]
        )
        all = filters.boolean(wanted, "dangling") is False or all
        users = self.host.index.image_user
        pruned = await asyncio.to_thread(
            self.host.images.prune,
            all=all,
            users=users,
            wanted=lambda image: matches(image) and not self._pinned(image),
        )
        self.host.events.emit("image", "prune", "", {"reclaimed": str(pruned.space_reclaimed)})
        return pruned

    def _emit(self, action: str, image_id: str, names: Sequence[str]) -> None:
        self.host.events.emit("image", action, image_id, {"name": names[0] if names else image_id})


def _usage(folder: Path) -> DiskUsage:
    used = count = 0
    for where, folders, names in os.walk(folder):
        for name in (*folders, *names):
            with suppress(FileNotFoundError):  # it goes just now
                used += os.lstat(os.path.join(where, name)).st_blocks * 512
                count += 1
    return DiskUsage(path=str(folder), bytes=used, files=count)


def _named(entry: doc.ImageEntry, patterns: Sequence[str]) -> doc.ImageEntry:
    """The line with those of the image's names that were asked for, as docker's."""

    def asked(names: Sequence[str]) -> list[str]:
        return [name for name in names if any(filters.matches_reference(name, pattern) for pattern in patterns)]

    return msgspec.structs.replace(entry, repo_tags=asked(entry.repo_tags), repo_digests=asked(entry.repo_digests))
