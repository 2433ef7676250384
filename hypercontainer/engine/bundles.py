"""The use cases of containers that other engines have. model.api.Bundles says what each promises."""

import asyncio
import os
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from hypercontainer.engine import annotations, bundle_binds, bundle_namespaces, top, update
from hypercontainer.engine.stand_ins import KILLED, First, StandIns
from hypercontainer.engine.supervisor import Supervisor
from hypercontainer.errors import AlreadyExists, HyperError, InvalidInput, NotFound, WrongState
from hypercontainer.lib import clock, engine_cgroup, proc
from hypercontainer.lib.tasks import uninterrupted
from hypercontainer.lib.trace import Timings
from hypercontainer.model import documents as doc
from hypercontainer.model import ids
from hypercontainer.model.bundle import (
    Bundle,
    BundleEnd,
    BundleExec,
    BundleImages,
    BundleState,
    BundleUpdate,
    BundleUsage,
    Status,
)
from hypercontainer.model.container import ContainerConfig
from hypercontainer.model.record import VERSION, BundleRecord, ContainerRecord, MountRecord, PodRecord, RootfsRecord
from hypercontainer.model.spec import NONE, ContainerSpec, EndpointSpec, ExecSpec, PodSpec
from hypercontainer.sandbox import checkpoint, rootfs, size, stats
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.criu import Saved
from hypercontainer.sandbox.further import Further
from hypercontainer.sandbox.pod import Pod
from hypercontainer.sandbox.stand_in import StandIn

ID = re.compile(r"[A-Za-z0-9_+.-]{1,1024}")  # as runc has it
GONE_S = 10.0  # until a stand-in that was killed has ended
STATUS: Mapping[str, Status] = {"created": "created", "running": "running", "paused": "paused"}


