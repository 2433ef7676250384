"""New pods and containers: what was asked for becomes a record and a place, and nothing boots."""

import msgspec

from hypercontainer.engine import endpoints, links, mounts, namespaces, resolve
from hypercontainer.engine.host import Host
from hypercontainer.engine.supervisor import Supervisor
from hypercontainer.errors import InvalidInput
from hypercontainer.images.index import Image
from hypercontainer.model import arch, ids
from hypercontainer.model.record import ContainerRecord, PodRecord
from hypercontainer.model.spec import ContainerSpec, Mount, PodSpec
from hypercontainer.sandbox import rootfs
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.pod import Pod


async def pod(supervisor: Supervisor, spec: PodSpec, name: str, *, implicit: bool) -> Pod:
    """A pod of this name with the containers of `spec`. On failure nothing of it is left."""
    host = supervisor.host
    await host.site.hypervisor.version()  # Unavailable is told now, and not by the start
    host.index.check_pod_name(name)
    host.check_factory(spec.factory)
    spec = links.resolved(host.index, endpoints.resolved(host.networks, _with_exposed(host, spec)))
    endpoints.check_ports(host.networks, spec)
    record = resolve.pod(spec, name=name, implicit=implicit, arch=_arch(host, spec))
    made = supervisor.pod(record)
    names: set[str] = set()
    for n, wanted in enumerate(spec.containers):
        given = wanted.name or (name if implicit else f"{name}-{n}")
        if given in names:
            raise InvalidInput(f"two containers of the pod are called {given!r}")
        names.add(given)
        _resolve(supervisor, made, wanted, given)
    try:
        host.pods.create(record)
    except BaseException:
        for each in made.containers.values():
            await supervisor.remove_anonymous(each.record)
        raise
    supervisor.add(made)
    made.emit("create")
    for each in made.containers.values():
        made.emit("create", each)
    return made


def _arch(host: Host, spec: PodSpec) -> str:
    """Of the machine of a new pod: that of the image of its first container, or this host's. What it would lack here is
    told now: Unavailable, NotFound."""
    if not spec.containers:
        return arch.host().name
    first = spec.containers[0]
    here = arch.of_image(host.images.get(first.image, first.platform).record.architecture).name
    host.check_arch(here)
    return here


def check_arch(pod: PodRecord, image: Image, name: str) -> None:
    """InvalidInput when the pod's machine runs no such image."""
    if arch.of_image(image.record.architecture).name != pod.arch:
        words = f"the image is for {image.record.platform}, and the pod's virtual machine of {pod.arch}"
        raise InvalidInput(f"cannot run {name} in pod {pod.name}: {words}")


def step(supervisor: Supervisor, spec: PodSpec, *, volumes: bool) -> Pod:
    """A pod for steps of a build, with the one container in `spec` for the first; without `volumes` nothing lies over
    the image's files where it names volumes. It is provisional: after a kill of ours nothing is left of it."""
    host = supervisor.host
    name = host.index.invent_name()
    spec = endpoints.resolved(host.networks, spec)
    record = resolve.pod(spec, name=name, implicit=True, arch=_arch(host, spec))
    record.provisional = True
    made = supervisor.pod(record)
    made.step = True
    container = made.add(_record(supervisor, made, spec.containers[0], name, volumes=volumes))
    host.pods.create(record, durable=False)
    supervisor.add(made)
    made.emit("create", container)
    return made


async def next_step(supervisor: Supervisor, pod: Pod, old: Container, spec: ContainerSpec) -> Container:
    """A container for the next step of a build, which goes on from what `old` has left, and takes its place."""
    record = _record(supervisor, pod, spec, supervisor.host.index.invent_name(), volumes=False)
    async with pod.locked() as locked:
        made = await locked.go_on(old, record)
    pod.emit("destroy", old)
    pod.emit("create", made)
    return made


def _with_exposed(host: Host, spec: PodSpec) -> PodSpec:
    """With the ports to publish that `publish_exposed` means."""
    if not spec.publish_exposed:
        return spec
    published = {f"{port.container_port}/{port.protocol}" for port in spec.ports}
    ports = list(spec.ports)
    for wanted in spec.containers:
        image = host.images.config(host.images.get(wanted.image, wanted.platform))
        for port in resolve.exposed(image.exposed_ports, wanted.expose):
            if port not in published:
                published.add(port)
                ports.append(resolve.port(port))
    return msgspec.structs.replace(spec, ports=ports)


