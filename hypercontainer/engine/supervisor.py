"""Answers for the pods of this daemon: their records, and all that one pod cannot know of the others."""

import logging

from hypercontainer.engine import allocate
from hypercontainer.engine.host import Host
from hypercontainer.errors import HyperError
from hypercontainer.model.record import ContainerRecord, PodRecord
from hypercontainer.sandbox.pod import Pod

log = logging.getLogger(__name__)


class Supervisor:
    """See sandbox.site.Owner. `pods`: all that there are, by id."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.pods: dict[str, Pod] = {}

    def pod(self, record: PodRecord) -> Pod:
        """A pod of this record, which nobody finds before `add`."""
        return Pod(self.host.site, record, self, self.host.pods.folder(record.id))

    def place(self, container: ContainerRecord) -> None:
        """Write down where on this host the sources of its mounts are."""
        for mount in container.mounts:
            if mount.type != "tmpfs":
                volume = mount.type == "volume"
                mount.path = str(self.host.volumes.path(mount.source)) if volume else mount.source

    def add(self, pod: Pod) -> None:
        self.host.index.pods[pod.record.id] = pod.record
        self.pods[pod.record.id] = pod

    def allocate(self, pod: PodRecord) -> None:
        allocate.allocate(self.host, pod)
        self.save(pod)

    def save(self, pod: PodRecord, *, durable: bool = False) -> None:
        self.host.pods.save(pod, durable=durable)

    def owe(self, pod: PodRecord) -> None:
        self.host.pods.owed.add(pod.id)

    def owes(self, pod: PodRecord) -> bool:
        return pod.id in self.host.pods.owed

    def changed(self, action: str, pod: PodRecord, container: ContainerRecord | None, **attributes: str) -> None:
        emit = self.host.events.emit
        if container is None:
            return emit("pod", action, pod.id, {**pod.spec.labels, "name": pod.name, **attributes})
        named = {"image": container.image_name, "name": container.name, "pod": pod.id, "podName": pod.name}
        return emit("container", action, container.id, {**container.labels, **named, **attributes})

    def remove_container(self, pod: PodRecord, container: ContainerRecord) -> None:
        self.host.pods.remove_container(pod.id, container.id)

    def remove(self, pod: PodRecord) -> None:
        self.host.pods.remove(pod.id)
        self.host.index.pods.pop(pod.id, None)
        self.pods.pop(pod.id, None)

    async def remove_anonymous(self, container: ContainerRecord) -> None:
        for name in [mount.source for mount in container.mounts if mount.anonymous]:
            try:
                await self.host.volumes.remove(name, self.host.index.volume_user)
            except (HyperError, OSError) as e:
                log.warning("cannot remove volume %s: %s", name[:12], e)