class Bundles:
    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor, self.host = supervisor, supervisor.host
        self.stand_ins = StandIns(supervisor)

    async def check(self, owner: str, id: str) -> None:
        if not ID.fullmatch(id) or id in (".", ".."):
            raise InvalidInput(f"invalid container id {id[:60]!r}: use letters, digits, _, +, - and .")
        if any(container.name == id for _, container in self.host.index.containers(owner)):
            raise AlreadyExists(f"container with given ID already exists: {id}", "container", id)

    async def create(self, wanted: Bundle, trees: Mapping[str, int]) -> None:
        try:
            mounts = await asyncio.to_thread(bundle_binds.mounts, wanted.binds, trees)
            await self.check(wanted.owner, wanted.id)  # nobody comes between this and the index
            asked = annotations.asked(wanted.annotations, self.host.settings.annotations)
            pods = [pod for pod in self.host.index.pods.values() if pod.owner == wanted.owner]
            there = bundle_namespaces.sharing(pods, self.host.site.netns, wanted)
            config = bundle_namespaces.joined(pods, there, wanted)
            record = _container(wanted, config, mounts, there)
        except BaseException:
            for fd in trees.values():
                os.close(fd)
            raise
        if there is None:
            pod = self.supervisor.pod(_pod(wanted, asked, self.host.settings.memory_mib))
            container = await self._create_alone(pod, record, trees)
        else:
            pod = self.supervisor.pods[there.id]
            container = await self._join(pod, record, trees)
        if not wanted.restored:
            pod.spawn(self._prepare(pod, container))

    async def _prepare(self, pod: Pod, container: Container) -> None:
        """Ahead of its start, which engines ask for a moment later. It tells what is wrong, and tries again."""
        with suppress(HyperError):
            await self.supervisor.prepare(pod, container)

    async def _create_alone(self, pod: Pod, record: ContainerRecord, trees: Mapping[str, int]) -> Container:
        container = pod.add(record)
        self.host.pods.create(pod.record, durable=False)
        self.supervisor.add(pod)
        try:
            async with pod.locked() as locked:
                with pod.machine.folders.given(trees):
                    await locked.enter(container, Timings())
        except BaseException:
            async with pod.locked() as locked:
                await uninterrupted(self.supervisor.destroy(locked))
            raise
        return container

    async def _join(self, pod: Pod, record: ContainerRecord, trees: Mapping[str, int]) -> Container:
        async with pod.locked() as locked:
            with pod.machine.folders.given(trees):
                if pod.removed:
                    raise WrongState("join the network of", pod.record.name, "removing")
                await self.check(pod.record.owner, record.name)  # again: the lock was waited for
                container = pod.add(record)
                try:
                    self.host.pods.add_container(pod.record.id, record)
                    pod.machine.save()
                    await locked.enter(container, Timings())
                    await update.grow(pod, container)
                except BaseException:
                    await uninterrupted(self.supervisor.take_out(locked, container))
                    raise
        return container

    async def checkpoint(self, owner: str, id: str, wanted: BundleImages) -> None:
        pod, container = self._find(owner, id)
        if (status := self._status(container)) not in ("running", "paused"):
            raise WrongState("checkpoint", id, status)
        await checkpoint.save(pod, container, _saved(wanted))

    async def start(self, owner: str, id: str, saved: BundleImages | None = None) -> None:
        pod, container = self._find(owner, id)
        if (status := self._seen(pod, container)) != "created":
            raise WrongState("start", id, status)
        try:
            await self.supervisor.start(pod, container, Timings(), _saved(saved) if saved else None)
        except HyperError:
            self._end_stand_in(container)  # what cannot begin has ended, as engines expect it
            raise

    async def state(self, owner: str, id: str) -> BundleState:
        return self._state(*self._find(owner, id))

    async def list(self, owner: str) -> Sequence[BundleState]:
        names = [container.name for _, container in self.host.index.containers(owner)]
        return [self._state(*self._find(owner, name)) for name in names]

    async def kill(self, owner: str, id: str, number: int, *, everyone: bool = False) -> None:
        pod, container = self._find(owner, id)
        if container.record.state == "created" and number in (signal.SIGKILL, signal.SIGTERM):
            return self._end_stand_in(container)
        if not container.running:
            if everyone and self._status(container) == "stopped":
                return None  # whatever was left of it has ended with it
            raise WrongState("kill", id, "not running")
        await pod.signal(container, number, everyone=everyone)
        return None

    async def delete(self, owner: str, id: str, *, force: bool) -> None:
        try:
            pod, container = self._find(owner, id)
        except NotFound:
            if force:
                return None
            raise
        while True:
            status = self._seen(pod, container)
            if not force and (status == "paused" or (container.alive and status != "stopped")):
                raise WrongState("delete", id, status, "stop it first, or use --force")
            if container.alive or container.prepared:
                await pod.kill(container)
            await self._clear(pod, container)
            try:
                return await self.supervisor.remove(pod, container, volumes=False)
            except WrongState:
                if pod.removed or container.record.id not in pod.containers:  # another call was quicker
                    if force:
                        return None
                    raise NotFound("container", id) from None
                if not container.alive:
                    raise  # else: a start that was under way came first

    async def pause(self, owner: str, id: str) -> None:
        pod, container = self._find(owner, id)
        if (status := self._seen(pod, container)) not in ("created", "running"):
            raise WrongState("pause", id, status)
        async with pod.locked() as locked:
            await locked.pause()

    async def resume(self, owner: str, id: str) -> None:
        pod, container = self._find(owner, id)
        if (status := self._seen(pod, container)) != "paused":
            raise WrongState("resume", id, status)
        async with pod.locked() as locked:
            await locked.unpause()

    async def update(self, owner: str, id: str, wanted: BundleUpdate) -> None:
        pod, container = self._find(owner, id)
        if (status := self._status(container)) == "stopped":
            raise WrongState("update", id, status)
        await update.limit(pod, container, wanted.of(container.record.config.resources))

    async def usage(self, owner: str, id: str) -> BundleUsage:
        with self._answering(owner, id, "measure") as (pod, container):
            found = await stats.alone(pod.machine.running().agent, container.record.id)
        pids = container.record.config.resources.pids
        return stats.usage(found, memory_mib=pod.site.machine_mib(pod.record), pids_limit=pids)

    async def top(self, owner: str, id: str, options: str) -> doc.Top:
        with self._answering(owner, id, "list the processes of") as (pod, container):
            table = await pod.machine.running().agent.container_processes(container.record.id)
        host = top.Host(now_s=clock.now_ns() / 1e9, memory_kib=pod.site.machine_mib(pod.record) << 10)
        return top.top(table.processes, options, host)

    async def pids(self, owner: str, id: str) -> Sequence[int]:
        _, container = self._find(owner, id)
        if (status := self._status(container)) == "stopped":
            raise WrongState("list the processes of", id, status)
        assert container.record.stand_in  # noqa: S101  another engine's
        execs = [further.pid for further in container.further.values() if further.exec.running]
        return [container.record.stand_in.process.pid, *execs]

    async def await_end(self, owner: str, id: str, within_s: float) -> BundleEnd:
        try:
            container = self._find(owner, id)[1]
        except NotFound:
            return BundleEnd(ended=True)
        if container.record.state != "exited":
            await asyncio.wait([container.exit or container.next], timeout=within_s)
        return BundleEnd(ended=container.record.state == "exited", oom=container.record.oom_killed)

    async def wait(self, owner: str, id: str) -> BundleState:
        pod, container = self._find(owner, id)
        while self._status(container) == "created":
            await self._begun_or_gone(container)
        while container.alive and container.exit:
            await asyncio.wait([container.exit])
        return self._state(pod, container)

    async def _begun_or_gone(self, container: Container) -> None:
        record = container.record.stand_in
        assert record  # noqa: S101  another engine's
        gone = asyncio.create_task(proc.gone(record.process.pid, record.process.start_time))
        begun = asyncio.shield(container.next)
        waits: set[asyncio.Future[Any]] = {gone, begun}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            begun.cancel()

    async def resize(self, owner: str, id: str, rows: int, columns: int) -> None:
        await First(*self._find(owner, id)).resize(rows, columns)

    async def release(self, owner: str, id: str) -> None:
        _, container = self._find(owner, id)
        for sink in container.output.sinks:
            if isinstance(sink, StandIn):
                sink.release()

    async def exec(self, owner: str, id: str, wanted: BundleExec) -> Further:
        pod, container = self._find(owner, id)
        if not container.running:
            if (status := self._status(container)) != "created":
                raise WrongState("exec in", id, status)
            await self.supervisor.prepare(pod, container)
        seccomp = container.record.config.process.seccomp  # what process.json has no word for
        process = msgspec.structs.replace(wanted.process, seccomp=seccomp)
        spec = ExecSpec(
            command=process.args, tty=process.terminal, open_stdin=True, rows=wanted.rows, columns=wanted.columns
        )
        if process.apparmor != container.record.config.process.apparmor:  # that one it knows
            await pod.machine.confine(process.apparmor)
        return await pod.start_further(container, spec, process, wanted.stand_in, wanted.name)

    async def execs(self, owner: str, id: str) -> Mapping[str, Further]:
        _, container = self._find(owner, id)
        return {further.name: further for further in container.further.values() if further.name}

    async def forget(self, owner: str, id: str, name: str) -> None:
        _, container = self._find(owner, id)
        for further in [further for further in container.further.values() if further.name == name]:
            further.forget()
            del container.further[further.exec.id]

    async def stand(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.stand_ins.serve(reader, writer)

    async def _clear(self, pod: Pod, container: Container) -> None:
        """Nobody stands for it any more, and nothing is left of where it stood. What it is was recorded before, and is
        until then."""
        self._end_stand_in(container)
        record = container.record
        with suppress(TimeoutError):
            async with asyncio.timeout(GONE_S):
                if record.stand_in:
                    await proc.gone(record.stand_in.process.pid, record.stand_in.process.start_time)
        if record.bundle and record.bundle.cgroup:
            async with pod.locked() as locked:
                await locked.machine.be_apart(record)
            await asyncio.to_thread(engine_cgroup.remove, record.bundle.cgroup)

    def _end_stand_in(self, container: Container) -> None:
        if record := container.record.stand_in:
            proc.kill(record.process.pid, record.process.start_time)

    def _find(self, owner: str, id: str) -> tuple[Pod, Container]:
        pod, container = self.host.index.find_bundle(owner, id)
        return self.supervisor.pods[pod.id], self.supervisor.pods[pod.id].containers[container.id]

    @contextmanager
    def _answering(self, owner: str, id: str, verb: str) -> Iterator[tuple[Pod, Container]]:
        """One whose machine answers. WrongState also where it has ended before that."""
        pod, container = self._find(owner, id)

        def check() -> None:
            if (status := self._seen(pod, container)) in ("stopped", "paused"):
                raise WrongState(verb, id, status)

        check()
        try:
            yield pod, container
        except HyperError:
            check()
            raise

    def _status(self, container: Container) -> Status:
        record = container.record.stand_in
        there = record and proc.start_time(record.process.pid) == record.process.start_time
        if not there:
            return "stopped"  # what stands for it was killed: it ends, if it has not yet
        return STATUS.get(container.record.state, "stopped")

    def _seen(self, pod: Pod, container: Container) -> Status:
        """A pause is the whole machine's, also of those in it that wait for their start."""
        status = self._status(container)
        return "paused" if status == "created" and pod.record.paused else status

    def _state(self, pod: Pod, container: Container) -> BundleState:
        record = container.record
        assert record.bundle and record.stand_in  # noqa: S101  another engine's
        status = self._seen(pod, container)
        unbegun = status == "stopped" and record.state == "created"
        return BundleState(
            id=record.name,
            oci_version=record.bundle.oci_version,
            status=status,
            pid=0 if status == "stopped" else record.stand_in.process.pid,
            bundle=record.bundle.path,
            rootfs=str(rootfs.of(record.rootfs)).removeprefix("folder "),
            created_ns=record.created_ns,
            annotations=record.bundle.annotations,
            poststart=record.bundle.poststart,
            poststop=record.bundle.poststop,
            stand_in=record.stand_in.process,
            exit_code=KILLED if unbegun and not record.error else record.exit_code,
            finished_ns=record.finished_ns,
            oom_killed=record.oom_killed,
        )


def _saved(images: BundleImages) -> Saved:
    return Saved(images.images, images.work, images.flags)


def _pod(wanted: Bundle, asked: Mapping[str, Any], usual_mib: int) -> PodRecord:
    """`asked`: by its annotations. Of the size that its engine says that it is to have in the end, where it says so:
    what is said of the first container is not among that, so it has the usual."""
    id = ids.new_pod_id()
    vcpus, memory_mib = size.fitting(wanted.config.resources)
    if wanted.machine.memory_bytes or wanted.machine.cpu_quota_us:
        vcpus, limits_mib = size.fitting(wanted.machine)
        memory_mib = limits_mib + (memory_mib or usual_mib)
    spec = PodSpec(
        name=id,
        vcpus=vcpus,
        memory_mib=memory_mib,
        hostname=wanted.config.hostname,
        domainname=wanted.domainname,
        networks=[EndpointSpec(network=NONE)],
    )
    return PodRecord(
        version=VERSION,
        id=id,
        name=id,
        spec=annotations.sized(spec, asked, usual_mib),
        implicit=True,
        created_ns=clock.now_ns(),
        owner=wanted.owner,
        netns=wanted.netns,
    )


def _root(wanted: Bundle) -> RootfsRecord:
    if wanted.disks:
        return rootfs.engine(wanted.disks)
    return rootfs.folder(Path(wanted.rootfs), read_only=wanted.read_only)


def _container(
    wanted: Bundle, config: ContainerConfig, mounts: list[MountRecord], pod: PodRecord | None
) -> ContainerRecord:
    return ContainerRecord(
        id=ids.new_id(),
        name=wanted.id,
        spec=ContainerSpec(image="", open_stdin=True, tty=wanted.config.process.terminal),
        image_id="",
        image_name="",
        config=config,
        joined=pod.containers[0].id if pod else "",
        rootfs=_root(wanted),
        sinks=[wanted.stand_in],
        stop_signal=signal.SIGTERM,
        labels={},
        mounts=mounts,
        created_ns=clock.now_ns(),
        bundle=BundleRecord(
            path=wanted.path,
            oci_version=wanted.oci_version,
            annotations=wanted.annotations,
            cgroup=wanted.cgroup,
            start_container=wanted.start_container,
            poststart=wanted.poststart,
            poststop=wanted.poststop,
        ),
    )
