"""The pods' folders: one record each, replaced whole; names and ids found fast. One hyperd at a time holds them."""

import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hypercontainer.engine import names
from hypercontainer.errors import AlreadyExists, HyperError, InvalidInput, NotFound
from hypercontainer.lib import document, files
from hypercontainer.model import upgrade
from hypercontainer.model.record import ContainerRecord, NicRecord, PodRecord

log = logging.getLogger(__name__)

GRAVE = ".removing-"
AGAIN = "remove or rename that container to use the name again"


class PodStore:
    """`root`/<pod id>/pod.json, and beside it a folder per container. See docs/state.md."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.owed: set[str] = set()  # pods whose record says less than is true: the disk took none

    def load(self) -> tuple[list[PodRecord], list["Unread"]]:
        """Every record, oldest first, and the pods whose record we cannot read, which stay as they are."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        records, unread = [], []
        for folder in sorted(self.root.iterdir()):
            if folder.name.startswith(GRAVE) or not (folder / "pod.json").exists():
                _clear(folder)  # a removal or a creation that a crash cut short: nobody was told of it
                continue
            try:
                record = document.read_versioned(folder / "pod.json", PodRecord, upgrade.POD)
            except HyperError as e:
                unread.append(Unread.of(folder, str(e)))
                continue
            self._forget_removed(record)
            records.append(record)
        return sorted(records, key=lambda r: r.created_ns), unread

    def _forget_removed(self, record: PodRecord) -> None:
        """Containers whose removal the record does not say: their folders have gone, or are about to."""
        for grave in self.folder(record.id).glob(f"{GRAVE}*"):
            _clear(grave)
        there = [c for c in record.containers if not c.folder or self.container_folder(record.id, c.id).exists()]
        record.containers[:] = there

    def folder(self, pod_id: str) -> Path:
        return self.root / pod_id

    def container_folder(self, pod_id: str, container_id: str) -> Path:
        return self.root / pod_id / container_id

    def create(self, record: PodRecord, *, durable: bool = True) -> None:
        """The folders of a new pod and of its containers. From the return on it outlives us, and if `durable` a power
        cut. Exhausted when the disk takes no more; on failure nothing is left."""
        try:
            with files.telling(f"make {self.folder(record.id)}"):
                self.folder(record.id).mkdir(mode=0o700)
                for container in record.containers:
                    self.add_container(record.id, container)
                self.save(record, durable=durable)
                if durable:
                    files.fsync(self.root)
        except BaseException:
            shutil.rmtree(self.folder(record.id), ignore_errors=True)
            raise

    def add_container(self, pod_id: str, container: ContainerRecord) -> None:
        """Its folder: from when the record is saved on, there is the container for as long as the folder."""
        with files.telling(f"make a folder for {container.name}"):
            self.container_folder(pod_id, container.id).mkdir(mode=0o700)
        container.folder = True

    def save(self, record: PodRecord, *, durable: bool = False) -> None:
        """Replace the record. Not `durable`: safe against our own death at any moment, not against a power cut.

        Exhausted when the disk takes no more: the old one is there."""
        data = msgspec.json.format(msgspec.json.encode(record), indent=1)
        with files.telling(f"write the record of {record.name}"):
            files.replace(self.folder(record.id) / "pod.json", data, durable=durable)
        self.owed.discard(record.id)

    def remove(self, pod_id: str) -> None:
        """A pod's folder, its record first: without that it is removed, whatever is left. Needs no new bytes."""
        folder = self.folder(pod_id)
        with files.telling(f"remove {folder}"):
            (folder / "pod.json").unlink(missing_ok=True)
        self.owed.discard(pod_id)
        _clear(folder)

    def remove_container(self, pod_id: str, container_id: str) -> None:
        """Its folder. It stays removed though the record cannot be written. Needs no new bytes."""
        folder = self.container_folder(pod_id, container_id)
        grave = folder.with_name(f"{GRAVE}{container_id}")
        if folder.exists():
            with files.telling(f"remove {folder}"):
                os.rename(folder, grave)
            _clear(grave)


class _Glimpse(msgspec.Struct):
    """What may be understood of a record that is not."""

    uid: int = 0
    nics: list[NicRecord] = []
    suspended: object = None


@dataclass(frozen=True)
class Unread:
    """A pod whose record is damaged, or of a newer version: what it has on this host stays its own."""

    id: str
    why: str
    text: str  # of its record
    uid: int
    nics: list[NicRecord]
    suspended: bool

    @classmethod
    def of(cls, folder: Path, why: str) -> "Unread":
        data = files.beginning(folder / "pod.json", document.MAX_FILE)
        try:
            seen = msgspec.convert(document.upgraded(msgspec.json.decode(data), upgrade.POD), _Glimpse)
        except (*document.NOT_JSON, LookupError, TypeError, AttributeError):
            seen = _Glimpse()
        text = data.decode(errors="replace")
        return cls(folder.name, why, text, seen.uid, seen.nics, seen.suspended is not None)


