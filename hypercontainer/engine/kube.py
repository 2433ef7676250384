"""The use cases of pods of a kubelet. model.api.Kube says what each promises."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from hypercontainer.agent.messages import FILES
from hypercontainer.engine import create, devices, execs, kube_checkpoint, kube_states, mounts, resolve, update
from hypercontainer.engine.supervisor import Supervisor
from hypercontainer.errors import AlreadyExists, GuestError, HyperError, InvalidInput, NotFound, WrongState
from hypercontainer.images.store import ImageStore
from hypercontainer.lib import files
from hypercontainer.lib.tasks import uninterrupted
from hypercontainer.lib.trace import Timings
from hypercontainer.model import defaults, users
from hypercontainer.model.bundle import BundleUsage
from hypercontainer.model.container import ContainerConfig, Mount, Resources, Users
from hypercontainer.model.kube import (
    USUAL,
    ContainerState,
    KubeContainer,
    KubeContainerState,
    KubeEvent,
    KubeFiles,
    KubeImage,
    KubePod,
    KubePodState,
    KubeSecurity,
)
from hypercontainer.model.pod_network import Asked
from hypercontainer.model.record import (
    BlockRecord,
    ContainerRecord,
    CriSinkRecord,
    DiskRecord,
    ImageVolumeRecord,
    PodRecord,
)
from hypercontainer.model.settings import USUAL_HANDLER, Handler
from hypercontainer.model.spec import ContainerSpec, Device, Dns, ExecSpec, PodSpec
from hypercontainer.model.state import Verb
from hypercontainer.sandbox import loopback, rootfs, stats
from hypercontainer.sandbox.attach import AttachSession
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.exec import ExecSession
from hypercontainer.sandbox.locked import LockedPod
from hypercontainer.sandbox.pod import Pod

log = logging.getLogger(__name__)

T = TypeVar("T")

OWNER = "cri"
SHM = defaults.SHM, "tmpfs"
POD_SHM = Mount(type="pod", destination=defaults.SHM, source="shm")
GUEST_MIB = 64  # of a machine, that its kernel takes and hyperstart
NEVER_BEGAN = 128  # status of a container that the guest could not make, as containerd has it
REMOVE_S = 1.0  # for a guest to kill what is removed anyway, and to say its last words
LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW


class Kube:
    def __init__(self, supervisor: Supervisor, trace: type[Timings]) -> None:
        """`trace` makes the trace of each start."""
        self.supervisor, self.host = supervisor, supervisor.host
        self._trace = trace
        self._sweeping: asyncio.Task[None] | None = None

    # pods

    async def run(self, wanted: KubePod, spec: PodSpec) -> str:
        for pod in self._pods():
            assert pod.record.kube  # noqa: S101  of this owner
            if pod.record.kube.identity == wanted.identity:
                return self._same_pod(pod, pod.record.kube, wanted)
        record = resolve.pod(self._sized(spec, self._handler(wanted.handler)), name="", implicit=False)
        record.name, record.owner, record.kube, record.provisional = record.id, OWNER, wanted, True
        pod = self.supervisor.pod(record)
        self.host.pods.create(record, durable=False)
        self.supervisor.add(pod)
        try:
            async with pod.locked() as locked:
                await self._connect(record)
                await locked.boot(trace := self._trace())
                record.provisional = False
                locked.machine.save()
                self.supervisor.starts.note("pod", trace)
                pod.emit("create")  # its start was told before it was one that there is
                pod.emit("start")
        except BaseException:
            await uninterrupted(self._discard(pod))
            raise
        return record.id

    def handlers(self) -> Sequence[str]:
        return list(self.host.settings.handlers())

    def _handler(self, name: str) -> Handler:
        there = self.host.settings.handlers()
        if (found := there.get(name or USUAL_HANDLER)) is None:
            raise InvalidInput(
                f"cannot run a pod by runtime handler {name[:60]!r}: there is {', '.join(there)}; "
                "the setting cri_handlers of hyperd has more"
            )
        return found

    def _usual_mib(self, pod: Pod) -> int:
        """Of its handler's machines; 0: as for all, also where the settings have left that handler out since."""
        handler = pod.record.kube.handler if pod.record.kube else ""
        found = self.host.settings.handlers().get(handler or USUAL_HANDLER)
        return found.memory_mib if found else 0

    def _sized(self, spec: PodSpec, handler: Handler) -> PodSpec:
        """With room for the guest itself. Who asks for no more than is usual has a usual machine, as those are that
        wait: what is in it has limits of its own."""
        wanted_mib = spec.memory_mib + GUEST_MIB
        fits = wanted_mib <= (handler.memory_mib or self.host.settings.memory_mib)
        return msgspec.structs.replace(
            spec,
            vcpus=max(spec.vcpus, handler.vcpus),
            memory_mib=handler.memory_mib if not spec.memory_mib or fits else wanted_mib,
            factory=handler.factory,
        )

    def _same_pod(self, pod: Pod, there: KubePod, wanted: KubePod) -> str:
        """The id of one that was made for the same request, whose answer was lost on its way. AlreadyExists."""
        if there.request == wanted.request and pod.machine.vm and not pod.record.provisional:
            return pod.record.id
        state = "being made" if pod.record.provisional else "there already"
        words = f"cannot run pod {wanted}, attempt {wanted.attempt}: it is {state}, as {pod.record.id}"
        raise AlreadyExists(words, "pod", str(wanted), pod.record.id)

    async def _connect(self, record: PodRecord) -> None:
        """Have the network of CNI make its interfaces, in a namespace that its machine takes the place of."""
        assert record.kube  # noqa: S101  of this owner
        kube, spec = record.kube, record.spec
        asked = Asked(
            id=record.id,
            name=kube.name,
            namespace=kube.namespace,
            uid=kube.uid,
            annotations=kube.annotations,
            ports=kube.ports,
            dns=spec.dns,
        )
        attached = await self.host.pod_networks.attach(asked)
        record.netns = attached.netns
        if attached.dns and spec.dns == Dns():
            record.spec = msgspec.structs.replace(spec, dns=attached.dns)

    async def _discard(self, pod: Pod) -> None:
        async with pod.locked() as locked:
            await self.supervisor.discard(locked)
        try:
            await self.host.pod_networks.detach(pod.record.id)
        except HyperError as e:  # the next hyperd tries it again; whoever waits is told the first failure
            log.warning("pod %s: %s", pod.record.id, e)

    async def network(self) -> None:
        await self.host.pod_networks.status()

    def recover(self) -> None:
        """After a restart of ours: what networks have of pods that are gone, or stopped, goes, while others go on:
        plugins may take their time."""
        self._sweeping = asyncio.create_task(self._sweep())

    async def _sweep(self) -> None:
        try:
            for complaint in await self.host.pod_networks.sweep(self._connected):
                log.error("%s", complaint)
        except (HyperError, OSError) as e:
            log.error("cannot take pods that are gone off their networks: %s", e)

    async def close(self) -> None:
        if self._sweeping:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)

    def _connected(self) -> list[str]:
        """Those whose machines may run, or come; one that cannot be read is not known to be stopped."""
        running = [pod.record.id for pod in self._pods() if kube_states.ready(pod) or pod.record.provisional]
        return [*running, *(unread.id for unread in self.host.index.unread)]

    async def stop(self, pod: str) -> None:
        found = self._pod(pod)
        while True:  # a start that was under way may come first
            await asyncio.gather(*(found.kill(each) for each in list(found.containers.values())))
            async with found.locked() as locked:
                if any(each.alive for each in found.containers.values()):
                    continue
                await locked.power_off()
                break
        await self.host.pod_networks.detach(found.record.id)
        async with found.locked() as locked:  # last: a full disk is a reason to stop pods
            await self.supervisor.pay(locked)

    async def remove(self, pod: str) -> None:
        found = self._pod(pod)
        while True:  # a start that was under way may come first
            await asyncio.gather(*(found.kill(each, obey_s=REMOVE_S) for each in list(found.containers.values())))
            async with found.locked() as locked:
                if found.removed:
                    return
                if any(each.alive for each in found.containers.values()):
                    continue
                await self.supervisor.empty(locked, volumes=True)
                return

    async def list(self) -> Sequence[KubePodState]:
        return [_pod_state(pod) for pod in self._pods() if not pod.record.provisional]

    def readiness(self) -> Sequence[tuple[str, bool]]:
        return [(pod.record.id, kube_states.ready(pod)) for pod in self._pods() if not pod.record.provisional]

    async def state(self, pod: str) -> KubePodState:
        return _pod_state(self._pod(pod))

    async def enlarge(self, pod: str, vcpus: int, memory_mib: int) -> None:
        found = self._pod(pod)
        _check_ready(found, "update")
        await update.enlarge(found, vcpus, memory_mib + GUEST_MIB if memory_mib else 0)

    # containers

    async def create(
        self,
        pod: str,
        wanted: KubeContainer,
        spec: ContainerSpec,
        resources: Resources,
        security: KubeSecurity = USUAL,
    ) -> str:
        found = self._pod(pod)
        async with found.locked() as locked:
            for each in found.containers.values():
                there = each.record.kube
                if there and there.identity == wanted.identity:
                    return _same_container(each.record.id, there, wanted)
            _check_ready(found, "create a container in")
            blocks = await asyncio.to_thread(devices.blocks, security.devices)
            record = self._record(found, wanted, _with_devices(spec, security, blocks), security)
            record.blocks = blocks
            record.images = await asyncio.to_thread(_images, self.host.images, record, security.images)
            record.config = _confined(msgspec.structs.replace(record.config, resources=resources), security)
            _own(record, found.record.kube.users if found.record.kube else None)
            made = found.add(record)
            try:
                self.host.pods.add_container(found.record.id, made.record)
                found.machine.save()
                await found.machine.confine(record.config.process.apparmor)
                await update.grow(found, made, self._usual_mib(found))
            except BaseException:
                await uninterrupted(self._take_out(locked, made))
                raise
            found.emit("create", made)
        return made.record.id

    def _record(self, pod: Pod, wanted: KubeContainer, spec: ContainerSpec, security: KubeSecurity) -> ContainerRecord:
        """Of a container to be, the volumes made that its image names."""
        image = self.host.images.get(spec.image)
        create.check_arch(pod.record, image, spec.image)
        config = msgspec.structs.replace(self.host.images.config(image), healthcheck=None)  # the kubelet probes itself
        root = rootfs.image(self.host.images.rootfs(image))
        if pod.record.kube:
            spec = msgspec.structs.replace(spec, sysctls=pod.record.kube.sysctls)
        record = resolve.container(spec, image.id, config, root, name="")
        record.name, record.kube = record.id, wanted
        record.sinks = [CriSinkRecord(path=wanted.log)] if wanted.log else []
        mounts.show(record.mounts, security.ids, security.below)
        pod.check_supported(record)
        create.make_volumes(self.host, record)
        if pod.record.kube and pod.record.kube.users:
            self._give_away(record, pod.record.kube.users)
        self.supervisor.place(record)
        return record

    def _give_away(self, record: ContainerRecord, namespace: Users) -> None:
        """Have the volumes that its image names be its root's."""
        for mount in record.mounts:
            if mount.type == "volume":
                os.chown(self.host.volumes.path(mount.source), *users.owner(namespace, 0, 0))

    async def _take_out(self, pod: LockedPod, container: Container) -> None:
        await self.supervisor.take_out(pod, container)
        await self.supervisor.remove_anonymous(container.record)

    async def start(self, container: str) -> None:
        await uninterrupted(self._start(container))  # or its process runs, and nobody knows

    async def _start(self, container: str) -> None:
        pod, found = self._find(container)
        if found.running:
            return
        record = found.record
        if record.state != "created":
            raise WrongState("start", record.id, record.state, "each attempt at a container is another container")
        _check_ready(pod, "start a container of")
        if record.kube and record.kube.log:
            with files.telling(f"write the log of {record.id} to {record.kube.log}"):
                os.close(os.open(record.kube.log, LOG_FLAGS, 0o640))  # whoever reads finds it, though nothing is said
        try:
            await self.supervisor.start(pod, found, self._trace())
        except GuestError as e:
            await self._never_began(pod, found, str(e))
            raise

    async def _never_began(self, pod: Pod, container: Container, why: str) -> None:
        """Its process could not be started: it has ended, and its kubelet makes another one."""
        async with pod.locked() as locked:
            record = container.record
            if record.state == "created":
                record.move("running")
                container.finish(record.exit_code or NEVER_BEGAN, oom=False, error=why)
                locked.machine.note()
                pod.emit("die", container, exitCode=str(record.exit_code))

    async def stop_container(self, container: str, timeout_s: float) -> None:
        await self.supervisor.stop(*self._find(container), timeout_s)

    async def update(self, container: str, resources: Resources) -> None:
        pod, found = self._find(container)
        if found.record.state not in ("created", "running"):
            raise WrongState("update", container, found.record.state)
        await update.limit(pod, found, resources, self._usual_mib(pod))

    async def remove_container(self, container: str) -> None:
        pod, found = self._find(container)
        while True:
            await pod.kill(found, obey_s=REMOVE_S)
            try:
                return await self.supervisor.remove(pod, found, volumes=True)
            except WrongState:
                if pod.removed or found.record.id not in pod.containers:  # another call was quicker
                    return None
                if not found.alive:
                    raise  # else: a start that was under way came first

    async def containers(self) -> Sequence[KubeContainerState]:
        return [
            kube_states.of_container(pod.record, each.record)
            for pod in self._pods()
            for each in pod.containers.values()
        ]

    def states(self) -> Sequence[tuple[str, ContainerState]]:
        return [(id, kube_states.state(each.record)) for pod in self._pods() for id, each in pod.containers.items()]

    async def container(self, container: str) -> KubeContainerState:
        pod, found = self._find(container)
        return kube_states.of_container(pod.record, found.record)

    async def reopen_log(self, container: str) -> None:
        pod, found = self._find(container)
        pod.reopen_log(found)

    # what goes on in them

    def events(self) -> AsyncGenerator[KubeEvent, None]:
        return self.supervisor.kube_events.follow()

    async def exec(self, container: str, spec: ExecSpec) -> ExecSession:
        pod, found = self._reached(container, "exec in")
        exec_ = execs.added(self.supervisor, pod, found, spec)
        await pod.start_exec(exec_)
        return ExecSession(exec_)

    async def attach(self, container: str, *, stdin: bool, stdout: bool, stderr: bool) -> AttachSession:
        pod, found = self._reached(container, "attach to")
        session = AttachSession(pod, found, {n for n, on in ((1, stdout), (2, stderr)) if on}, stdin=stdin)
        session.started(())
        return session

    async def usage(self, pod: str) -> Mapping[str, tuple[BundleUsage, int]]:
        found = self._pod(pod)
        found.machine.check_reached("measure", pod)
        running = [id for id, each in found.containers.items() if each.running]
        samples = await stats.measured(found.machine.running().agent, running)
        memory_mib = found.site.machine_mib(found.record)
        used = {id: stats.usage(each, memory_mib=memory_mib, pids_limit=0) for id, each in samples.items()}
        return {id: (each, _written(found.containers[id])) for id, each in used.items() if id in found.containers}

    async def files(self, container: str) -> KubeFiles:
        pod, found = self._reached(container, "measure")
        agent = pod.machine.running().agent
        if not agent.has(FILES):
            return KubeFiles()
        counts = await agent.container_files(found.record.id)
        return KubeFiles(
            disk_bytes=counts.fs_bytes,
            inodes=counts.fs_inodes,
            inodes_free=counts.fs_inodes_free,
            descriptors=counts.descriptors,
            sockets=counts.sockets,
        )

    async def checkpoint(
        self, container: str, location: str, documents: Mapping[str, bytes], within_s: float | None
    ) -> None:
        pod, found = self._reached(container, "checkpoint")
        within_s = kube_checkpoint.WITHIN_S if within_s is None else within_s
        await kube_checkpoint.make(self.host, pod, found, location, documents, within_s)

    async def connect(self, pod: str, port: int) -> socket.socket:
        found = self._pod(pod)
        _check_ready(found, "connect to a port of")
        return await loopback.connect(found, port)

    # finding them

    def _pods(self) -> Iterator[Pod]:
        return (pod for pod in list(self.supervisor.pods.values()) if pod.record.owner == OWNER)

    def _pod(self, id: str) -> Pod:
        return _one("pod", id, {pod.record.id: pod for pod in self._pods()})

    def _find(self, id: str) -> tuple[Pod, Container]:
        for pod in self._pods():  # nearly always by its whole id, and of all containers one after the other
            if id in pod.containers:
                return pod, pod.containers[id]
        return _one("container", id, {each: (pod, c) for pod in self._pods() for each, c in pod.containers.items()})

    def _reached(self, id: str, verb: Verb) -> tuple[Pod, Container]:
        """One that runs, in a guest that answers."""
        pod, found = self._find(id)
        if not found.running:
            raise WrongState(verb, id, found.record.state)
        pod.machine.check_reached(verb, id)
        return pod, found


