"""New containers that go on where another one was: forks, and checkpoints that are restored as a container of their
own. Until it runs a copy is marked as one that is being made, and whoever finds it then removes it."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from hypercontainer.engine import saved, snapshot
from hypercontainer.engine.container import Container
from hypercontainer.engine.host import Host
from hypercontainer.engine.machine import Origin
from hypercontainer.engine.pod import Pod
from hypercontainer.lib import clock
from hypercontainer.lib.together import in_thread, to_its_end, together
from hypercontainer.lib.trace import Trace
from hypercontainer.model import ids
from hypercontainer.model.record import VERSION, ContainerRecord, NicRecord, PodRecord, Streams
from hypercontainer.model.spec import PortMapping
from hypercontainer.storage import scratch


def new(host: Host, pods: dict[str, Pod], source: PodRecord, name: str, ports: Sequence[PortMapping]) -> Pod:
    """A pod like `source` under other ids, and with its own `ports` published; nothing runs."""
    return _pod(host, pods, source, name=name, pod_id=ids.new_pod_id(), id=ids.new_id(), ports=list(ports))


def again(host: Host, pods: dict[str, Pod], source: PodRecord) -> Pod:
    """The pod `source`, which was removed, under its own ids."""
    container = source.containers[0]
    ports = source.spec.ports
    return _pod(host, pods, source, name=container.name, pod_id=source.id, id=container.id, ports=ports)


def unfixed(source: PodRecord) -> list[PortMapping]:
    """The ports of `source` that are published wherever there is room; the others are taken, by itself."""
    return [port for port in source.spec.ports if not port.host_port]


def _pod(
    host: Host,
    pods: dict[str, Pod],
    source: PodRecord,
    *,
    name: str,
    pod_id: str,
    id: str,
    ports: list[PortMapping],
) -> Pod:
    record = PodRecord(
        version=VERSION,
        id=pod_id,
        name=name,
        spec=msgspec.structs.replace(source.spec, name=name, ports=ports),
        implicit=True,
        created_ns=clock.now_ns(),
        making=True,
    )
    old = msgspec.convert(msgspec.to_builtins(source.containers[0]), ContainerRecord)  # shares nothing with it
    container = msgspec.structs.replace(
        old,
        id=id,
        name=name,
        created_ns=record.created_ns,
        state="created",
        started_ns=0,
        finished_ns=0,
        exit_code=0,
        error="",
        restart_count=0,
        runs=0,
        streams=Streams(),
    )
    pod = Pod(host, record, pods.pop)
    pod.add(container)
    host.pods.begin(record, container)
    host.index.pods[record.id] = record
    pods[record.id] = pod
    return pod


def only(pod: Pod) -> Container:
    return next(iter(pod.containers.values()))


def disk(pod: Pod) -> Path:
    """Of its container's writable layer."""
    upper = only(pod).record.upper
    assert upper  # noqa: S101  its pod made it
    return Path(upper.path)


async def discard(host: Host, pods: dict[str, Pod], pod: Pod) -> None:
    """Remove one that did not come to run."""
    async with pod.lock:
        if pod.removed:
            return
        for container in pod.containers.values():
            container.output.cut()
            container.output.log.close()
        await pod.machine.release()
        pod.removed = True
        host.index.pods.pop(pod.record.id, None)
        pods.pop(pod.record.id, None)
        host.pods.remove(pod.record.id)


async def wake(pod: Pod, origin: Origin, trace: Trace, *, nic: NicRecord | None = None) -> None:
    """Have a copy whose disk is there go on from `origin`, still frozen; with the addresses `nic` if they are free."""
    container = only(pod)
    async with pod.lock:
        prepare(container, origin)
        if nic and nic.address not in {p.nic.address for p in pod.host.index.pods.values() if p.nic}:
            pod.record.nic = nic
        await snapshot.wake(pod, container, origin, trace)


def prepare(container: Container, origin: Origin) -> None:
    """A new run of it begins where the streams were at the snapshot."""
    record = container.record
    record.runs += 1
    record.started_ns = clock.now_ns()
    container.output.log.begin(record.runs, origin.moment.offsets)


async def rise(pods: Sequence[Pod], origin: Origin, trace: Trace, *, nic: NicRecord | None = None) -> None:
    """All of them, or an error."""
    await together(*(wake(pod, origin, trace, nic=nic) for pod in pods))
    await together(*(_thaw(pod, trace) for pod in pods))
    for pod in pods:
        pod.emit_pod("create")
        pod.emit(only(pod), "create")
        pod.emit_pod("start")
        pod.emit(only(pod), "start")


async def _thaw(pod: Pod, trace: Trace) -> None:
    async with pod.lock:
        await snapshot.thaw(pod, only(pod), trace)


async def fork(
    host: Host, pods: dict[str, Pod], source: Pod, names: Sequence[str], ports: Sequence[PortMapping], trace: Trace
) -> list[Pod]:
    """Copies of a running container, which goes on as soon as its state has been taken. All of them, or none."""
    snapshot.check(source, only(source), "fork")
    kept = saved.Loaded()
    async with AsyncExitStack() as undo:
        undo.callback(kept.close)
        copies = []
        async with AsyncExitStack() as making:
            for name in names:
                copy = new(host, pods, source.record, name, ports)
                copies.append(copy)
                making.push_async_callback(discard, host, pods, copy)
            origin = await _taken(source, kept, disk(copies[0]), trace)
            with trace.step("disks"):
                await in_thread(_copy_disks, disk(copies[0]), [disk(copy) for copy in copies[1:]])
            await rise(copies, origin, trace)
            making.pop_all()
    return copies


def _copy_disks(first: Path, others: Sequence[Path]) -> None:
    for path in others:
        scratch.copy(first, path)


async def _taken(source: Pod, kept: saved.Loaded, path: Path, trace: Trace) -> Origin:
    container = only(source)
    async with source.lock:
        snapshot.check(source, container, "fork")
        moment = await snapshot.take(
            source, container, kept.memory.fileno(), kept.state.fileno(), path, trace
        )  # fmt: skip
        await to_its_end(snapshot.go_on(source, container))
    return Origin(snapshot=kept.seal(), moment=moment)
