"""An engine in memory: it answers every call, writes down which came, and fails when told to."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Literal

from hypercontainer.lib.trace import Step
from hypercontainer.model import documents as doc
from hypercontainer.model.api import Session
from hypercontainer.model.figures import Family, Figure

EMULATED = doc.Isolation(level="emulated", accelerator="tcg", reason="/dev/kvm does not exist")
SAMPLE = doc.Stats(
    id="c1",
    name="/web",
    read="2026-01-01T00:00:00Z",
    cpu_stats=doc.CpuStats(
        cpu_usage=doc.CpuUsage(total_usage=1, usage_in_usermode=1, usage_in_kernelmode=0), online_cpus=1
    ),
    memory_stats=doc.MemoryStats(usage=1, limit=2),
    pids_stats=doc.PidsStats(current=1),
    blkio_stats=doc.BlkioStats(read_bytes=0, write_bytes=0),
    networks={},
)
IMAGE = doc.ImageRef(id="sha256:1", name="busybox:latest")
KERNEL = doc.Kernel(name="debian", version="6.1", architecture="x86_64", digest="sha256:2", size=1, current=True)
VOLUME = doc.Volume(name="data", mountpoint="/v/data", created_at="2026-01-01T00:00:00Z", labels={})
NETWORK = doc.Network(
    name="db",
    id="1" * 64,
    created="2026-01-01T00:00:00Z",
    enable_ipv6=False,
    ipam=doc.Ipam(config=[doc.SubnetConfig(subnet="10.1.2.0/24", gateway="10.1.2.1")]),
    internal=False,
    options={},
    labels={},
)
EVENT = doc.Event(type="container", action="start", actor=doc.Actor(id="c1", attributes={}), time=1, time_nano=1)


class FakeSession:
    """Output comes from `say` and `end`; what the client does is written down."""

    def __init__(self, window: int = 4) -> None:
        self.id = "c1"
        self.timings = [Step("boot", 0.0, 1.5)]
        self.output: asyncio.Queue[tuple[Literal[1, 2], bytes] | Exception | None] = asyncio.Queue(window)
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.stdin = bytearray()
        self.stdin_closed = asyncio.Event()
        self.detached = asyncio.Event()
        self.done: list[tuple[str, Any]] = []
        self.acted = asyncio.Event()
        self.reads_stdin = asyncio.Event()
        self.reads_stdin.set()
        self.broken_pipe = False
        self.taken = 0

    async def say(self, data: bytes, stream: Literal[1, 2] = 1) -> None:
        await self.output.put((stream, data))

    async def end(self, status: int = 0) -> None:
        await self.output.put(None)
        self.status.set_result(status)

    async def __aiter__(self) -> AsyncIterator[tuple[Literal[1, 2], bytes]]:
        while (item := await self.output.get()) is not None:
            if isinstance(item, Exception):
                raise item
            self.taken += len(item[1])
            yield item

    async def write(self, data: bytes) -> None:
        await self.reads_stdin.wait()
        if self.broken_pipe:
            raise BrokenPipeError
        self.stdin += data

    async def close_stdin(self) -> None:
        self.stdin_closed.set()

    reason = ""

    def _act(self, what: str, value: Any) -> None:
        self.done.append((what, value))
        self.acted.set()

    async def signal(self, number: int) -> None:
        self._act("signal", number)

    async def resize(self, rows: int, columns: int) -> None:
        self._act("resize", (rows, columns))

    async def wait(self) -> int:
        return await asyncio.shield(self.status)

    async def detach(self) -> None:
        self.detached.set()


async def some(*items: Any) -> AsyncGenerator[Any, None]:
    for item in items:
        yield item


class FakeEngine:
    """Calls are written down as (noun.verb, positional, named). Those that are not written out below answer None."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.answers: dict[str, Any] = {}  # instead of what is below: a value, an exception, or a coroutine function
        self.session: FakeSession | None = None
        self.received = bytearray()
        self.closed = False
        self.builds = Builds(self, "builds")
        for noun in "system", "pods", "volumes", "networks", "kernels", "factory", "snapshots":
            setattr(self, noun, Noun(self, noun))
        self.containers, self.execs, self.images = Containers(self, "containers"), Execs(self, "execs"), Images(self)

    def __getattr__(self, noun: str) -> Any:  # for the type checker
        raise AttributeError(noun)

    def note(self, call: str, *args: Any, **named: Any) -> Any:
        self.calls.append((call, args, named))
        answer = self.answers.get(call)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        self.closed = True


class Noun:
    def __init__(self, engine: FakeEngine, noun: str) -> None:
        self.engine, self.noun = engine, noun

    def __getattr__(self, verb: str) -> Any:
        async def method(*args: Any, **named: Any) -> Any:
            call = f"{self.noun}.{verb}"
            told = self.engine.note(call, *args, **named)
            answer = told if call in self.engine.answers else ANSWERS.get(call)
            return await answer(*args, **named) if callable(answer) else answer

        return method