def _one(what: str, id: str, there: dict[str, T]) -> T:
    """That of this id, or of the only one that begins so, as people type it."""
    if id in there:
        return there[id]
    found = [key for key in there if id and key.startswith(id)]
    if len(found) > 1:
        raise InvalidInput(f"{what} id {id} is the beginning of {len(found)} ids: give more of it")
    if not found:
        raise NotFound(what, id)
    return there[found[0]]


def _written(container: Container) -> int:
    """Bytes of disk that it has; 0: it goes just now."""
    try:
        return os.stat(container.scratch).st_blocks * 512
    except FileNotFoundError:
        return 0


def _check_ready(pod: Pod, verb: str) -> None:
    if pod.removed or not kube_states.ready(pod):
        raise WrongState(verb, pod.record.id, "removing" if pod.removed else "not ready", "its machine has ended")


def _images(store: ImageStore, record: ContainerRecord, asked: Sequence[KubeImage]) -> list[ImageVolumeRecord]:
    """What it is to mount of images. NotFound, InvalidInput."""
    made: list[ImageVolumeRecord] = []
    for each in asked:
        place = mounts.target(each.target, "mount target")
        if place in [*(mount.target for mount in record.mounts), *(volume.target for volume in made)]:
            raise InvalidInput(f"cannot mount two things at {place}")
        image = store.get(each.image)
        disk = DiskRecord(target=0, path=str(store.rootfs(image)), read_only=True)
        subpath = mounts.within(each.subpath, "image_sub_path")
        if subpath and not store.holds(image, subpath):
            raise InvalidInput(f"cannot mount {subpath[:200]!r} of image {each.image} at {place}: it has no such path")
        made.append(ImageVolumeRecord(target=place, image=each.image, image_id=image.id, subpath=subpath, disk=disk))
    return made


