"""Tells containerd what happens to its tasks, in the order in which that happens, over its ttrpc socket."""

import asyncio
import logging

from hypercontainer.errors import HyperError
from hypercontainer.hyperd.shim.messages import EVENTS, TOPICS, Envelope, ForwardRequest, any_of, timestamp
from hypercontainer.hyperd.shim.wire import read_frame
from hypercontainer.lib import clock, protobuf, ttrpc

log = logging.getLogger("hyperd")

MOST = 2048  # events that wait
TRIES, PAUSE_S, ANSWER_S = 10, 0.5, 10.0


class Publisher:
    def __init__(self, address: str, namespace: str) -> None:
        self._address, self.namespace = address, namespace
        self._waiting: asyncio.Queue[Envelope] = asyncio.Queue(MOST)

    def publish(self, event: object) -> None:
        """Never waits; one too many is dropped, and said to be."""
        name = type(event).__name__
        envelope = Envelope(
            timestamp=timestamp(clock.now_ns()),
            namespace=self.namespace,
            topic=TOPICS[type(event)],
            event=any_of(f"containerd.events.{name}", event),
        )
        try:
            self._waiting.put_nowait(envelope)
        except asyncio.QueueFull:
            log.warning("containerd at %s is not told of a %s: it takes no events", self._address, name)

    async def run(self) -> None:
        while True:
            envelope = await self._waiting.get()
            await self._deliver(envelope)
            self._waiting.task_done()

    async def flush(self) -> None:
        await self._waiting.join()

    async def _deliver(self, envelope: Envelope) -> None:
        why: Exception | None = None
        for _ in range(TRIES):
            try:
                async with asyncio.timeout(ANSWER_S):
                    return await self._forward(envelope)
            except (OSError, HyperError) as e:  # also TimeoutError: containerd may be starting again
                why = e
                await asyncio.sleep(PAUSE_S)
        log.warning("containerd at %s is not told of %s: %r", self._address, envelope.topic, why)
        return None

    async def _forward(self, envelope: Envelope) -> None:
        reader, writer = await asyncio.open_unix_connection(self._address)
        try:
            data = protobuf.encode(ForwardRequest(envelope=envelope))
            writer.write(ttrpc.request(1, EVENTS, "Forward", data).encode())
            frame = await read_frame(reader)
            if frame is None:
                raise ConnectionError("it has closed the connection")
            status = protobuf.decode(frame.message, ttrpc.Response).status
            if status and status.code:
                raise ConnectionError(status.message[:300])
        finally:
            writer.close()