class Containers(Noun):
    async def attach(self, c: str, **named: Any) -> Session:
        self.engine.note("containers.attach", c, **named)
        self.engine.session = self.engine.session or FakeSession()
        return self.engine.session

    async def archive_put(self, c: str, path: str, chunks: AsyncIterator[bytes], **named: Any) -> None:
        self.engine.note("containers.archive_put", c, path, **named)
        async for data in chunks:
            self.engine.received += data


class Execs(Noun):
    async def create(self, c: str, spec: Any) -> str:
        self.engine.note("execs.create", c, spec)
        self.detach = spec.detach
        return "e1"

    async def start(self, id: str, *, detach: bool = False, first_steps_s: float = 0.0) -> Session | None:
        self.engine.note("execs.start", id)
        if self.detach or detach:
            return None
        self.engine.session = self.engine.session or FakeSession()
        return self.engine.session


class Images(Noun):
    def __init__(self, engine: FakeEngine) -> None:
        super().__init__(engine, "images")

    async def import_(self, chunks: AsyncIterator[bytes], **named: Any) -> doc.ImageRef:
        self.engine.note("images.import_", **named)
        async for data in chunks:
            self.engine.received += data
        return IMAGE

    async def load(self, chunks: AsyncIterator[bytes], platforms: Sequence[str] = ()) -> AsyncGenerator[Any, None]:
        self.engine.note("images.load", *([platforms] if platforms else []))

        async def loading() -> AsyncGenerator[Any, None]:
            async for data in chunks:
                self.engine.received += data
                yield doc.Progress(id="tar", action="reading", current=len(self.engine.received))
            yield doc.ImagesDone(images=[IMAGE])

        return loading()


class Builds(Noun):
    async def run(
        self, context: AsyncIterator[bytes], wanted: Any, *, credentials: Any, by: Any
    ) -> AsyncGenerator[Any, None]:
        self.engine.note("builds.run", wanted, credentials=credentials, by=by)
        async for data in context:
            self.engine.received += data
        return some(doc.BuildOutput(stream="Step 1/1 : FROM x\n"), doc.BuildStage(stage="sha256:1"))


def _lines(*items: Any) -> Any:
    async def answer(*_: Any, **__: Any) -> AsyncGenerator[Any, None]:
        return some(*items)

    return answer


ANSWERS: dict[str, Any] = {
    "system.version": doc.Version(
        version="0.1.0", api_version="1", python_version="3.11", arch="x86_64", kernel_version="6"
    ),
    "system.doctor": doc.Doctor(checks=[doc.Check(name="qemu", status="ok", detail="7.2")], isolation=EMULATED),
    "system.events": _lines(EVENT, EVENT),
    "system.figures": [Family("hyperd_pods", "Pods", "gauge", [Figure(2, {"state": 'a"b'})])],
    "containers.create": doc.Created(id="c1"),
    "pods.add": doc.Created(id="c2"),
    "pods.create": doc.Created(id="p1"),
    "containers.list": [],
    "pods.list": [],
    "images.list": [],
    "volumes.list": [VOLUME],
    "networks.list": [NETWORK],
    "networks.create": NETWORK,
    "networks.inspect": NETWORK,
    "networks.prune": doc.Pruned(deleted=[], space_reclaimed=0),
    "kernels.list": [KERNEL],
    "factory.status": doc.Factory(kind="direct", templates=[], pools=[]),
    "images.history": [],
    "containers.wait": doc.WaitResult(status_code=3),
    "containers.top": doc.Top(titles=["PID"], processes=[["1"]]),
    "containers.stats": SAMPLE,
    "containers.logs": _lines(
        doc.LogEntry(stream=1, time_ns=1, data=b"hello\n"), doc.LogEntry(stream=2, time_ns=2, data=b"\xff")
    ),
    "containers.archive_get": _lines(b"tar", b"ball"),
    "containers.commit": IMAGE,
    "containers.changes": [doc.Change(path="/etc", kind=0), doc.Change(path="/etc/new", kind=1)],
    "containers.export": _lines(b"tree"),
    "images.pull": _lines(
        doc.Progress(id="layer", action="download", current=1, total=2), doc.ImagesDone(images=[IMAGE])
    ),
    "images.push": _lines(
        doc.Progress(id="layer", action="Pushed"),
        doc.PushDone(pushed=[doc.Pushed(name="host/a", tag="1", digest="sha256:1", size=2)]),
    ),
    "images.save": _lines(b"image"),
    "images.remove": [doc.ImageRemoved(untagged="busybox:latest"), doc.ImageRemoved(deleted="sha256:1")],
    "images.prune": doc.Pruned(deleted=[], space_reclaimed=0),
    "volumes.prune": doc.Pruned(deleted=[], space_reclaimed=0),
    "volumes.create": VOLUME,
    "volumes.inspect": VOLUME,
    "kernels.fetch": _lines(doc.KernelDone(kernel=KERNEL)),
    "kernels.build": _lines(doc.Progress(id="kernel", action="compiling"), doc.KernelDone(kernel=KERNEL)),
}
