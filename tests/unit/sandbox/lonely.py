"""Pods without an engine: a site of fakes, and a supervisor that writes down what it is asked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from hypercontainer.errors import Exhausted
from hypercontainer.factory.direct import DirectFactory
from hypercontainer.lib import clock
from hypercontainer.model import defaults, ids
from hypercontainer.model.container import ContainerConfig, Process
from hypercontainer.model.record import VERSION, ContainerRecord, LogSinkRecord, PodRecord, RootfsRecord, SinkRecord
from hypercontainer.model.spec import ContainerSpec, PodSpec
from hypercontainer.sandbox import rootfs
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.locked import LockedPod
from hypercontainer.sandbox.pod import Pod
from hypercontainer.sandbox.site import Boot, Limits, Site
from hypercontainer.storage.mounted import MountedVolumes
from hypercontainer.storage.volume import VolumeStore
from hypercontainer.testing.fake_network import FakeNetwork
from hypercontainer.testing.fakes import FakeHypervisor


class FakeSupervisor:
    """See sandbox.locked.Supervisor. It lets be what ends."""

    def __init__(self, network: FakeNetwork) -> None:
        """`uid`: of VMMs."""
        self._network, self.uid = network, 1000
        self.full = False  # the disk that records are on
        self.saved: list[PodRecord] = []
        self.written = b""  # the last of them, as it is on that disk
        self.events: list[str] = []
        self.after: Literal["exited", "restarting"] = "exited"

    async def allocate(self, pod: PodRecord) -> None:
        pod.uid = self.uid
        for number, endpoint in enumerate(pod.spec.networks):
            pod.nics += await self._network.plan(pod.id, [], [], endpoint=endpoint, number=number)
        self.save(pod)

    def save(self, pod: PodRecord, *, durable: bool = False) -> None:
        if self.full:
            raise Exhausted("the disk is full")
        self.saved.append(pod)
        self.written = msgspec.json.encode(pod)

    def note(self, pod: PodRecord) -> bool:
        try:
            self.save(pod)
        except Exhausted:
            return False
        return True

    def hosts(self, pod: PodRecord) -> list[list[str]]:
        return []

    def linked(self, pod: PodRecord, container: ContainerRecord) -> list[str]:
        return []

    def emit(self, action: str, pod: PodRecord, container: ContainerRecord | None, **attributes: str) -> None:
        self.events.append(f"{container.name if container else 'pod'} {action}")

    def prepared(self, pod: Pod, container: Container) -> None:
        pass

    def began(self, pod: Pod, container: Container) -> None:
        self.events.append(f"{container.record.name} began")

    def state_after(self, container: ContainerRecord) -> Literal["exited", "restarting"]:
        self.events.append(f"{container.name} {container.exit_code}?")
        return self.after

    async def ended(self, pod: LockedPod, container: Container) -> None:
        self.events.append(f"{container.record.name} ended, {container.record.state}")

    async def unused(self, pod: LockedPod) -> None:
        self.events.append("unused")


class Household:
    """Pods of a site, each container of which sleeps: see rootfs_contract.House."""

    def __init__(self, site: Site, supervisor: FakeSupervisor, folder: Path) -> None:
        """Pods are in `folder`."""
        self.site, self.supervisor, self._folder = site, supervisor, folder

    def pod(self, *roots: RootfsRecord) -> Pod:
        made = self.again(pod_record(networks=[]))
        for root in roots:
            self.add(made, root)
        return made

    def add(self, pod: Pod, root: RootfsRecord) -> Container:
        record = _container(["sleep", "1000"], root, [LogSinkRecord()])
        record.config = msgspec.structs.replace(record.config, mounts=defaults.mounts())
        container = pod.add(record)
        (pod.folder / container.record.id).mkdir(parents=True)
        return container

    def again(self, record: PodRecord) -> Pod:
        return Pod(self.site, record, self.supervisor, self._folder / record.id)

    def left(self) -> list[str]:
        mounts = [Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        files = [path for folder in ("pods", "shares") for path in (self.site.run / folder).glob("*")]
        return [str(path) for path in (*mounts, *files) if path.is_relative_to(self.site.run)]


class Lot:
    """A site, and what a test needs beside it."""

    def __init__(self, path: Path) -> None:
        self.hypervisor, self.network = FakeHypervisor(), FakeNetwork()
        self.supervisor = FakeSupervisor(self.network)
        self.image = path / "image.erofs"
        self.image.touch()
        self._pods = path / "pods"
        self.site = Site(
            limits=Limits(memory_mib=256, scratch_mib=16, log_max_mib=1, log_files=1, boot_timeout_s=10),
            hypervisor=self.hypervisor,
            networks=lambda _: self.network,
            factory=lambda _: DirectFactory(self.hypervisor),
            boot=self._boot,
            run=path / "run",
            scratches=path / "scratch",
            volumes=MountedVolumes(VolumeStore(path / "volumes")),
        )

    async def _boot(self, pod: PodRecord) -> Boot:
        return Boot(Path("/kernel"), Path("/initrd"), "tcg")

    def pod(
        self, *commands: str, implicit: bool = False, sinks: Sequence[SinkRecord] = (LogSinkRecord(),), **spec: object
    ) -> Pod:
        """A pod of a container for each of these commands of the fake agent's, named after its first word."""
        record = pod_record(implicit=implicit, **spec)
        pod = Pod(self.site, record, self.supervisor, self._pods / record.id)
        for command in commands:
            args = command.split()
            container = pod.add(_container(args, rootfs.image(self.image), list(sinks)))
            (pod.folder / container.record.id).mkdir(parents=True)
        return pod


def pod_record(*, implicit: bool = False, **spec: object) -> PodRecord:
    return PodRecord(
        version=VERSION,
        id=ids.new_pod_id(),
        name="p",
        spec=PodSpec(name="p", **spec),  # type: ignore[arg-type]
        implicit=implicit,
        created_ns=clock.now_ns(),
    )


def _container(args: list[str], root: RootfsRecord, sinks: list[SinkRecord]) -> ContainerRecord:
    return ContainerRecord(
        id=ids.new_id(),
        name=args[0],
        spec=ContainerSpec(image="image", open_stdin=True),
        image_id="sha256:0",
        image_name="image",
        config=ContainerConfig(process=Process(args=args), mounts=[]),
        rootfs=root,
        sinks=sinks,
        stop_signal=15,
        labels={},
        mounts=[],
        created_ns=clock.now_ns(),
    )