def _with_devices(spec: ContainerSpec, security: KubeSecurity, blocks: Sequence[BlockRecord]) -> ContainerSpec:
    """`spec`, with devices that are none of this host's."""
    taken = {block.path for block in blocks}
    others = [each for each in security.devices if (each.target or each.path) not in taken]
    return msgspec.structs.replace(spec, devices=[Device(path=each.path, target=each.target) for each in others])


def _confined(config: ContainerConfig, security: KubeSecurity) -> ContainerConfig:
    """`config`, and what docker has no words for."""
    process = msgspec.structs.replace(config.process, memberships=security.memberships)
    if security.seccomp is not None:
        process = msgspec.structs.replace(process, seccomp=security.seccomp)
    if security.ambient:
        granted = msgspec.structs.replace(process.capabilities, inheritable=security.ambient, ambient=security.ambient)
        process = msgspec.structs.replace(process, capabilities=granted)
    listed = [POD_SHM if (each.destination, each.type) == SHM else each for each in config.mounts]
    return msgspec.structs.replace(config, process=process, mounts=listed)


def _own(record: ContainerRecord, namespace: Users | None) -> None:
    """What is made for a container belongs to ids as they are outside of its pod's user namespace."""
    if namespace is None:
        return
    devices = []
    for device in record.config.devices:
        uid, gid = users.owner(namespace, device.uid, device.gid)
        devices.append(msgspec.structs.replace(device, uid=uid, gid=gid))
    for block in record.blocks:
        block.uid, block.gid = users.owner(namespace, block.uid, block.gid)
    listed = [users.owned(mount, namespace) for mount in record.config.mounts]
    record.config = msgspec.structs.replace(record.config, devices=devices, mounts=listed)


def _same_container(id: str, there: KubeContainer, wanted: KubeContainer) -> str:
    if there.request == wanted.request:
        return id
    words = f"cannot create container {wanted.name}, attempt {wanted.attempt}: it is there already, as {id}"
    raise AlreadyExists(words, "container", wanted.name, id)


def _pod_state(pod: Pod) -> KubePodState:
    return kube_states.of_pod(pod.record, ready=kube_states.ready(pod))
