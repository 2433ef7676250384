"""What outlives an engine under test. All is real but the machines and the network, which needs root."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import NotFound
from hypercontainer.model.arch import host_name
from hypercontainer.model.pod_network import Asked, Attached
from hypercontainer.model.principal import Principal, Role
from hypercontainer.model.record import NetworkRecord
from hypercontainer.model.settings import Settings
from hypercontainer.model.spec import Dns, ExecSpec
from hypercontainer.sandbox import rootfs
from hypercontainer.sandbox.exec import ExecSession
from hypercontainer.testing.fake_network import FakeNetwork
from hypercontainer.testing.fakes import FakeHypervisor
from tests.conftest import PROFILES

ADMIN = Principal(Role.ADMIN, uid=0, gid=0, pid=1)
ROOTFS = rootfs.image(Path("/image.erofs"))


class FakeKernel(NamedTuple):
    name: str
    source: str = ""


class FakeKernels:
    """Of this host's architecture, and of whichever `others` says."""

    def __init__(self) -> None:
        self.others: set[str] = set()

    def get(self, name: str) -> FakeKernel:
        return FakeKernel(name)

    def of(self, arch: str, name: str = "") -> FakeKernel:
        if arch not in (host_name(), *self.others):
            raise NotFound("kernel", f"none of {arch} is installed", "fetch one")
        return FakeKernel(name)

    def boot_files(self, bundle: FakeKernel, hyperstart: Path, further: Sequence[str]) -> tuple[Path, Path]:
        return Path("/kernel"), Path("/initrd")

    def list(self) -> list[str]:
        return []

    def unread(self) -> Sequence[str]:
        return ()

    def sweep(self) -> None:
        pass


class FakePodNetworks:
    """As of CNI, without namespaces. `connected`: the pods that there are."""

    def __init__(self) -> None:
        self.connected: set[str] = set()
        self.asked: list[Asked] = []
        self.refuses = ""

    async def attach(self, asked: Asked) -> Attached:
        if self.refuses:
            raise NotFound("network", self.refuses)
        self.connected.add(asked.id)
        self.asked.append(asked)
        return Attached("", "pods", ["10.1.0.2"], Dns(nameservers=["10.1.0.1"], search=["pods"]))

    async def detach(self, id: str) -> None:
        self.connected.discard(id)

    async def status(self) -> None:
        if self.refuses:
            raise NotFound("network", self.refuses)

    async def sweep(self, keep: Callable[[], Collection[str]]) -> list[str]:
        self.connected &= set(keep())
        return []


class World:
    """What outlives an engine: folders, guests, the network."""

    def __init__(self, path: Path, factory: Literal["template", "direct"] = "template") -> None:
        self.settings = Settings(
            root=str(path / "lib"),
            run=str(path / "run"),
            accelerator="tcg",
            scratch_mib=16,
            boot_timeout_s=10,
            factory=factory,
            pool=[],
            cri_socket="/never.sock",
            apparmor_profiles=str(PROFILES),
        )
        self.hypervisor = FakeHypervisor()
        self.network = FakeNetwork()
        self.pod_networks = FakePodNetworks()
        self.networks = {"bridge": self.network}  # all that were ever made
        self.engines: list[LocalEngine] = []

    def _bridge(self, record: NetworkRecord) -> FakeNetwork:
        number = len(self.networks)
        return self.networks.setdefault(record.name, FakeNetwork(record.name, f"10.0.{number}"))

    async def engine(self, **how: object) -> LocalEngine:
        """A new one, as after a restart of hyperd."""
        engine = LocalEngine(self.settings, hypervisor=self.hypervisor, bridges=self._bridge, **how)  # type: ignore[arg-type]
        engine.host.kernels = FakeKernels()  # type: ignore[assignment]
        engine.host.pod_networks = self.pod_networks  # type: ignore[assignment]
        self.engines.append(engine)
        await engine.open()
        return engine

    async def check_nothing_left(self) -> None:
        """Nor is anything when the ends that are under way are over."""
        for engine in self.engines:
            await engine.host.site.endings.close()
        run = Path(self.settings.run)
        left = [path for folder in ("pods", "shares") if (run / folder).exists() for path in (run / folder).iterdir()]
        nics = [nic for network in self.networks.values() for nic in network.nics]
        assert (self.hypervisor.alive, nics, left, self.pod_networks.connected) == ([], [], [], set())


async def load(engine: LocalEngine, archive: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield archive.read_bytes()

    async for _ in await engine.images.load(chunks()):
        pass


async def execute(engine: LocalEngine, c: str, spec: ExecSpec) -> ExecSession:
    """Create an exec and start it, with somebody at its streams."""
    session = await engine.execs.start(await engine.execs.create(c, spec))
    assert session
    return session


async def echoed(engine: LocalEngine, id: str, line: bytes) -> None:
    """Start a container that runs cat, and have it say `line`."""
    session = await engine.containers.attach(id, stdin=True, stdout=True, stderr=True, logs=False, start=True)
    await session.write(line)
    async for _, data in session:
        assert data == line
        break


Run = Callable[..., Awaitable[str]]
