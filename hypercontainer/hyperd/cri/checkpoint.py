"""Checkpoints of containers, in an archive that says what they were in the words of those who look at such."""

from collections.abc import Mapping, MutableSequence
from typing import Any

import msgspec
from google.protobuf.message import Message

from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri.container import Containers
from hypercontainer.hyperd.cri.service import Call
from hypercontainer.lib import clock
from hypercontainer.model.api import Engine
from hypercontainer.model.settings import USUAL_HANDLER


class Checkpoints:
    def __init__(self, engine: Engine, containers: Containers) -> None:
        self._kube, self._containers = engine.kube, containers

    def calls(self) -> Mapping[str, Call]:
        return {"CheckpointContainer": self.make}

    async def make(self, request: pb.CheckpointContainerRequest) -> pb.CheckpointContainerResponse:
        found = await self._kube.container(request.container_id)
        told = await self._containers.told(found)
        pod = await self._kube.state(found.pod)
        config = {
            "id": found.id,
            "name": found.container.name,
            "rootfsImage": found.container.image,
            "rootfsImageRef": told.image_ref,
            "rootfsImageName": found.container.image,
            "runtime": pod.pod.handler or USUAL_HANDLER,
            "createdTime": clock.rfc3339(found.created_ns),
            "checkpointedTime": clock.rfc3339(clock.now_ns()),
            "restoredTime": clock.rfc3339(0),
            "restored": False,
        }
        documents = {"config.dump": _json(config), "status.dump": _json(plain(told))}
        within_s = float(request.timeout) if request.timeout > 0 else None
        await self._kube.checkpoint(found.id, request.location, documents, within_s)
        return pb.CheckpointContainerResponse()


def plain(message: Message) -> dict[str, Any]:
    """A message as Go writes it in JSON: names as they are described, enums and numbers as numbers."""
    return {field.name: _plain(value) for field, value in message.ListFields()}


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return plain(value)
    if isinstance(value, Mapping):
        return dict(value)
    return [_plain(each) for each in value] if isinstance(value, MutableSequence) else value


def _json(what: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(what), indent=2)
