"""New containers that go on where another one was: forks, and checkpoints that are restored as a container of their
own. Until it runs a copy is provisional, and whoever finds it then removes it."""

from collections.abc import Sequence
from contextlib import AsyncExitStack

import msgspec

from hypercontainer.engine.supervisor import Supervisor
from hypercontainer.lib import clock
from hypercontainer.lib.trace import Trace
from hypercontainer.model import ids
from hypercontainer.model.record import VERSION, ContainerRecord, LogSinkRecord, PodRecord, Streams
from hypercontainer.model.spec import EndpointSpec, PodSpec, PortMapping
from hypercontainer.sandbox import rootfs
from hypercontainer.sandbox.pod import Pod
from hypercontainer.sandbox.snapshot import fork as forks
from hypercontainer.sandbox.snapshot.fork import only


def new(supervisor: Supervisor, source: PodRecord, name: str, ports: Sequence[PortMapping]) -> Pod:
    """A pod like `source` under other ids, and with its own `ports` published; nothing runs."""
    spec = msgspec.structs.replace(source.spec, ports=list(ports), networks=_free_addresses(source))
    return _pod(supervisor, source, spec, name=name, pod_id=ids.new_pod_id(), id=ids.new_id())


def same(supervisor: Supervisor, source: PodRecord) -> Pod:
    """The pod `source`, which was removed, under its own ids."""
    container = source.containers[0]
    return _pod(supervisor, source, source.spec, name=container.name, pod_id=source.id, id=container.id)


def free_ports(source: PodRecord) -> list[PortMapping]:
    """The ports of `source` that are published wherever there is room; the others are taken, by itself."""
    return [port for port in source.spec.ports if not port.host_port]


def _free_addresses(source: PodRecord) -> list[EndpointSpec]:
    """The networks of `source`, without the addresses there that it asked for: it has them itself."""
    return [msgspec.structs.replace(each, address="", address6="", mac="") for each in source.spec.networks]


def _pod(supervisor: Supervisor, source: PodRecord, spec: PodSpec, *, name: str, pod_id: str, id: str) -> Pod:
    record = PodRecord(
        version=VERSION,
        id=pod_id,
        name=name,
        spec=msgspec.structs.replace(spec, name=name),
        implicit=True,
        created_ns=clock.now_ns(),
        arch=source.arch,
        provisional=True,
    )
    images = supervisor.host.images
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
        health=None,
        joined="",
        streams=Streams(),
        sinks=[sink for sink in old.sinks if isinstance(sink, LogSinkRecord)],  # the others are its caller's
        rootfs=rootfs.image(images.rootfs(images.get(old.image_id))),
    )
    pod = supervisor.pod(record)
    pod.add(container)
    supervisor.host.pods.create(record, durable=False)
    supervisor.add(pod)
    return pod


async def discard(supervisor: Supervisor, pod: Pod) -> None:
    """Remove one that did not come to run."""
    async with pod.locked() as locked:
        if pod.removed:
            return
        for container in pod.containers.values():
            container.output.cut()
            container.output.close()
        await supervisor.discard(locked)


def announce(pod: Pod) -> None:
    """Tell of a copy that runs."""
    for action in ("create", "start"):
        pod.emit(action)
        pod.emit(action, only(pod))


async def fork(
    supervisor: Supervisor, source: Pod, names: Sequence[str], ports: Sequence[PortMapping], trace: Trace
) -> list[Pod]:
    """Copies of a running container, which goes on as soon as its state has been taken. All of them, or none."""
    copies: list[Pod] = []
    async with AsyncExitStack() as undo:
        for name in names:
            copies.append(copy := new(supervisor, source.record, name, ports))
            undo.push_async_callback(discard, supervisor, copy)
        await forks.fork(source, copies, trace)
        undo.pop_all()
    for copy in copies:
        announce(copy)
    return copies
