"""The engine of this machine: every use case a frontend may ask for. model.api.Engine says what each one promises."""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import msgspec

from hypercontainer.engine import daemon, describe, events, lists, mounts, policy, recover, resolve, top
from hypercontainer.engine.host import Host
from hypercontainer.engine.images import Images
from hypercontainer.engine.kernels import Kernels
from hypercontainer.engine.policy import Admission
from hypercontainer.engine.snapshots import Snapshots
from hypercontainer.engine.supervisor import Supervisor
from hypercontainer.engine.templates import Templates
from hypercontainer.engine.update import Updates
from hypercontainer.engine.volumes import Volumes
from hypercontainer.errors import InvalidInput, NotFound, WrongState
from hypercontainer.hypervisor.base import Feature, Hypervisor, need
from hypercontainer.lib import clock
from hypercontainer.lib.trace import Timings
from hypercontainer.model import documents as doc
from hypercontainer.model import ids
from hypercontainer.model.api import Filters
from hypercontainer.model.principal import Principal
from hypercontainer.model.record import ContainerRecord
from hypercontainer.model.settings import Settings
from hypercontainer.model.spec import ContainerSpec, ExecSpec, PodSpec
from hypercontainer.model.state import Verb
from hypercontainer.network.base import Network
from hypercontainer.sandbox import archive, stats
from hypercontainer.sandbox.attach import AttachSession
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.exec import Exec, ExecSession
from hypercontainer.sandbox.logs import read_log
from hypercontainer.sandbox.pod import Pod

log = logging.getLogger(__name__)

REMOVE_S = 1.0  # for a guest to kill what is removed anyway, and to say its last words