async def joining(supervisor: Supervisor, spec: PodSpec, name: str, other: str) -> tuple[Pod, Container]:
    """The container of `spec`, with this name, in the pod of `other`, whose network it shares. On failure nothing of it
    is left. NotFound; WrongState where that one sleeps."""
    [wanted] = spec.containers
    supervisor.host.index.check_pod_name(name)  # which it is when all others have gone
    pod, there = supervisor.find(other)
    async with pod.locked():
        pod.check(there, "join the network of")
        own = msgspec.structs.replace(
            wanted, name=name, cpus=wanted.cpus or spec.vcpus, memory_mib=wanted.memory_mib or spec.memory_mib
        )
        made = await container(supervisor, pod, own, joined=there.record.id)
    pod.emit("create", made)
    return pod, made


async def container(supervisor: Supervisor, pod: Pod, spec: ContainerSpec, *, joined: str = "") -> Container:
    """One more container of a pod whose lock is held; `joined`: see ContainerRecord. On failure nothing of it is
    left."""
    host = supervisor.host
    made = _resolve(supervisor, pod, spec, spec.name or host.index.invent_name(), joined=joined)
    try:
        host.pods.add_container(pod.record.id, made.record)
        pod.machine.save()
    except BaseException:
        pod.drop(made)
        host.pods.remove_container(pod.record.id, made.record.id)
        await supervisor.remove_anonymous(made.record)
        raise
    return made


def _resolve(supervisor: Supervisor, pod: Pod, spec: ContainerSpec, name: str, *, joined: str = "") -> Container:
    return pod.add(_record(supervisor, pod, spec, name, joined=joined))


def _record(
    supervisor: Supervisor, pod: Pod, spec: ContainerSpec, name: str, *, volumes: bool = True, joined: str = ""
) -> ContainerRecord:
    """Of a container to be, its new volumes made. Without `volumes` it has not those that the image names."""
    host = supervisor.host
    ids.check_name("container", name)
    host.index.check_container_name(name)
    spec = namespaces.resolved(host.index, pod.record, spec)
    own_ipc = namespaces.own_ipc(pod.record, spec, joined=joined)
    image = host.images.get(spec.image, spec.platform)
    check_arch(pod.record, image, spec.image)
    root = rootfs.image(host.images.rootfs(image))
    others = _of_others(supervisor, spec.volumes_from)
    config = host.images.config(image)
    if not volumes:
        config = msgspec.structs.replace(config, volumes={})
    record = resolve.container(
        spec, image.id, config, root, name=name, others=others, own_ipc=own_ipc, joined=joined, arch=pod.record.arch
    )
    pod.check_supported(record)
    make_volumes(host, record)
    supervisor.place(record)
    return record


def make_volumes(host: Host, record: ContainerRecord) -> None:
    """Those that it mounts and that are not there yet."""
    for mount in record.mounts:
        if mount.type == "volume":
            volume = host.volumes.create(mount.source)
            mount.source = volume.name
            mount.populate = mount.populate and not volume.volatile  # as docker, whose copy is gone when it starts


def _of_others(supervisor: Supervisor, named: list[str]) -> list[Mount]:
    """What the containers that volumes_from names have, the first one's first."""
    found: list[Mount] = []
    for words in named:
        name, _, mode = words.partition(":")
        if mode not in ("", "rw", "ro", "z", "Z"):
            raise InvalidInput(f"invalid mode {mode[:40]!r} of the volumes of {name[:64]!r}: use ro or rw")
        found += mounts.of_another(supervisor.find(name)[1].record.mounts, read_only=mode == "ro")
    return found


def warnings(host: Host, pod: Pod, *made: Container) -> list[str]:
    """What will not be as somebody may expect of these containers, and of what the pod shares."""
    said = mounts.without_locks(pod.record, host.index.pods.values(), host.settings)
    for each in made:
        image = host.images.get(each.record.image_id)
        said += resolve.warnings(each.record.spec, host.images.config(image))
    return said
