"""The pods' folders: one record each, replaced whole; names and ids found fast. One hyperd at a time holds them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from hypercontainer.errors import AlreadyExists, Exhausted, HyperError, InvalidInput, NotFound
from hypercontainer.lib import files
from hypercontainer.model.record import VERSION, ContainerRecord, PodRecord

GRAVE = ".removing-"


class PodStore:
    """`root`/<pod id>/pod.json, and beside it a folder per container. See docs/state.md."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def load(self) -> tuple[list[PodRecord], list[str]]:
        """Every record, oldest first, and a line for each folder that holds none we can read (left as it is)."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        records, complaints = [], []
        for folder in sorted(self.root.iterdir()):
            if folder.name.startswith(GRAVE) or not (folder / "pod.json").exists():
                shutil.rmtree(folder)  # a removal or a creation that a crash cut short: nobody was told of it
                continue
            try:
                record = msgspec.json.decode((folder / "pod.json").read_bytes(), type=PodRecord)
            except msgspec.DecodeError as e:
                complaints.append(f"cannot read {folder}/pod.json: {e}")
                continue
            if record.version != VERSION:
                complaints.append(
                    f"cannot use {folder}/pod.json: version {record.version}, this hyperd reads {VERSION}"
                )
                continue
            records.append(record)
        return sorted(records, key=lambda r: r.created_ns), complaints

    def folder(self, pod_id: str) -> Path:
        return self.root / pod_id

    def container_folder(self, pod_id: str, container_id: str) -> Path:
        return self.root / pod_id / container_id

    def suspended(self, pod_id: str) -> Path:
        """Where the machine of one that is suspended is (saved.py)."""
        return self.root / pod_id / "suspended"

    def create(self, record: PodRecord) -> None:
        """A new pod's folder. From the return on, the pod outlives us and a power cut."""
        self.folder(record.id).mkdir(mode=0o700)
        self.save(record, durable=True)
        files.fsync(self.root)

    def begin(self, record: PodRecord, container: ContainerRecord) -> None:
        """The folders of a pod that is being made, and of its container. On failure nothing is left."""
        try:
            self.folder(record.id).mkdir(mode=0o700)
            self.container_folder(record.id, container.id).mkdir(mode=0o700)
            self.save(record)
        except OSError as e:
            shutil.rmtree(self.folder(record.id), ignore_errors=True)
            kind = Exhausted if e.errno in files.FULL else HyperError
            raise kind(f"cannot make {self.folder(record.id)}: {e.strerror}") from e

    def save(self, record: PodRecord, *, durable: bool = False) -> None:
        """Replace the record. Not `durable`: safe against our own death at any moment, not against a power cut."""
        data = msgspec.json.format(msgspec.json.encode(record), indent=1)
        files.replace(self.folder(record.id) / "pod.json", data, durable=durable)

    def remove(self, pod_id: str) -> None:
        grave = self.root / f"{GRAVE}{pod_id}"
        os.rename(self.folder(pod_id), grave)
        shutil.rmtree(grave)

    def remove_container(self, pod_id: str, container_id: str) -> None:
        shutil.rmtree(self.container_folder(pod_id, container_id), ignore_errors=True)


class Index:
    """Names, ids and unique beginnings of ids, of what is in memory."""

    def __init__(self) -> None:
        self.pods: dict[str, PodRecord] = {}
        self.checkpoints: list[tuple[str, str]] = []  # the image of each, and its name in words

    def containers(self) -> Iterator[tuple[PodRecord, ContainerRecord]]:
        for pod in self.pods.values():
            for container in pod.containers:
                yield pod, container

    def find_container(self, key: str) -> tuple[PodRecord, ContainerRecord]:
        """By full id, name, then unique beginning of an id, as docker does."""
        found = [pc for pc in self.containers() if key in (pc[1].id, pc[1].name)]
        found = found or [pc for pc in self.containers() if key and pc[1].id.startswith(key)]
        if not found:
            raise NotFound("container", key)
        if len(found) > 1:
            raise InvalidInput(f"container id {key} is the beginning of {len(found)} ids: give more of it")
        return found[0]

    def find_pod(self, key: str) -> PodRecord:
        found = [p for p in self.pods.values() if key in (p.id, p.name)]
        found = found or [p for p in self.pods.values() if key and p.id.startswith(key)]
        if not found:
            raise NotFound("pod", key)
        if len(found) > 1:
            raise InvalidInput(f"pod id {key} is the beginning of {len(found)} ids: give more of it")
        return found[0]

    def check_container_name(self, name: str) -> None:
        for _, container in self.containers():
            if container.name == name:
                raise AlreadyExists(
                    f"the container name {name!r} is in use by container {container.id[:12]}: "
                    "remove or rename that container to use the name again"
                )

    def check_pod_name(self, name: str) -> None:
        for pod in self.pods.values():
            if pod.name == name:
                raise AlreadyExists(f"the pod name {name!r} is in use by pod {pod.id}: remove it to use the name again")

    def volume_user(self, name: str) -> str | None:
        """A container that has the volume, in words; None if none has."""
        return next(
            (f"container {c.name}" for _, c in self.containers() if any(m.source == name for m in c.mounts)), None
        )

    def image_user(self, image_id: str) -> str | None:
        """A container that was made from the image, or a checkpoint of one, in words; None if there is none."""
        users = [(c.image_id, f"container {c.name}") for _, c in self.containers()]
        return next((name for image, name in [*users, *self.checkpoints] if image == image_id), None)
