"""GetContainerEvents: what happens to pods and containers, as it happens."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri import sandbox
from hypercontainer.hyperd.cri.container import Containers
from hypercontainer.hyperd.cri.service import Call
from hypercontainer.model.api import Engine
from hypercontainer.model.kube import EventKind, KubeEvent

TYPE: Mapping[EventKind, pb.ContainerEventType] = {
    "created": pb.CONTAINER_CREATED_EVENT,
    "started": pb.CONTAINER_STARTED_EVENT,
    "stopped": pb.CONTAINER_STOPPED_EVENT,
    "deleted": pb.CONTAINER_DELETED_EVENT,
}


class Events:
    def __init__(self, engine: Engine, containers: Containers) -> None:
        self._kube, self._containers = engine.kube, containers

    def calls(self) -> Mapping[str, Call]:
        return {"GetContainerEvents": self.follow}

    async def follow(self, request: pb.GetEventsRequest) -> AsyncGenerator[pb.ContainerEventResponse, None]:
        async with aclosing(self._kube.events()) as events:
            async for event in events:
                yield await self._told(event)

    async def _told(self, event: KubeEvent) -> pb.ContainerEventResponse:
        """A pod's own events have its id as the container's."""
        return pb.ContainerEventResponse(
            container_id=event.id,
            container_event_type=TYPE[event.kind],
            created_at=event.time_ns,
            pod_sandbox_status=sandbox.status(event.pod),
            containers_statuses=[await self._containers.told(each) for each in event.containers],
        )
