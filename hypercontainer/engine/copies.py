"""New containers that go on where another one was: forks, and checkpoints that are restored as a container of their
own. Until it runs a copy is marked as one that is being made, and whoever finds it then removes it."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from hypercontainer.engine.supervisor import Supervisor
from hypercontainer.lib import clock
from hypercontainer.lib.together import in_thread, to_its_end, together
from hypercontainer.lib.trace import Trace
from hypercontainer.model import ids
from hypercontainer.model.record import VERSION, ContainerRecord, Moment, NicRecord, PodRecord, Streams
from hypercontainer.model.spec import PortMapping
from hypercontainer.sandbox import saved, snapshot
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.locked import LockedPod
from hypercontainer.sandbox.machine import Origin
from hypercontainer.sandbox.pod import Pod
from hypercontainer.storage import scratch


def new(supervisor: Supervisor, source: PodRecord, name: str, ports: Sequence[PortMapping]) -> Pod:
    """A pod like `source` under other ids, and with its own `ports` published; nothing runs."""
    return _pod(supervisor, source, name=name, pod_id=ids.new_pod_id(), id=ids.new_id(), ports=list(ports))


def again(supervisor: Supervisor, source: PodRecord) -> Pod:
    """The pod `source`, which was removed, under its own ids."""
    container = source.containers[0]
    ports = source.spec.ports
    return _pod(supervisor, source, name=container.name, pod_id=source.id, id=container.id, ports=ports)


def unfixed(source: PodRecord) -> list[PortMapping]:
    """The ports of `source` that are published wherever there is room; the others are taken, by itself."""
    return [port for port in source.spec.ports if not port.host_port]


def _pod(
    supervisor: Supervisor,
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
    images, pod = supervisor.host.images, supervisor.pod(record)
    pod.add(container, images.rootfs(images.get(container.image_id)))
    supervisor.host.pods.create(record, durable=False)
    supervisor.add(pod)
    return pod


def only(pod: Pod | LockedPod) -> Container:
    return next(iter(pod.containers.values()))


def disk(pod: Pod | LockedPod) -> Path:
    """Of its container's writable layer."""
    upper = only(pod).record.upper
    assert upper  # noqa: S101  its pod made it
    return Path(upper.path)


async def discard(supervisor: Supervisor, pod: Pod) -> None:
    """Remove one that did not come to run."""
    async with pod.locked() as locked:
        if pod.removed:
            return
        for container in pod.containers.values():
            container.output.cut()
            container.output.log.close()
        await supervisor.discard(locked)


async def wake(pod: Pod, origin: Origin, trace: Trace, *, nic: NicRecord | None = None) -> None:
    """Have a copy whose disk is there go on from `origin`, still frozen; with the addresses `nic`."""
    async with pod.locked() as locked:
        pod.record.nic = nic
        await snapshot.wake(locked, only(pod), origin, trace, new_run=True)


async def rise(pods: Sequence[Pod], trace: Trace) -> None:
    """Let those that were woken run: all of them, or an error."""
    await together(*(_thaw(pod, trace) for pod in pods))
    for pod in pods:
        for action in ("create", "start"):
            pod.emit(action)
            pod.emit(action, only(pod))


async def _thaw(pod: Pod, trace: Trace) -> None:
    async with pod.locked() as locked:
        await snapshot.thaw(locked, only(pod), trace)


async def fork(
    supervisor: Supervisor, source: Pod, names: Sequence[str], ports: Sequence[PortMapping], trace: Trace
) -> list[Pod]:
    """Copies of a running container, which goes on as soon as its state has been taken. All of them, or none."""
    snapshot.check(source, only(source), "fork")
    kept, copies = saved.Loaded(), []
    async with AsyncExitStack() as undo:
        undo.callback(kept.close)
        async with AsyncExitStack() as making:
            for name in names:
                copies.append(copy := new(supervisor, source.record, name, ports))
                making.push_async_callback(discard, supervisor, copy)
                scratch.blank(disk(source), disk(copy))
            await _fork(source, kept, copies, trace)
            await rise(copies, trace)
            making.pop_all()
    return copies


async def _fork(source: Pod, kept: saved.Loaded, copies: Sequence[Pod], trace: Trace) -> None:
    """Have `copies`, whose disks are blank, go on from the source. Their VMMs start while it is being copied."""
    complete = asyncio.Event()
    async with source.locked() as locked:
        snapshot.check(source, only(source), "fork")
        moment = await snapshot.plan(locked, only(source))
        os.truncate(kept.memory.fileno(), moment.memory_mib << 20)
        origin = Origin(snapshot=kept.snapshot(complete.wait), moment=moment)
        waking = asyncio.create_task(together(*(wake(copy, origin, trace) for copy in copies)), name="fork")
        try:
            await _take(locked, kept, moment, disk(copies[0]), trace)
        except BaseException:
            await _give_up(waking)
            raise
    try:
        kept.seal()
        with trace.step("disks"):
            await in_thread(_copy_disks, disk(copies[0]), [disk(copy) for copy in copies[1:]])
        complete.set()
        await waking
    except BaseException:
        await _give_up(waking)
        raise


async def _give_up(waking: "asyncio.Task[None]") -> None:
    waking.cancel()
    await asyncio.gather(waking, return_exceptions=True)


async def _take(source: LockedPod, kept: saved.Loaded, moment: Moment, first: Path, trace: Trace) -> None:
    """Fill what is kept and the first disk, and say in `moment` where the streams were."""
    files, container = (kept.memory.fileno(), kept.state.fileno()), only(source)
    taken = await snapshot.take(source, container, *files, lambda path: scratch.fill(first, path), trace)
    await to_its_end(snapshot.go_on(source, container))
    moment.offsets, moment.time_ns = taken.offsets, taken.time_ns


def _copy_disks(first: Path, others: Sequence[Path]) -> None:
    for path in others:
        scratch.fill(path, first)
