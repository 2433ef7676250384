"""The containers of a build's steps: one at a time, in one virtual machine for as long as that has what the next step
begins with."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from hypercontainer.engine import create
from hypercontainer.engine.supervisor import Supervisor
from hypercontainer.images.index import Image
from hypercontainer.model.spec import Build, ContainerSpec, Dns, EndpointSpec, Healthcheck, PodSpec
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.pod import Pod

STEPS = 60  # that go on from each other; a guest has 64
ROOM = 0.5  # of the disk that they share must be free for one more


class Containers:
    """Those of a stage. Everything of them is gone when `end` returns, which may be called at any time."""

    def __init__(self, supervisor: Supervisor, wanted: Build) -> None:
        self._supervisor, self._wanted = supervisor, wanted
        self._stack = AsyncExitStack()
        self._pod: Pod | None = None
        self._container: Container | None = None
        self._has = ""  # which root file system is in the container that is there; "" when nobody can tell
        self._steps = 0

    async def next(
        self, image: Image, *, volumes: bool, command: Sequence[str] = ("true",), env: Sequence[str] = ()
    ) -> tuple[Pod, Container]:
        """A container of `image`, made in its machine; the one before is gone. `volumes`: it has those of the image,
        and nobody can go on from it."""
        spec = self._spec(image, command, env)
        volumes = volumes and bool(self._supervisor.host.images.config(image).volumes)
        has, self._has = self._has, ""
        if self._pod and self._container and has == image.record.chain and not volumes and self._has_room():
            pod, self._container = self._pod, await create.next_step(self._supervisor, self._pod, self._container, spec)
            self._steps += 1
            return pod, self._container
        await self.end()
        self._pod = pod = create.step(self._supervisor, self._pod_spec(spec), volumes=volumes)
        [self._container] = pod.containers.values()
        self._stack.push_async_callback(self._discard, pod)
        await self._stack.enter_async_context(pod.entered(self._container))
        self._steps = 0
        return pod, self._container

    def _has_room(self) -> bool:
        """For one more step beside those that the machine has had, which are on its disk, what they removed too."""
        assert self._container  # noqa: S101  who asks has looked
        size = self._supervisor.host.settings.scratch_mib << 20
        used = self._container.scratch.stat().st_blocks * 512
        return self._steps < STEPS and used <= size * (1 - ROOM)

    def made(self, image: Image) -> None:
        """What is in the container has become this image."""
        volumes = self._container is None or bool(self._container.record.mounts)
        self._has = "" if volumes else image.record.chain

    async def end(self) -> None:
        await self._stack.aclose()
        self._pod = self._container = None
        self._has = ""

    async def _discard(self, pod: Pod) -> None:
        containers = list(pod.containers.values())
        for container in containers:
            container.output.cut()
            container.output.close()
        async with pod.locked() as locked:
            await self._supervisor.discard(locked)
        for container in containers:
            pod.emit("destroy", container)
            await self._supervisor.remove_anonymous(container.record)

    def _spec(self, image: Image, command: Sequence[str], env: Sequence[str]) -> ContainerSpec:
        return ContainerSpec(
            image=image.id,
            command=list(command),
            entrypoint=[],
            env=list(env),
            shm_mib=self._wanted.shm_mib,
            ulimits=self._wanted.ulimits,
            healthcheck=Healthcheck(test=["NONE"]),
            log="none",
        )

    def _pod_spec(self, container: ContainerSpec) -> PodSpec:
        wanted = self._wanted
        return PodSpec(
            memory_mib=wanted.memory_mib,
            networks=[EndpointSpec(network=wanted.network)],
            dns=Dns(),
            extra_hosts=wanted.extra_hosts,
            containers=[container],
        )


@asynccontextmanager
async def containers(supervisor: Supervisor, wanted: Build) -> AsyncGenerator[Containers, None]:
    """Those of a stage, which go with the block."""
    made = Containers(supervisor, wanted)
    try:
        yield made
    finally:
        await made.end()
