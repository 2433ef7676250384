"""An image out of a container: its image, one more layer, and how it starts: as the container does."""

from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, Literal

import msgspec

from hypercontainer.engine.build import config as configs
from hypercontainer.engine.describe import exposed, health_config
from hypercontainer.engine.host import Host
from hypercontainer.errors import InvalidInput
from hypercontainer.images import commit as images
from hypercontainer.images import reference
from hypercontainer.images.manifest import Healthcheck, Process
from hypercontainer.model import documents as doc
from hypercontainer.model.record import ContainerRecord, PodRecord
from hypercontainer.model.spec import Commit
from hypercontainer.sandbox import archive
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.pod import Pod

HEADERS = 2 << 30  # bytes that a layer may have beside the content of its files
KINDS: Mapping[str, Literal[0, 1, 2]] = {"C": 0, "A": 1, "D": 2}


async def commit(host: Host, pod: Pod, container: Container, wanted: Commit) -> doc.ImageRef:
    archive.check(pod, container, "commit")
    names = [reference.parse(wanted.name)] if wanted.name else []
    if names and names[0].digest:
        raise InvalidInput(f"cannot commit as {wanted.name}: a digest is not given but computed")
    parent = host.images.get(container.record.image_id)
    before = wanted.config
    if before is None:
        before = config(pod.record, container.record, host.images.document(parent).config or Process())
    created_by = " ".join(before.get("Cmd") or []) if wanted.created_by is None else wanted.created_by
    starts = configs.apply(wanted.changes, before)
    async with aclosing(archive.layer(pod, container, pause=wanted.pause)) as layer:
        image = await images.commit(
            host.images,
            parent,
            layer,
            config=starts,
            names=names,
            words=images.Words(
                wanted.author,
                wanted.message,
                created_by,
                container.record.id,
                before | {"Image": container.record.image_name},
            ),
            limit=((container.record.spec.scratch_mib or host.settings.scratch_mib) << 20) + parent.size + HEADERS,
        )
    name = str(names[0]) if names else ""
    pod.emit("commit", container, imageID=image.id, imageRef=name, comment=wanted.message)
    if name:
        host.events.emit("image", "tag", image.id, {"name": name})
    return doc.ImageRef(id=image.id, name=name)


def config(pod: PodRecord, record: ContainerRecord, image: Process) -> dict[str, Any]:
    """OCI's "config", of what was asked for and what the container's `image` says where nothing was."""
    spec = record.spec
    cmd = image.cmd if spec.command is None and spec.entrypoint is None else spec.command
    anonymous = [mount.target for mount in record.mounts if mount.anonymous]
    made = Process(
        user=image.user if spec.user is None else spec.user,
        env=_env(spec.env, image.env or []),
        cmd=cmd or None,
        entrypoint=image.entrypoint if spec.entrypoint is None else spec.entrypoint,
        working_dir=image.working_dir if spec.working_dir is None else spec.working_dir,
        labels=record.labels or None,
        exposed_ports={port: {} for port in exposed(pod, record)} or None,
        volumes={target: {} for target in sorted({*record.volumes, *anonymous})} or None,
        stop_signal=image.stop_signal if spec.stop_signal is None else spec.stop_signal,
        healthcheck=_healthcheck(record) or image.healthcheck,
    )
    built: dict[str, Any] = msgspec.to_builtins(made)
    return built


def _healthcheck(record: ContainerRecord) -> Healthcheck | None:
    if record.healthcheck is None:
        return None
    said = msgspec.structs.asdict(health_config(record.healthcheck))
    return Healthcheck(**{key: value or None for key, value in said.items()})


def _env(own: list[str], image: list[str]) -> list[str] | None:
    """The container's own first, as docker has them."""
    names = {entry.partition("=")[0] for entry in own}
    return [*own, *(entry for entry in image if entry.partition("=")[0] not in names)] or None
