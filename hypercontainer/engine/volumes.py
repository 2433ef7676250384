"""The use cases of volumes. model.api.Volumes says what each promises."""

from collections.abc import Mapping, Sequence

import msgspec

from hypercontainer.engine import filters, policy
from hypercontainer.engine.host import Host
from hypercontainer.model import documents as doc
from hypercontainer.model.api import Filters
from hypercontainer.model.principal import Principal
from hypercontainer.storage.volume import Volume


class Volumes:
    def __init__(self, host: Host) -> None:
        self.host = host

    def _volume(self, volume: Volume) -> doc.Volume:
        document = self.host.volumes.inspect(volume)
        return doc.Volume(
            name=volume.name,
            mountpoint=str(document["Mountpoint"]),
            created_at=str(document["CreatedAt"]),
            labels=dict(volume.labels),
            options=dict(volume.options),
        )

    async def list(self, wanted: Filters, *, size: bool = False) -> Sequence[doc.Volume]:
        filters.check("volumes", wanted, ["name", "driver", "label", "label!", "dangling"])
        names = [filters.expression("name", value) for value in wanted.get("name", [])]
        dangling = filters.boolean(wanted, "dangling")
        found = [
            self._volume(volume)
            for volume in self.host.volumes.list()
            if (not names or any(pattern.search(volume.name) for pattern in names))
            and ("driver" not in wanted or "local" in wanted["driver"])
            and filters.labelled(volume.labels, wanted)
            and dangling in (None, self.host.index.volume_user(volume.name) is None)
        ]
        if not size:
            return found
        sizes = await self.host.volumes.sizes([each.name for each in found if not each.options])
        return [msgspec.structs.replace(each, size=sizes.get(each.name, 0)) for each in found]

    async def create(
        self, name: str, labels: Mapping[str, str], *, by: Principal, options: Mapping[str, str] = {}
    ) -> doc.Volume:
        policy.admit_volume(by, name, options)
        volume = self.host.volumes.create(name, labels, options)
        self.host.events.emit("volume", "create", volume.name, {"driver": "local"})
        return self._volume(volume)

    async def inspect(self, name: str) -> doc.Volume:
        return self._volume(self.host.volumes.get(name))

    async def remove(self, name: str, *, force: bool) -> None:
        await self.host.volumes.remove(name, self.host.index.volume_user, force=force)
        self.host.events.emit("volume", "destroy", name, {"driver": "local"})

    async def prune(self, *, all: bool, wanted: Filters) -> doc.Pruned:
        filters.check("a prune of volumes", wanted, ["label", "label!", "all"])
        all = filters.boolean(wanted, "all") or all
        pruned = await self.host.volumes.prune(
            self.host.index.volume_user, everything=all, wanted=lambda volume: filters.labelled(volume.labels, wanted)
        )
        for name in pruned.names:
            self.host.events.emit("volume", "destroy", name, {"driver": "local"})
        self.host.events.emit("volume", "prune", "", {"reclaimed": str(pruned.bytes_freed)})
        return doc.Pruned(deleted=pruned.names, space_reclaimed=pruned.bytes_freed)