def named(pod: PodRecord | Unread) -> str:
    """`pod` in words; its container where it was made with one, for whoever made it knows of no pod."""
    if isinstance(pod, Unread):
        return f"pod {pod.id}, whose record cannot be read"
    if pod.implicit:
        return f"container {' '.join(c.name for c in pod.containers)}"
    return f"pod {pod.name}"


def _clear(folder: Path) -> None:
    """Remove what counts no more; what resists is left to the next start."""
    shutil.rmtree(folder, onerror=lambda _, path, why: log.warning("cannot remove %s: %s", path, why[1]))


class PodIndex:
    """Names, ids and unique beginnings of ids, of what is in memory."""

    def __init__(self) -> None:
        self.pods: dict[str, PodRecord] = {}
        self.unread: list[Unread] = []
        self.checkpoints: list[tuple[str, str]] = []  # the image of each, and its name in words

    def there(self) -> list[PodRecord | Unread]:
        """All pods that may have something on this host."""
        return [*self.pods.values(), *self.unread]

    def containers(self, owner: str | None = "") -> Iterator[tuple[PodRecord, ContainerRecord]]:
        """Those of `owner`; ours, if nobody else is named; None: all."""
        for pod in self.pods.values():
            for container in pod.containers if owner in (None, pod.owner) else ():
                yield pod, container

    def find_bundle(self, owner: str, id: str) -> tuple[PodRecord, ContainerRecord]:
        """The container that another engine calls `id`."""
        for pod, container in self.containers(owner):
            if container.name == id:
                return pod, container
        raise NotFound("container", id)

    def find_container(self, key: str) -> tuple[PodRecord, ContainerRecord]:
        """By full id, name, then unique beginning of an id, as docker does."""
        found = [pc for pc in self.containers() if key in (pc[1].id, pc[1].name)]
        found = found or [pc for pc in self.containers() if key and pc[1].id.startswith(key)]
        if not found:
            raise NotFound("container", key)
        if len(found) > 1:
            raise InvalidInput(f"container id {key} is the beginning of {len(found)} ids: give more of it")
        return found[0]

    def find_pod(self, key: str, *, all_owners: bool = False) -> PodRecord:
        """By id, name, then unique beginning of an id. InvalidInput for another engine's, unless `all_owners`."""
        ours = [p for p in self.pods.values() if all_owners or not p.owner]
        found = [p for p in ours if key in (p.id, p.name)]
        found = found or [p for p in ours if key and p.id.startswith(key)]
        if not found:
            self._refuse_foreign(key)
            raise NotFound("pod", key)
        if len(found) > 1:
            raise InvalidInput(f"pod id {key} is the beginning of {len(found)} ids: give more of it")
        return found[0]

    def _refuse_foreign(self, key: str) -> None:
        for pod in self.pods.values():
            if pod.owner and (key in (pod.id, pod.name) or (key and pod.id.startswith(key))):
                raise InvalidInput(
                    f"cannot take pod {key} for one of ours: it is of another engine, {pod.owner}, which is to be "
                    "asked; `hyperctl pod rm --all-owners` removes it all the same"
                )

    def invent_name(self) -> str:
        """A name that no container and no pod has."""
        taken = {c.name for _, c in self.containers()} | {p.name for p in self.pods.values()}
        return names.invent(lambda name: name in taken)

    def check_container_name(self, name: str) -> None:
        for _, container in self.containers():
            if container.name == name:
                words = f"the container name {name!r} is in use by container {container.id[:12]}: {AGAIN}"
                raise AlreadyExists(words, "container", name, container.id)

    def check_pod_name(self, name: str) -> None:
        for pod in self.pods.values():
            if pod.name != name:
                continue
            if pod.implicit:  # whoever made it named a container
                words = f"the name {name!r} is in use by {named(pod)}: {AGAIN}"
                raise AlreadyExists(words, "container", name, pod.containers[0].id)
            words = f"the pod name {name!r} is in use by pod {pod.id}: remove it to use the name again"
            raise AlreadyExists(words, "pod", name, pod.id)

    def network_users(self, name: str) -> list[str]:
        """Who is in the network, running or not, in words: containers, pods, and pods that may be."""
        pods = [
            pod
            for pod in self.pods.values()
            if name in (*(each.network for each in pod.spec.networks), *(nic.network for nic in pod.nics))
            and not pod.netns
        ]
        return [*map(named, pods), *self._mentioning(name)]

    def volume_user(self, name: str) -> str | None:
        """Who has the volume, in words: a container, or a pod that may; None if nobody has."""
        users = [f"container {c.name}" for _, c in self.containers(None) if any(m.source == name for m in c.mounts)]
        return next(iter([*users, *self._mentioning(name)]), None)

    def image_user(self, image_id: str) -> str | None:
        """Who was made from the image, or mounts it, in words: a container, a checkpoint, or a pod that may; None if
        nobody does."""
        there = [c for _, c in self.containers(None)]
        users = [(id, f"container {c.name}") for c in there for id in (c.image_id, *(i.image_id for i in c.images))]
        found = [name for image, name in [*users, *self.checkpoints] if image == image_id]
        return next(iter([*found, *self._mentioning(image_id)]), None)

    def _mentioning(self, word: str) -> list[str]:
        return [named(pod) for pod in self.unread if f'"{word}"' in pod.text]