class LocalEngine(Images, Volumes, Kernels, Templates, Snapshots, Updates):
    """One per machine: hyperd holds a lock for it. `trace` makes the trace of each start (tests pass their own)."""

    def __init__(
        self,
        settings: Settings,
        *,
        hypervisor: Hypervisor | None = None,
        network: Network | None = None,
        trace: type[Timings] = Timings,
        admission: Admission = policy.admit,
    ) -> None:
        self.host = Host(settings, hypervisor, network)
        self.supervisor = Supervisor(self.host)
        self.pods = self.supervisor.pods
        self._trace = trace
        self._admission = admission

    async def open(self) -> None:
        await recover.recover(self.supervisor)
        self.refer_images()
        await asyncio.to_thread(self.host.kernels.sweep)
        self.prepare()

    async def close(self) -> None:
        await self.let_be()
        for pod in list(self.pods.values()):
            await pod.let_go()
        await self.host.close()

    # finding

    def _find(self, c: str) -> tuple[Pod, Container]:
        record, container = self.host.index.find_container(c)
        pod = self.pods[record.id]
        return pod, pod.containers[container.id]

    def _find_pod(self, pod: str) -> Pod:
        return self.pods[self.host.index.find_pod(pod).id]

    def _memory_mib(self, pod: Pod) -> int:
        return pod.site.machine_mib(pod.record)

    # the daemon

    async def ping(self) -> None:
        self.host.events.check()

    async def version(self) -> doc.Version:
        return daemon.version()

    async def info(self) -> doc.Info:
        outputs = [container.output for pod in self.pods.values() for container in pod.containers.values()]
        return await daemon.info(self.host, sum(output.stalled for output in outputs), self._unreached())

    def _unreached(self) -> dict[str, str]:
        """Pods whose guest is there and does not answer: why."""
        return {pod.record.id: pod.machine.unreached for pod in self.pods.values() if pod.machine.unreached}

    async def doctor(self) -> doc.Doctor:
        return await daemon.doctor(self.host)

    async def events(
        self, since_ns: int | None, until_ns: int | None, filters: Filters
    ) -> AsyncGenerator[doc.Event, None]:
        events.check(filters)
        return self.host.events.follow(since_ns, until_ns, filters)

    # making

    async def create_container(self, spec: PodSpec, *, by: Principal) -> doc.Created:
        spec = self._admission(by, spec)
        if len(spec.containers) != 1:
            raise InvalidInput(f"cannot create a container of a pod with {len(spec.containers)}: give exactly one")
        name = spec.containers[0].name or spec.name
        name = ids.check_name("container", name) if name else self._invented()
        pod = await self._make(spec, name, implicit=True)
        [made] = pod.containers.values()
        return doc.Created(id=made.record.id, warnings=self._warnings(pod, made))

    async def create_pod(self, spec: PodSpec, *, by: Principal) -> doc.Created:
        spec = self._admission(by, spec)
        name = ids.check_name("pod", spec.name) if spec.name else self._invented()
        pod = await self._make(spec, name, implicit=False)
        return doc.Created(id=pod.record.id, warnings=self._warnings(pod, *pod.containers.values()))

    def _invented(self) -> str:
        taken = {c.name for _, c in self.host.index.containers()} | {p.name for p in self.host.index.pods.values()}
        return resolve.invent_name(lambda name: name in taken)

    async def _make(self, spec: PodSpec, name: str, *, implicit: bool) -> Pod:
        self.host.index.check_pod_name(name)
        self.host.check_factory(spec.factory)
        record = resolve.pod(spec, name=name, implicit=implicit)
        pod = self.supervisor.pod(record)
        names: set[str] = set()
        for n, container in enumerate(spec.containers):
            given = container.name or (name if implicit else f"{name}-{n}")
            if given in names:
                raise InvalidInput(f"two containers of the pod are called {given!r}")
            names.add(given)
            self._resolve(pod, container, given)
        try:
            self.host.pods.create(record)
        except BaseException:
            for made in pod.containers.values():
                await self.supervisor.remove_anonymous(made.record)
            raise
        self.supervisor.add(pod)
        pod.emit("create")
        for made in pod.containers.values():
            pod.emit("create", made)
        return pod

    def _resolve(self, pod: Pod, spec: ContainerSpec, name: str) -> Container:
        ids.check_name("container", name)
        self.host.index.check_container_name(name)
        image = self.host.images.get(spec.image)
        record = resolve.container(spec, image.id, self.host.images.config(image), name=name)
        self._check_supported(pod, record)
        for mount in record.mounts:
            if mount.type == "volume":
                mount.source = self.host.volumes.create(mount.source).name
        self.supervisor.place(record)
        return pod.add(record, self.host.images.rootfs(image))

    def _check_supported(self, pod: Pod, record: ContainerRecord) -> None:
        """Raise Unsupported where the container could be made but never start."""
        hypervisor = self.host.site.hypervisor
        for shared in [mount.target for mount in record.mounts if mount.type != "tmpfs"][:1]:
            need(hypervisor, Feature.SHARE, f"mount a volume or a folder at {shared} in {record.name}")
        if pod.record.guest:
            need(hypervisor, Feature.HOTPLUG, f"add {record.name} to pod {pod.record.name} while that runs")

    def _warnings(self, pod: Pod, *made: Container) -> list[str]:
        """What will not be as somebody may expect of these containers, and of what the pod shares."""
        said = mounts.without_locks(pod.record, self.host.index.pods.values(), self.host.settings)
        for container in made:
            image = self.host.images.get(container.record.image_id)
            said += resolve.warnings(container.record.spec, self.host.images.config(image))
        return said

    async def add_container(self, pod: str, spec: ContainerSpec, *, by: Principal) -> doc.Created:
        found = self._find_pod(pod)
        async with found.locked() as locked:
            if found.record.implicit:
                raise InvalidInput(f"cannot add a container to {pod}: it is the pod of one container, not one of yours")
            [spec] = self._admission(by, msgspec.structs.replace(found.record.spec, containers=[spec])).containers
            made = self._resolve(found, spec, spec.name or self._invented())
            try:
                self.host.pods.add_container(found.record.id, made.record)
                locked.machine.save()
            except BaseException:
                found.drop(made)
                self.host.pods.remove_container(found.record.id, made.record.id)
                await self.supervisor.remove_anonymous(made.record)
                raise
        found.emit("create", made)
        return doc.Created(id=made.record.id, warnings=self._warnings(found, made))

    # starting and ending

    async def start(self, c: str) -> None:
        pod, container = self._find(c)
        await self.supervisor.start(pod, container, self._trace())

    async def stop(self, c: str, timeout_s: float | None) -> None:
        pod, container = self._find(c)
        await self.supervisor.stop(pod, container, timeout_s)

    async def kill(self, c: str, signal: int) -> None:
        pod, container = self._find(c)
        if container.record.state == "suspended" and signal == 9:  # what it was cannot go on everywhere: its disk can
            await pod.kill(container)
            return
        container.record.check("kill")
        if pod.machine.unreached and signal == 9:
            await pod.kill(container)
        else:
            pod.machine.check_reached("signal", container.record.name)
            if signal == 9:
                async with pod.locked() as locked:
                    await locked.unpause(ends=True)
            await pod.signal(container, signal)

    async def restart(self, c: str, timeout_s: float | None) -> None:
        pod, container = self._find(c)
        await self.supervisor.stop(pod, container, timeout_s)
        await self.supervisor.start(pod, container, self._trace())
        pod.emit("restart", container)

    async def remove(self, c: str, *, force: bool, volumes: bool) -> None:
        pod, container = self._find(c)
        while True:
            if force:
                await pod.kill(container, obey_s=REMOVE_S)
            try:
                return await self.supervisor.remove(pod, container, volumes=volumes)
            except WrongState:
                if force and container.record.state == "removing":
                    return None  # it removes itself when it has ended, and was quicker
                if not (force and container.alive):
                    raise  # else: a start or a suspend that was under way came first

    async def rename(self, c: str, name: str) -> None:
        pod, container = self._find(c)
        ids.check_name("container", name)
        async with pod.locked() as locked:
            self.host.index.check_container_name(name)
            if pod.record.implicit:
                self.host.index.check_pod_name(name)
            before = pod.record.name, container.record.name
            pod.record.name, container.record.name = name if pod.record.implicit else before[0], name
            try:
                locked.machine.save()
            except BaseException:
                pod.record.name, container.record.name = before
                raise
        pod.emit("rename", container)

    async def pause(self, c: str) -> None:
        pod, container = self._find(c)
        container.record.check("pause")
        async with pod.locked() as locked:
            await locked.pause()

    async def unpause(self, c: str) -> None:
        pod, container = self._find(c)
        if not pod.record.paused:
            container.record.check("unpause")
        async with pod.locked() as locked:
            await locked.unpause()

    async def wait(self, c: str) -> doc.WaitResult:
        _, container = self._find(c)
        while container.alive and container.exit:  # suspended, it waits for an end that it comes to later
            await asyncio.wait([container.exit])
        return doc.WaitResult(status_code=container.record.exit_code)

    # looking

    async def inspect(self, c: str, *, size: bool = False) -> doc.Container:
        pod, container = self._find(c)
        record = container.record
        volumes = {m.source: str(self.host.volumes.path(m.source)) for m in record.mounts if m.type == "volume"}
        document = describe.container(
            pod.record,
            record,
            await daemon.choice(self.host),
            log_path=str(container.output.log.path),
            vcpus=self.host.vcpus(pod.record),
            memory_mib=self._memory_mib(pod),
            volumes=volumes,
        )
        state = msgspec.structs.replace(document.state, starting=container.waits_for())
        if pod.machine.unreached and container.running:
            state = msgspec.structs.replace(state, error=f"not reached yet: {pod.machine.unreached}")
        return msgspec.structs.replace(document, state=state, **(self._sizes(record) if size else {}))

    async def list_containers(self, *, all: bool, filters: Filters, size: bool = False) -> Sequence[doc.ContainerEntry]:
        found = lists.containers(
            self.host.index,
            self._image_id,
            all=all,
            wanted=filters,
            now_ns=clock.now_ns(),
            unreached=self._unreached(),
        )
        if not size:
            return found
        records = {record.id: record for _, record in self.host.index.containers()}
        return [msgspec.structs.replace(entry, **self._sizes(records[entry.id])) for entry in found]

    def _sizes(self, record: ContainerRecord) -> dict[str, int]:
        """What it takes of this host's disk: its writable layer, and that with its image."""
        try:
            own = os.stat(record.upper.path).st_blocks * 512 if record.upper else 0
        except FileNotFoundError:  # it goes just now, or was never made
            own = 0
        return {"size_rw": own, "size_root_fs": own + self.host.images.get(record.image_id).size}

    def _image_id(self, name: str) -> str:
        try:
            return self.host.images.get(name).id
        except NotFound:
            return ""

    async def top(self, c: str, options: str = "") -> doc.Top:
        pod, container = self._find(c)
        self._check_runs("list the processes of", pod, container)
        table = await pod.machine.running().agent.container_processes(container.record.id)
        host = top.Host(now_s=clock.now_ns() / 1e9, memory_kib=self._memory_mib(pod) << 10)
        return top.top(table.processes, options, host)

    async def stats(self, c: str) -> doc.Stats:
        pod, container = self._find(c)
        self._check_runs("measure", pod, container)
        sample = await pod.machine.running().agent.container_stats(container.record.id)
        return stats.sample(
            container.record, sample, vcpus=self.host.vcpus(pod.record), memory_mib=self._memory_mib(pod)
        )

    def _check_runs(self, verb: Verb, pod: Pod, container: Container) -> None:
        container.record.check(verb)
        pod.machine.check_reached(verb, container.record.name)

    async def logs(
        self,
        c: str,
        *,
        follow: bool,
        since_ns: int | None,
        until_ns: int | None,
        tail: int | None,
        stdout: bool,
        stderr: bool,
    ) -> AsyncGenerator[doc.LogEntry, None]:
        _, container = self._find(c)
        streams = {n for n, wanted in ((1, stdout), (2, stderr)) if wanted}
        if not streams:
            raise InvalidInput("cannot read no stream: ask for stdout or stderr")
        return read_log(container, follow=follow, since_ns=since_ns, until_ns=until_ns, tail=tail, streams=streams)

    # streams

    async def attach(
        self, c: str, *, stdin: bool, stdout: bool, stderr: bool, logs: bool, start: bool
    ) -> AttachSession:
        pod, container = self._find(c)
        if not start:
            container.record.check("attach to")
        pod.machine.check_reached("attach to", container.record.name)
        streams = {n for n, wanted in ((1, stdout), (2, stderr)) if wanted}
        session = AttachSession(pod, container, streams, stdin=stdin)
        try:
            if logs:
                session.begin_with(container.output.log.read(since_ns=0, until_ns=0, tail=None, streams=streams))
            trace = self._trace()
            if start:
                await self.supervisor.start(pod, container, trace)
            session.started(trace.steps)
        except BaseException:
            await session.detach()
            raise
        return session

    async def resize(self, c: str, rows: int, columns: int) -> None:
        pod, container = self._find(c)
        self._check_runs("resize", pod, container)
        await pod.machine.running().agent.resize_process(container.record.id, rows, columns)

    async def exec(self, c: str, spec: ExecSpec) -> ExecSession:
        return ExecSession(await self._exec(c, spec))

    async def exec_detached(self, c: str, spec: ExecSpec) -> str:
        return (await self._exec(c, spec)).id

    async def _exec(self, c: str, spec: ExecSpec) -> Exec:
        pod, container = self._find(c)
        self._check_runs("exec in", pod, container)
        if not spec.command or not spec.command[0]:
            raise InvalidInput("cannot exec nothing: give a command")
        if spec.working_dir is not None:
            clean = mounts.absolute(spec.working_dir, "working directory")
            spec = msgspec.structs.replace(spec, working_dir=clean)
        return await pod.exec(container, spec)

    def _find_exec(self, id: str) -> Exec:
        for pod in self.pods.values():
            if id in pod.execs:
                return pod.execs[id]
        raise NotFound("exec", id)

    async def inspect_exec(self, id: str) -> doc.Exec:
        return self._find_exec(id).document()

    async def resize_exec(self, id: str, rows: int, columns: int) -> None:
        await self._find_exec(id).resize(rows, columns)

    async def archive_get(self, c: str, path: str) -> AsyncGenerator[bytes, None]:
        pod, container = self._find(c)
        archive.check(pod, container)
        return archive.read(pod, container, path)

    async def archive_put(self, c: str, path: str, chunks: AsyncIterator[bytes]) -> None:
        pod, container = self._find(c)
        archive.check(pod, container)
        await archive.write(pod, container, path, chunks)

    # pods

    async def start_pod(self, pod: str) -> None:
        found = self._find_pod(pod)
        async with found.locked() as locked:
            for container in found.containers.values():  # else the machine would have the disk of one that sleeps
                found.check(container, "start")
            await locked.boot(self._trace())
        for container in list(found.containers.values()):
            await self.supervisor.start(found, container, self._trace())

    async def stop_pod(self, pod: str, timeout_s: float | None) -> None:
        found = self._find_pod(pod)
        containers = list(found.containers.values())
        await asyncio.gather(*(self.supervisor.stop(found, container, timeout_s) for container in containers))
        async with found.locked() as locked:
            await self.supervisor.pay(locked)
            await locked.power_off()

    async def remove_pod(self, pod: str, *, force: bool, volumes: bool) -> None:
        found = self._find_pod(pod)
        while True:  # a start that was under way may come first
            if force:
                await asyncio.gather(
                    *(found.kill(container, obey_s=REMOVE_S) for container in list(found.containers.values()))
                )
            async with found.locked() as locked:
                if found.removed:
                    return None
                if not any(container.alive for container in found.containers.values()):
                    return await self.supervisor.empty(locked, volumes=volumes)
                if not force:
                    raise WrongState("remove", found.record.name, "running", "stop it first, or use force")

    async def pause_pod(self, pod: str) -> None:
        async with self._find_pod(pod).locked() as locked:
            await locked.pause()

    async def unpause_pod(self, pod: str) -> None:
        async with self._find_pod(pod).locked() as locked:
            await locked.unpause()

    async def list_pods(self, *, all: bool, filters: Filters) -> Sequence[doc.PodEntry]:
        usual_mib = self.host.settings.memory_mib
        return lists.pods(self.host.index, all=all, wanted=filters, vcpus=self.host.vcpus, default_memory_mib=usual_mib)

    async def inspect_pod(self, pod: str) -> doc.Pod:
        found = self._find_pod(pod)
        return describe.pod(
            found.record,
            await daemon.choice(self.host),
            vcpus=self.host.vcpus(found.record),
            memory_mib=self._memory_mib(found),
            now_ns=clock.now_ns(),
        )
