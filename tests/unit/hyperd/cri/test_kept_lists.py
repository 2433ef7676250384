"""Lists are kept from one call to the next: whatever happens, they are as if they were made anew."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import HyperError
from hypercontainer.hyperd.cri import container, sandbox
from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.testing.fakes import FakeGuest
from tests.unit.engine.world import World, load

STEPS = 60


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path, factory="direct")
    yield world
    for engine in world.engines:
        await engine.close()
    for guest in world.hypervisor.alive:
        await guest.kill()


class Node:
    """One engine and its door, and what may happen there."""

    def __init__(self, engine: LocalEngine, chance: random.Random) -> None:
        self.engine, self.kube, self.chance, self.count = engine, engine.kube, chance, 0
        self.pods, self.containers = sandbox.Sandboxes(engine), container.Containers(engine)

    async def pod(self) -> str:
        return self.chance.choice([each.id for each in await self.kube.list()] or ["none"])

    async def container(self) -> str:
        return self.chance.choice([each.id for each in await self.kube.containers()] or ["none"])

    async def run_pod(self) -> None:
        """Another one, or the next attempt at one, or the same again."""
        n = self.chance.randrange(3)
        metadata = pb.PodSandboxMetadata(name=f"p{n}", uid=str(n), namespace="d", attempt=self.chance.randrange(2))
        config = pb.PodSandboxConfig(metadata=metadata, labels={"n": str(n)}, annotations={"a": "b" * n})
        await self.pods.run(pb.RunPodSandboxRequest(config=config))

    async def create(self) -> None:
        self.count += 1
        config = pb.ContainerConfig(
            metadata=pb.ContainerMetadata(name=f"c{self.chance.randrange(3)}", attempt=self.count),
            image=pb.ImageSpec(image="busybox"),
            command=[self.chance.choice(["cat", "true", "/no/such"])],
            labels={"n": str(self.count % 2)},
        )
        await self.containers.create(pb.CreateContainerRequest(pod_sandbox_id=await self.pod(), config=config))

    async def start(self) -> None:
        await self.kube.start(await self.container())

    async def stop_container(self) -> None:
        await self.kube.stop_container(await self.container(), 0)

    async def remove_container(self) -> None:
        await self.kube.remove_container(await self.container())

    async def stop(self) -> None:
        await self.kube.stop(await self.pod())

    async def remove(self) -> None:
        await self.kube.remove(await self.pod())

    async def lose(self) -> None:
        """Its machine ends by itself."""
        vm = self.kube._pod(await self.pod()).machine.vm
        if vm and isinstance(vm.guest, FakeGuest):
            await vm.guest.kill()

    async def silence(self) -> None:
        """Nobody reaches its machine, or somebody does again."""
        machine = self.kube._pod(await self.pod()).machine
        machine.unreached = "" if machine.unreached else "silent"

    async def pods_told(self, asked: pb.PodSandboxFilter | None) -> pb.ListPodSandboxResponse:
        return pb.ListPodSandboxResponse.FromString(await self.pods.list(pb.ListPodSandboxRequest(filter=asked)))

    async def containers_told(self, asked: pb.ContainerFilter | None) -> pb.ListContainersResponse:
        return pb.ListContainersResponse.FromString(await self.containers.list(pb.ListContainersRequest(filter=asked)))

    async def check(self) -> None:
        pods, containers = await self.kube.list(), await self.kube.containers()
        n, pod, one = str(self.chance.randrange(3)), await self.pod(), await self.container()
        for asked in (
            pb.PodSandboxFilter(),
            pb.PodSandboxFilter(id=pod[:6]),
            pb.PodSandboxFilter(state=pb.PodSandboxStateValue(state=pb.SANDBOX_READY), label_selector={"n": n}),
            pb.PodSandboxFilter(state=pb.PodSandboxStateValue(state=pb.SANDBOX_NOTREADY)),
        ):
            wanted = [sandbox.entry(each) for each in pods if sandbox.matches(each, asked)]
            assert list((await self.pods_told(asked)).items) == wanted
        for of in (
            pb.ContainerFilter(),
            pb.ContainerFilter(id=one, pod_sandbox_id=pod),
            pb.ContainerFilter(pod_sandbox_id=pod[:5], label_selector={"n": n}),
            *(pb.ContainerFilter(state=pb.ContainerStateValue(state=state)) for state in container.STATE.values()),
        ):
            entries = [container.entry(each) for each in containers if container.matches(each, of)]
            assert list((await self.containers_told(of)).containers) == entries
        assert list((await self.pods_told(None)).items) == [sandbox.entry(each) for each in pods]
        all_of_them = [container.entry(each) for each in containers]
        assert list((await self.containers_told(None)).containers) == all_of_them


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_they_are_as_if_made_anew(world: World, busybox_archive: Path, seed: int) -> None:
    engine = await world.engine()
    await load(engine, busybox_archive)
    node = Node(engine, random.Random(seed))
    steps = [node.run_pod, node.create, node.start, node.stop_container, node.remove_container, node.stop]
    rare = [node.remove, node.lose, node.silence]
    for _ in range(STEPS):
        try:
            await node.chance.choice([*2 * steps, *rare])()
        except HyperError:
            pass  # there is none of that, or it does not run
        await node.check()
    for pod in await node.kube.list():
        await node.kube.remove(pod.id)
        await node.check()
    await world.check_nothing_left()
