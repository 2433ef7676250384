"""A socket where a kubelet calls, by gRPC. Root's alone: who may ask for pods may ask for any folder of this host."""

import logging
from pathlib import Path

from hypercontainer.hyperd.cri import service
from hypercontainer.hyperd.cri.checkpoint import Checkpoints
from hypercontainer.hyperd.cri.container import Containers
from hypercontainer.hyperd.cri.event import Events
from hypercontainer.hyperd.cri.exec import Execs
from hypercontainer.hyperd.cri.image import Images
from hypercontainer.hyperd.cri.lists import streamed
from hypercontainer.hyperd.cri.metrics import Metrics
from hypercontainer.hyperd.cri.sandbox import Sandboxes
from hypercontainer.hyperd.cri.stats import Stats
from hypercontainer.hyperd.cri.status import Status
from hypercontainer.hyperd.cri.stream import Streams
from hypercontainer.hyperd.cri.streaming.server import StreamingServer
from hypercontainer.hyperd.listen import listen
from hypercontainer.model.api import Engine

log = logging.getLogger("hyperd")


class CriDoor:
    def __init__(self, path: Path, engine: Engine, streaming: StreamingServer) -> None:
        self._path, self._streaming = path, streaming
        streams, stats = Streams(engine, streaming), Stats(engine)
        containers = Containers(engine)
        pods = Sandboxes(engine), containers, Execs(engine), Events(engine, containers)
        nouns = (Status(engine), *pods, Checkpoints(engine, containers), streams, stats, Metrics(engine, stats))
        runtime = {name: call for noun in nouns for name, call in noun.calls().items()}
        self._runtime = streamed(service.RUNTIME, runtime)
        self._images = streamed(service.IMAGES, Images(engine).calls())
        self._server: service.Calls | None = None

    async def open(self) -> None:
        await self._streaming.open()
        self._server = service.Calls(self._runtime, self._images)
        await self._server.start(sock=listen(self._path, "", 0o600))
        log.info("listening on %s", self._path)

    async def close(self) -> None:
        """Calls that are under way end as if they had been cancelled: a kubelet asks again."""
        self._path.unlink(missing_ok=True)
        if self._server:
            self._server.close()
            await self._server.wait_closed()
        await self._streaming.close()
