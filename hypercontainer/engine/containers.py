"""The use cases of containers. model.api.Containers says what each promises."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence

import msgspec

from hypercontainer.engine import commit, create, describe, endpoints, links, lists, top, update
from hypercontainer.engine.policy import Admission
from hypercontainer.engine.supervisor import Supervisor
from hypercontainer.errors import InvalidInput, NotFound, WrongState
from hypercontainer.lib import clock
from hypercontainer.lib.trace import Timings
from hypercontainer.model import documents as doc
from hypercontainer.model import ids
from hypercontainer.model.api import Condition, Filters
from hypercontainer.model.principal import Principal
from hypercontainer.model.record import ContainerRecord
from hypercontainer.model.spec import Commit, ContainerUpdate, PodSpec
from hypercontainer.model.state import State
from hypercontainer.sandbox import archive, rootfs, stats
from hypercontainer.sandbox.attach import AttachSession
from hypercontainer.sandbox.log import Wanted
from hypercontainer.sandbox.logs import log_of, read_log

REMOVE_S = 1.0  # for a guest to kill what is removed anyway, and to say its last words


class Containers:
    def __init__(self, supervisor: Supervisor, trace: type[Timings], admission: Admission) -> None:
        """`trace` makes the trace of each start."""
        self.supervisor, self.host = supervisor, supervisor.host
        self._trace, self._admission = trace, admission

    async def create(self, spec: PodSpec, *, by: Principal) -> doc.Created:
        spec = self._admission(by, spec)
        if len(spec.containers) != 1:
            raise InvalidInput(f"cannot create a container of a pod with {len(spec.containers)}: give exactly one")
        name = spec.containers[0].name or spec.name
        name = ids.check_name("container", name) if name else self.host.index.invent_name()
        if other := endpoints.joined(spec):
            pod, made = await create.joining(self.supervisor, spec, name, other)
        else:
            pod = await create.pod(self.supervisor, spec, name, implicit=True)
            [made] = pod.containers.values()
        return doc.Created(id=made.record.id, warnings=create.warnings(self.host, pod, made))

    # starting and ending

    async def start(self, c: str) -> None:
        pod, container = self.supervisor.find(c)
        await self.supervisor.start(pod, container, self._trace())

    async def stop(self, c: str, timeout_s: float | None, signal: int | None = None) -> None:
        pod, container = self.supervisor.find(c)
        await self.supervisor.stop(pod, container, timeout_s, signal)

    async def kill(self, c: str, signal: int) -> None:
        pod, container = self.supervisor.find(c)
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

    async def restart(self, c: str, timeout_s: float | None, signal: int | None = None) -> None:
        pod, container = self.supervisor.find(c)
        await self.supervisor.stop(pod, container, timeout_s, signal)
        await self.supervisor.start(pod, container, self._trace())
        pod.emit("restart", container)

    async def remove(self, c: str, *, force: bool, volumes: bool) -> None:
        pod, container = self.supervisor.find(c)
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

    async def unlink(self, c: str, alias: str) -> None:
        pod, container = self.supervisor.find(c)
        async with pod.locked() as locked:
            before = pod.record.spec
            pod.record.spec = links.without(self.host.index, pod.record, container.record, alias)
            try:
                locked.machine.save()
            except BaseException:
                pod.record.spec = before
                raise

    async def rename(self, c: str, name: str) -> None:
        pod, container = self.supervisor.find(c)
        ids.check_name("container", name)
        async with pod.locked() as locked:
            self.host.index.check_container_name(name)
            names_pod = pod.record.implicit and pod.record.containers[0] is container.record
            if names_pod:
                self.host.index.check_pod_name(name)
            before = pod.record.name, container.record.name
            pod.record.name, container.record.name = name if names_pod else before[0], name
            try:
                locked.machine.save()
            except BaseException:
                pod.record.name, container.record.name = before
                raise
        pod.emit("rename", container, oldName=f"/{before[1]}")

    async def update(self, c: str, wanted: ContainerUpdate) -> doc.Updated:
        pod, container = self.supervisor.find(c)
        warnings = await update.update(self.host, pod, container, wanted)
        pod.emit("update", container)
        return doc.Updated(warnings=warnings)

    async def pause(self, c: str) -> None:
        pod, container = self.supervisor.find(c)
        container.record.check("pause")
        async with pod.locked() as locked:
            await locked.pause()

    async def unpause(self, c: str) -> None:
        pod, container = self.supervisor.find(c)
        if not pod.record.paused:
            container.record.check("unpause")
        async with pod.locked() as locked:
            await locked.unpause()

    async def wait(self, c: str, condition: Condition = "not-running") -> doc.WaitResult:
        _, container = self.supervisor.find(c)
        if condition == "removed":
            await container.gone.wait()
        elif condition == "next-exit" and not container.alive:
            await asyncio.wait([await asyncio.shield(container.next)])
        while container.alive and container.exit:  # suspended, it waits for an end that it comes to later
            await asyncio.wait([container.exit])
        return doc.WaitResult(status_code=container.record.exit_code)

    # looking

    async def inspect(self, c: str, *, size: bool = False) -> doc.Container:
        pod, container = self.supervisor.find(c)
        record = container.record
        volumes = {m.source: str(self.host.volumes.path(m.source)) for m in record.mounts if m.type == "volume"}
        document = describe.container(
            pod.record,
            record,
            await self.host.choice(pod.record.arch),
            log_path=str(container.output.log.path) if container.output.log else "",
            vcpus=self.host.vcpus(pod.record),
            memory_mib=pod.site.machine_mib(pod.record),
            volumes=volumes,
            links=links.shown(self.host.index, pod.record, record),
        )
        state = msgspec.structs.replace(document.state, starting=container.waits_for())
        if pod.machine.unreached and container.running:
            state = msgspec.structs.replace(state, error=f"not reached yet: {pod.machine.unreached}")
        return msgspec.structs.replace(document, state=state, **(self._sizes(record) if size else {}))

    async def list(
        self, *, all: bool, filters: Filters, size: bool = False, all_owners: bool = False
    ) -> Sequence[doc.ContainerEntry]:
        found = lists.containers(
            self.host.index,
            self._image_id,
            all=all,
            wanted=filters,
            now_ns=clock.now_ns(),
            unreached=self.supervisor.unreached(),
            all_owners=all_owners,
        )
        if not size:
            return found
        records = {record.id: record for _, record in self.host.index.containers(None)}
        return [msgspec.structs.replace(entry, **self._sizes(records[entry.id])) for entry in found]

    def _sizes(self, record: ContainerRecord) -> dict[str, int]:
        """What it takes of this host's disk: its writable layer, and that with its image."""
        try:
            path = rootfs.of(record.rootfs).scratch
            own = os.stat(path).st_blocks * 512 if path else 0
        except FileNotFoundError:  # it goes just now, or was never made
            own = 0
        return {"size_rw": own, "size_root_fs": own + self.host.images.get(record.image_id).size}

    def _image_id(self, name: str) -> str:
        try:
            return self.host.images.get(name).id
        except NotFound:
            return ""

    async def top(self, c: str, options: str = "") -> doc.Top:
        pod, container = self.supervisor.find_running(c, "list the processes of")
        table = await pod.machine.running().agent.container_processes(container.record.id)
        pod.emit("top", container)
        host = top.Host(now_s=clock.now_ns() / 1e9, memory_kib=pod.site.machine_mib(pod.record) << 10)
        return top.top(table.processes, options, host)

    async def stats(self, c: str) -> doc.Stats:
        pod, container = self.supervisor.find_running(c, "measure")
        found = await stats.alone(pod.machine.running().agent, container.record.id)
        used = stats.usage(found, memory_mib=pod.site.machine_mib(pod.record), pids_limit=0)
        return stats.sample(container.record, used, vcpus=self.host.vcpus(pod.record))

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
        _, container = self.supervisor.find(c)
        streams = {n for n, wanted in ((1, stdout), (2, stderr)) if wanted}
        if not streams:
            raise InvalidInput("cannot read no stream: ask for stdout or stderr")
        wanted = Wanted(frozenset(streams), since_ns or 0, until_ns or 0)
        return read_log(container, log_of(container, "read the log of"), wanted, follow=follow, tail=tail)

    # streams

    async def attach(
        self,
        c: str,
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        logs: bool,
        start: bool = False,
        before: Collection[State] = (),
    ) -> AttachSession:
        pod, container = self.supervisor.find(c)
        waits = container.record.state in before
        if not (start or waits):
            container.record.check("attach to")
        pod.machine.check_reached("attach to", container.record.name)
        pod.emit("attach", container)
        streams = {n for n, wanted in ((1, stdout), (2, stderr)) if wanted}
        session = AttachSession(pod, container, streams, stdin=stdin)
        try:
            if logs:
                session.begin_with_log()
            trace = self._trace()
            if start:
                await self.supervisor.start(pod, container, trace)
            if waits and not start:
                session.expect_start()
            else:
                session.started(trace.steps)
        except BaseException:
            await session.detach()
            raise
        return session

    async def resize(self, c: str, rows: int, columns: int) -> None:
        pod, container = self.supervisor.find_running(c, "resize")
        await pod.machine.running().agent.resize_process(container.record.id, rows, columns)
        pod.emit("resize", container, height=str(rows), width=str(columns))

    async def archive_get(self, c: str, path: str) -> AsyncGenerator[bytes, None]:
        pod, container = self.supervisor.find(c)
        archive.check(pod, container)
        pod.emit("archive-path", container)
        return archive.read(pod, container, path)

    async def archive_put(self, c: str, path: str, chunks: AsyncIterator[bytes], *, as_user: bool = False) -> None:
        pod, container = self.supervisor.find(c)
        archive.check(pod, container)
        await archive.write(pod, container, path, chunks, as_user=as_user)
        pod.emit("extract-to-dir", container)

    # its image, and what it has made of that

    async def commit(self, c: str, wanted: Commit) -> doc.ImageRef:
        pod, container = self.supervisor.find(c)
        return await commit.commit(self.host, pod, container, wanted)

    async def changes(self, c: str) -> Sequence[doc.Change]:
        pod, container = self.supervisor.find(c)
        archive.check(pod, container, "list the changes of")
        found = await archive.changes(pod, container)
        return [doc.Change(path=change.path, kind=commit.KINDS[change.kind]) for change in found]

    async def export(self, c: str) -> AsyncGenerator[bytes, None]:
        pod, container = self.supervisor.find(c)
        archive.check(pod, container, "export")
        pod.emit("export", container)
        return archive.tree(pod, container)
