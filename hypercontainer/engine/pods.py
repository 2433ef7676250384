"""The use cases of pods. model.api.Pods says what each promises."""

import asyncio
from collections.abc import Sequence

import msgspec

from hypercontainer.engine import create, describe, lists
from hypercontainer.engine.containers import REMOVE_S
from hypercontainer.engine.policy import Admission
from hypercontainer.engine.supervisor import Supervisor
from hypercontainer.errors import InvalidInput, WrongState
from hypercontainer.lib import clock
from hypercontainer.lib.trace import Timings
from hypercontainer.model import documents as doc
from hypercontainer.model import ids
from hypercontainer.model.api import Filters
from hypercontainer.model.principal import Principal
from hypercontainer.model.spec import ContainerSpec, PodSpec


class Pods:
    def __init__(self, supervisor: Supervisor, trace: type[Timings], admission: Admission) -> None:
        """`trace` makes the trace of each start."""
        self.supervisor, self.host = supervisor, supervisor.host
        self._trace, self._admission = trace, admission

    async def create(self, spec: PodSpec, *, by: Principal) -> doc.Created:
        spec = self._admission(by, spec)
        name = ids.check_name("pod", spec.name, ids.MAX_LABEL) if spec.name else self.host.index.invent_name()
        pod = await create.pod(self.supervisor, spec, name, implicit=False)
        return doc.Created(id=pod.record.id, warnings=create.warnings(self.host, pod, *pod.containers.values()))

    async def add(self, pod: str, spec: ContainerSpec, *, by: Principal) -> doc.Created:
        found = self.supervisor.find_pod(pod)
        async with found.locked():
            if found.record.implicit:
                raise InvalidInput(f"cannot add a container to {pod}: it is the pod of one container, not one of yours")
            [spec] = self._admission(by, msgspec.structs.replace(found.record.spec, containers=[spec])).containers
            made = await create.container(self.supervisor, found, spec)
        found.emit("create", made)
        return doc.Created(id=made.record.id, warnings=create.warnings(self.host, found, made))

    async def start(self, pod: str) -> None:
        found = self.supervisor.find_pod(pod)
        async with found.locked() as locked:
            for container in found.containers.values():  # else the machine would have the disk of one that sleeps
                found.check(container, "start")
            await locked.boot(self._trace())
        for container in list(found.containers.values()):
            await self.supervisor.start(found, container, self._trace())

    async def stop(self, pod: str, timeout_s: float | None) -> None:
        found = self.supervisor.find_pod(pod)
        containers = list(found.containers.values())
        await asyncio.gather(*(self.supervisor.stop(found, container, timeout_s) for container in containers))
        async with found.locked() as locked:
            await self.supervisor.pay(locked)
            await locked.power_off()

    async def remove(self, pod: str, *, force: bool, volumes: bool, all_owners: bool = False) -> None:
        found = self.supervisor.find_pod(pod, all_owners=all_owners)
        while True:  # a start that was under way may come first
            if force:
                await asyncio.gather(
                    *(found.kill(container, obey_s=REMOVE_S) for container in list(found.containers.values()))
                )
            async with found.locked() as locked:
                if found.removed:
                    return None
                if not any(container.alive for container in found.containers.values()):
                    if found.record.kube:
                        await locked.power_off()
                        await self.host.pod_networks.detach(found.record.id)  # before nobody knows of it any more
                    return await self.supervisor.empty(locked, volumes=volumes)
                if not force:
                    raise WrongState("remove", found.record.name, "running", "stop it first, or use force")

    async def pause(self, pod: str) -> None:
        async with self.supervisor.find_pod(pod).locked() as locked:
            await locked.pause()

    async def unpause(self, pod: str) -> None:
        async with self.supervisor.find_pod(pod).locked() as locked:
            await locked.unpause()

    async def list(self, *, all: bool, filters: Filters, all_owners: bool = False) -> Sequence[doc.PodEntry]:
        return lists.pods(
            self.host.index,
            all=all,
            wanted=filters,
            vcpus=self.host.vcpus,
            default_memory_mib=self.host.settings.memory_mib,
            all_owners=all_owners,
        )

    async def inspect(self, pod: str) -> doc.Pod:
        found = self.supervisor.find_pod(pod, all_owners=True)
        return describe.pod(
            found.record,
            await self.host.choice(found.record.arch),
            vcpus=self.host.vcpus(found.record),
            memory_mib=found.site.machine_mib(found.record),
            now_ns=clock.now_ns(),
        )
