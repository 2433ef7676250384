"""What happens to pods of a kubelet, told at once to whoever listens. Nothing of it is kept: who comes looks first."""

import asyncio
from collections.abc import AsyncGenerator, Mapping

from hypercontainer.engine import kube_states
from hypercontainer.errors import Exhausted
from hypercontainer.lib import clock
from hypercontainer.model.kube import EventKind, KubeEvent
from hypercontainer.model.record import ContainerRecord, PodRecord
from hypercontainer.sandbox.pod import Pod

QUEUE = 1_000  # events that a listener may lag behind before it is let go
KINDS: Mapping[str, EventKind] = {
    "create": "created",
    "start": "started",
    "stop": "stopped",
    "die": "stopped",
    "destroy": "deleted",
}
OF_CONTAINERS = KINDS.keys() - {"stop"}  # which is told of one besides that it has died


class KubeEvents:
    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[KubeEvent | None]] = set()

    def emit(self, action: str, record: PodRecord, live: Pod | None, container: ContainerRecord | None) -> None:
        """Tell of what has just happened to `container`, or to the pod, which is not `live` any more once it was
        removed, with all that was in it."""
        if not self._listeners or action not in (OF_CONTAINERS if container else KINDS) or record.provisional:
            return
        event = KubeEvent(
            kind=KINDS[action],
            id=container.id if container else record.id,
            time_ns=clock.now_ns(),
            pod=kube_states.of_pod(record, ready=live is not None and kube_states.ready(live)),
            containers=[kube_states.of_container(record, each) for each in record.containers] if live else [],
        )
        for queue in list(self._listeners):
            if queue.full():
                self._listeners.discard(queue)
                while not queue.empty():  # what it will never hear of is nothing to keep
                    queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(event)

    async def follow(self) -> AsyncGenerator[KubeEvent, None]:
        """See model.api.Kube.events."""
        queue: asyncio.Queue[KubeEvent | None] = asyncio.Queue(QUEUE)
        self._listeners.add(queue)
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._listeners.discard(queue)
        raise Exhausted(f"cannot tell of more events: {QUEUE} were not taken, and are lost; listen anew, and list pods")
