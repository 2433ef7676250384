"""Answers for the pods of this daemon: their records, and what follows when a container ends."""

import asyncio
import logging
from typing import Literal

from hypercontainer.engine import allocate, config, describe, links, namespaces, restart
from hypercontainer.engine.health import Watch
from hypercontainer.engine.host import Host
from hypercontainer.engine.kube_events import KubeEvents
from hypercontainer.engine.restart import Restarts
from hypercontainer.engine.starts import Starts
from hypercontainer.errors import Exhausted, HyperError, NotFound, WrongState
from hypercontainer.lib import proc
from hypercontainer.lib.tasks import uninterrupted
from hypercontainer.lib.trace import Timings
from hypercontainer.model.record import ContainerRecord, PodRecord, StandInRecord
from hypercontainer.model.spec import NONE
from hypercontainer.model.state import Verb
from hypercontainer.sandbox.container import RUNNING, Container
from hypercontainer.sandbox.criu import Saved
from hypercontainer.sandbox.locked import LockedPod
from hypercontainer.sandbox.pod import Pod

log = logging.getLogger(__name__)

RETRY_S = 1.0  # while the disk takes no record


class Supervisor:
    """See sandbox.locked.Supervisor. `pods`: all that there are, by id."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.pods: dict[str, Pod] = {}
        self.restarts = Restarts()
        self.kube_events = KubeEvents()
        self.starts = Starts()
        self.writing: dict[str, asyncio.Task[None]] = {}  # for each pod whose record the disk did not take

    def pod(self, record: PodRecord) -> Pod:
        """A pod of this record, which nobody finds before `add`."""
        return Pod(self.host.site, record, self, self.host.pods.folder(record.id))

    def add(self, pod: Pod) -> None:
        self.host.index.pods[pod.record.id] = pod.record
        self.pods[pod.record.id] = pod

    def find(self, c: str) -> tuple[Pod, Container]:
        """A container by id, unique beginning of one, or name, and its pod. NotFound, InvalidInput."""
        record, container = self.host.index.find_container(c)
        pod = self.pods[record.id]
        return pod, pod.containers[container.id]

    def find_running(self, c: str, verb: Verb) -> tuple[Pod, Container]:
        """One that runs, in a guest that answers. WrongState: `verb` cannot be done."""
        pod, container = self.find(c)
        container.record.check(verb)
        pod.machine.check_reached(verb, container.record.name)
        return pod, container

    def find_pod(self, pod: str, *, all_owners: bool = False) -> Pod:
        return self.pods[self.host.index.find_pod(pod, all_owners=all_owners).id]

    def unreached(self) -> dict[str, str]:
        """Pods whose guest is there and does not answer: why."""
        return {pod.record.id: pod.machine.unreached for pod in self.pods.values() if pod.machine.unreached}

    def place(self, container: ContainerRecord) -> None:
        """Write down where on this host the sources of its mounts are."""
        for mount in container.mounts:
            if mount.type != "tmpfs":
                volume = mount.type == "volume"
                mount.path = str(self.host.volumes.path(mount.source)) if volume else mount.source
        container.config = config.placed(container.config, container.mounts)

    # records

    async def allocate(self, pod: PodRecord) -> None:
        await allocate.allocate(self.host, pod)
        if not pod.provisional:  # of such a one all goes that bears its id, whatever its record says
            self.save(pod)

    def save(self, pod: PodRecord, *, durable: bool = False) -> None:
        if pod.id in self.pods:
            self.host.pods.save(pod, durable=durable)

    def note(self, pod: PodRecord) -> bool:
        try:
            self.save(pod)
        except HyperError as e:
            self.host.pods.owed.add(pod.id)
            if pod.id not in self.writing:
                log.error("%s: it is kept in memory until that can be done", e)
                self.writing[pod.id] = self.pods[pod.id].spawn(self._write_later(self.pods[pod.id]))
            return False
        return True

    async def _write_later(self, pod: Pod) -> None:
        while pod.record.id in self.host.pods.owed:
            await asyncio.sleep(RETRY_S)
            async with pod.locked() as locked:
                try:
                    await self.pay(locked)
                except HyperError:
                    continue
        del self.writing[pod.record.id]
        log.info("pod %s: its record is written again", pod.record.id)
        async with pod.locked() as locked:
            await self.power_off_if_idle(locked)

    async def pay(self, pod: LockedPod) -> None:
        """Write what is owed to the disk. Exhausted: not yet."""
        if pod.record.id in self.host.pods.owed:
            self.save(pod.record)
        await pod.written()

    def hosts(self, pod: PodRecord) -> list[list[str]]:
        return links.hosts(self.host.index, pod)

    def linked(self, pod: PodRecord, container: ContainerRecord) -> list[str]:
        own = {entry.partition("=")[0] for entry in container.config.process.env}
        entries = links.environment(self.host.index, pod, container)
        return [entry for entry in entries if entry.partition("=")[0] not in own]

    def emit(self, action: str, pod: PodRecord, container: ContainerRecord | None, **attributes: str) -> None:
        events = self.host.events
        if pod.kube:
            self.kube_events.emit(action, pod, self.pods.get(pod.id), container)
        if pod.owner:
            return  # whose events are for that engine to tell
        if container is None:
            events.emit("pod", action, pod.id, {**pod.spec.labels, "name": pod.name, **attributes})
        else:
            if action == "start":
                self._emit_parts(pod, container, "connect", "mount")
            named = {"image": container.image_name, "name": container.name, "pod": pod.id, "podName": pod.name}
            events.emit("container", action, container.id, {**container.labels, **named, **attributes})
            if action == "die":
                self._emit_parts(pod, container, "disconnect", "unmount")

    def _emit_parts(self, pod: PodRecord, container: ContainerRecord, of_network: str, of_volume: str) -> None:
        """Tell what a start and an end of `container` are to its networks and volumes."""
        host = self.host
        for network in host.networks.all():
            if network.name != NONE and network.name in describe.networks(pod, container):
                attributes = describe.network_attributes(network) | {"container": container.id}
                host.events.emit("network", of_network, network.id, attributes)
        for mount in [mount for mount in container.mounts if mount.type == "volume"]:
            attributes = {"container": container.id, "driver": "local"}
            if of_volume == "mount":
                writable = str(not mount.read_only).lower()
                attributes |= {"destination": mount.target, "propagation": "", "read/write": writable}
            host.events.emit("volume", of_volume, mount.source, attributes)

    # starting

    async def start(self, pod: Pod, container: Container, trace: Timings, saved: Saved | None = None) -> None:
        """Boot the machine if need be, make the container in it, start its process. One that runs: nothing happens.

        Somebody wants that: what its restart policy has counted begins anew. WrongState for a paused one, and when
        that does not run whose network or namespaces it shares; NotFound when that one is gone."""
        if not container.alive:
            self.restarts.begin_anew(container.record.id)
            container.record.restart_count = 0
        await self._start(pod, container, trace, asked=True, saved=saved)

    def _check_joined(self, pod: Pod, record: ContainerRecord, *, asked: bool) -> None:
        """As docker has it, in its words. One that a policy starts needs nobody for the network: that is its machine's,
        and of another engine's it is that engine's; but a namespace is there while somebody is in it."""
        if record.joined and asked and not record.bundle:
            self._check_runs(pod, record, record.joined, "cannot join network of a non running container: {}")
        if pid_of := record.config.pid_of:
            self._check_runs(pod, record, pid_of, "container {} is not running")
        if ipc_of := record.config.ipc_of:
            words = f"can't join IPC of container {ipc_of}: "
            other = self._check_runs(pod, record, ipc_of, words + "container {} is not running")
            if not (record.bundle or namespaces.is_shareable(other)):
                why = "non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
                raise WrongState("start", record.name, record.state, words + why)

    def _check_runs(self, pod: Pod, record: ContainerRecord, id: str, words: str) -> ContainerRecord:
        if id not in pod.containers:
            raise NotFound("container", id)
        other = pod.containers[id].record
        if other.state not in RUNNING and not pod.containers[id].prepared:
            raise WrongState("start", record.name, record.state, f"{words.format(other.id)}; start {other.name} first")
        return other

    def _waits_for(self, record: ContainerRecord) -> bool:
        """One in whose namespaces it will be is about to start again, too."""
        others = {record.config.pid_of, record.config.ipc_of} - {""}
        return any(other.state == "restarting" for _, other in self.host.index.containers() if other.id in others)

    async def _start(
        self, pod: Pod, container: Container, trace: Timings, *, asked: bool = False, saved: Saved | None = None
    ) -> None:
        """`asked`: by somebody, not by its restart policy."""
        container.starting = trace
        async with pod.locked() as locked:
            if not await self._may_start(locked, container):
                return
            self.restarts.cancel(container.record.id)
            try:
                await self._prepare_joined(locked, container)
                self._check_joined(pod, container.record, asked=asked)
                if asked:
                    links.check_running(self.host.index, pod.record, container.record)
                await self._publish(locked, container)
                await locked.start(container, trace, saved)
            except BaseException:
                await self._not_started(locked, container)
                raise
            self.starts.note("container", trace)
        for other in [other for other in self.pods.values() if links.leads(self.host.index, other.record, pod.record)]:
            other.spawn(self._tell_hosts(other))

    async def _may_start(self, locked: LockedPod, container: Container) -> bool:
        """False: it runs. WrongState."""
        locked.pod.check(container, "start")
        if container.running:
            return False
        locked.machine.check_reached("start", container.record.name)
        if locked.record.kube and locked.machine.vm is None:
            raise WrongState("start", container.record.name, "in a pod that was stopped")
        if locked.record.paused:
            raise WrongState("start", container.record.name, "in a paused virtual machine", "unpause that first")
        await self.pay(locked)
        return True

    async def prepare(self, pod: Pod, container: Container) -> None:
        """Have all of another engine's container but its program, which waits for the start. One that runs, or waits
        already: nothing happens."""
        async with pod.locked() as locked:
            if await self._may_start(locked, container) and not container.prepared:
                await uninterrupted(self._prepare(locked, container))  # or the guest has it, and we do not know

    async def _prepare(self, locked: LockedPod, container: Container) -> None:
        await self._prepare_joined(locked, container)
        self._check_joined(locked.pod, container.record, asked=True)
        await locked.prepare(container)

    async def _prepare_joined(self, locked: LockedPod, container: Container) -> None:
        """Those in whose namespaces it will be are not started before it is."""
        config = container.record.config
        for id in {config.pid_of, config.ipc_of} & locked.containers.keys():
            other = locked.containers[id]
            if other.awaited and not other.prepared:
                await self._prepare(locked, other)

    async def _tell_hosts(self, pod: Pod) -> None:
        """One that it is linked to has started, with another address perhaps."""
        async with pod.locked() as locked:
            try:
                await locked.tell_hosts()
            except HyperError as e:
                log.warning("pod %s: its guest has not heard where others are: %s", pod.record.id, e)

    async def _publish(self, pod: LockedPod, container: Container) -> None:
        """Have its ports lead to a machine that others have kept running since it ended."""
        if pod.machine.vm is None or not pod.record.sized_for(container.record):
            return
        if nic := allocate.publish(self.host, pod.record):
            try:
                pod.machine.save()
                await uninterrupted(self.host.networks[nic.network].create(nic))
            except BaseException:
                nic.ports = []
                pod.machine.note()
                raise

    async def _withdraw(self, pod: LockedPod, container: Container) -> None:
        """Its ports are another one's to have, as with docker, when it does not run: they were published for it, and
        not for those who keep its machine running."""
        if container.running or pod.machine.vm is None or not pod.record.sized_for(container.record):
            return
        for nic in [nic for nic in pod.record.nics if nic.ports]:
            ports, nic.ports = nic.ports, []
            pod.machine.note()
            await self.host.site.network_of(nic).withdraw(nic, ports)

    async def _not_started(self, pod: LockedPod, container: Container) -> None:
        """A start failed: one that was to remove itself does so now, as with docker."""
        if container.record.state == "restarting":
            container.record.move("exited")
        pod.machine.note()
        if container.record.spec.auto_remove:
            await self._remove(pod, container, volumes=True)
        await self.power_off_if_idle(pod)
        await self._withdraw(pod, container)

    def began(self, pod: Pod, container: Container) -> None:
        if container.record.probe:
            pod.spawn(Watch(pod, container).run())
        self.prepared(pod, container)

    def prepared(self, pod: Pod, container: Container) -> None:
        if (stand_in := container.record.stand_in) and not container.followed:
            container.followed = True
            pod.spawn(self._follow(pod, container, stand_in))

    async def _follow(self, pod: Pod, container: Container, stand_in: StandInRecord) -> None:
        """End a container with what stands for it: who kills a container's process wants that."""
        await proc.gone(stand_in.process.pid, stand_in.process.start_time)
        if container.alive or container.prepared or container.begins:
            log.info("container %s is killed: its stand-in is gone", container.record.name)
            await pod.kill(container)

    # what follows from an end

    def state_after(self, container: ContainerRecord) -> Literal["exited", "restarting"]:
        self.restarts.ended(container)
        return "restarting" if restart.wanted(container) else "exited"

    async def ended(self, pod: LockedPod, container: Container) -> None:
        """It starts again, or it goes when it was to, and the machine when nobody is left in it."""
        if container.record.state == "restarting":
            self.restart_later(pod.pod, container)
            return
        if container.record.spec.auto_remove:
            await self._remove(pod, container, volumes=True)
        await self.power_off_if_idle(pod)
        await self._withdraw(pod, container)

    async def unused(self, pod: LockedPod) -> None:
        await self.power_off_if_idle(pod)

    async def power_off_if_idle(self, pod: LockedPod) -> None:
        """End a machine that nobody is left in. A kubelet's stays up until it is stopped, as does a pod that was made
        without containers."""
        if not pod.pod.idle or pod.record.kube or not (pod.containers or pod.record.implicit):
            return
        if not any(c.record.state == "restarting" for c in pod.containers.values()):
            await pod.power_off()

    # restarting

    def restart_later(
        self, pod: Pod, container: Container, delay_s: float | None = None, *, anew: bool = False
    ) -> None:
        """Start it after `delay_s`, or after as long as its ends before this one make right. `anew`: that is the first
        time that counts."""
        id = container.record.id
        delay_s = self.restarts.next_delay_s(id) if delay_s is None else delay_s
        count = 0 if anew else container.record.restart_count + 1
        self.restarts.plan(id, pod.spawn(self._restart(pod, container, delay_s, count)))

    async def _restart(self, pod: Pod, container: Container, delay_s: float, count: int) -> None:
        record = container.record
        await asyncio.sleep(delay_s)
        if self._waits_for(record):
            again = self._restart(pod, container, self.restarts.next_delay_s(record.id), count)
            self.restarts.plan(record.id, pod.spawn(again))
            return
        record.restart_count = count
        try:
            await self._start(pod, container, Timings())
        except Exhausted as e:  # no reason to give up: there may be room later
            log.error("cannot restart %s: %s: trying again", record.name, e)
            async with pod.locked() as locked:
                if not pod.removed and not container.alive and restart.wanted(record):
                    record.move("restarting")
                    locked.machine.note()
                    self.restart_later(pod, container)
        except HyperError as e:
            log.error("cannot restart %s: %s", record.name, e)
            async with pod.locked() as locked:
                if record.state in ("restarting", "exited"):
                    record.move("exited")
                    record.error = str(e)
                    locked.machine.note()
                await self.power_off_if_idle(locked)

    # stopping and removing

    async def stop(self, pod: Pod, container: Container, timeout_s: float | None, signal: int | None = None) -> None:
        """See Pod.stop; it is not started again by itself either."""
        record = container.record
        self.restarts.cancel(record.id)
        record.stopped_by_user = True
        if record.state == "restarting":
            async with pod.locked() as locked:
                record.move("exited")
                locked.machine.note()
                await self.power_off_if_idle(locked)
        container.stops += 1
        try:
            await pod.stop(container, timeout_s, signal)
        finally:
            container.stops -= 1

    async def remove(self, pod: Pod, container: Container, *, volumes: bool) -> None:
        """Take a container that does not run out of the pod, and the pod with it when it was made for it."""
        async with pod.locked() as locked:
            pod.check(container, "remove")
            await self._remove(locked, container, volumes=volumes)
            await self.power_off_if_idle(locked)

    async def _remove(self, pod: LockedPod, container: Container, *, volumes: bool) -> None:
        record = container.record
        self.restarts.cancel(record.id)
        with record.moving("removing"):  # as before where that fails, so that it can be tried again
            if pod.record.lone:
                await self.destroy(pod)
            else:
                await self.take_out(pod, container)
        self.restarts.forget(record.id)
        pod.emit("destroy", container)
        if volumes:
            await self.remove_anonymous(record)

    async def take_out(self, pod: LockedPod, container: Container) -> None:
        """Of a pod that others are in; it does not run."""
        await pod.machine.leave(container.record)
        self.host.pods.remove_container(pod.record.id, container.record.id)
        pod.pod.drop(container)
        if pod.record.implicit:  # whose name it has had may be given anew
            pod.record.name = pod.record.id if pod.record.owner else pod.record.containers[0].name
        pod.machine.note()
        await container.remove()

    async def destroy(self, pod: LockedPod) -> None:
        """The whole pod goes: machine, host resources, folder."""
        await self.discard(pod)
        pod.emit("destroy")

    async def discard(self, pod: LockedPod) -> None:
        """The whole pod goes, and nobody is told of it."""
        await pod.machine.release()
        self.host.pods.remove(pod.record.id)
        pod.pod.removed = True
        self.host.index.pods.pop(pod.record.id, None)
        self.pods.pop(pod.record.id, None)
        for container in pod.containers.values():
            await container.remove()

    async def empty(self, pod: LockedPod, *, volumes: bool) -> None:
        """The whole pod goes with its containers, and with `volumes` the anonymous ones of those; a kubelet's off its
        network first, before nobody knows of it any more."""
        containers = list(pod.containers.values())
        if pod.record.kube:
            await pod.power_off()
            await self.host.pod_networks.detach(pod.record.id)
        for container in containers:
            self.restarts.cancel(container.record.id)
        await self.discard(pod)
        for container in containers:
            self.restarts.forget(container.record.id)
            pod.emit("destroy", container)
        pod.emit("destroy")
        for container in containers if volumes else ():
            await self.remove_anonymous(container.record)

    async def remove_anonymous(self, container: ContainerRecord) -> None:
        """The volumes that were made for the container alone."""
        for name in [mount.source for mount in container.mounts if mount.anonymous]:
            try:
                await self.host.volumes.remove(name, self.host.index.volume_user)
            except (HyperError, OSError) as e:
                log.warning("cannot remove volume %s: %s", name[:12], e)
