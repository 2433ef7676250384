"""Whose processes, memory and queues a container shares: judged when it is made, and again when it starts. Pure."""

from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from hypercontainer.engine.store import PodIndex
from hypercontainer.errors import InvalidInput
from hypercontainer.model import defaults
from hypercontainer.model.container import Mount
from hypercontainer.model.record import ContainerRecord, PodRecord
from hypercontainer.model.spec import CONTAINER, ContainerSpec

IPC = ("", "private", "shareable", "none")  # and that of another one
SYSCTLS = ("kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue.")  # which are an IPC namespace's


def other(mode: str) -> str:
    """Whose namespace `mode` is for; "": nobody else's."""
    return mode.removeprefix(CONTAINER) if mode.startswith(CONTAINER) else ""


def resolved(index: PodIndex, pod: PodRecord, spec: ContainerSpec) -> ContainerSpec:
    """`spec` for a container of `pod`, with ids in the place of names. InvalidInput for modes that there are not, and
    for containers in other machines; NotFound."""
    if spec.pid and not other(spec.pid):
        raise InvalidInput(f"invalid PID mode: {spec.pid[:80]}")
    if spec.ipc not in IPC and not other(spec.ipc):
        raise InvalidInput(f"invalid IPC mode: {spec.ipc[:80]}")
    pid, ipc = (_of_this_pod(index, pod, what, mode) for what, mode in (("processes", spec.pid), ("IPC", spec.ipc)))
    return replace(spec, pid=pid, ipc=ipc)


def _of_this_pod(index: PodIndex, pod: PodRecord, what: str, mode: str) -> str:
    if not (name := other(mode)):
        return mode
    there, found = index.find_container(name)
    if there.id != pod.id:
        how = f"--network container:{found.name}" if there.implicit else f"--pod {there.name}"
        raise InvalidInput(
            f"cannot share the {what} of {found.name}: it is in another virtual machine, and what runs in one has its "
            f"network too; say {how} as well"
        )
    return f"{CONTAINER}{found.id}"


def own_ipc(pod: PodRecord, spec: ContainerSpec, *, joined: str) -> bool:
    """See ContainerConfig. The first of a pod of its own needs none: it has that of the machine, and those who join it
    have not. Containers of a pod that somebody made share that one, but for those who say otherwise."""
    own = not other(spec.ipc) and bool(joined or (spec.ipc and not pod.implicit))
    if own or other(spec.ipc):
        check_sysctls(spec.sysctls)
    return own


def check_sysctls(names: Iterable[str]) -> None:
    """InvalidInput for those of IPC, in a container whose namespace is not the machine's."""
    for name in names:
        if name.replace("/", ".").startswith(SYSCTLS):
            words = f"cannot set sysctl {name[:80]}: of a virtual machine only the first container can; set it there"
            raise InvalidInput(words)


def mounts(spec: ContainerSpec, usual: Sequence[Mount]) -> Iterator[Mount]:
    """The `usual` ones, with the /dev/shm that is asked for."""
    of = other(spec.ipc)
    for mount in usual:
        if mount.destination != defaults.SHM:
            yield mount
        elif of:
            yield Mount(type="container", destination=defaults.SHM, source=of)
        elif spec.ipc != "none":
            yield mount


def is_shareable(container: ContainerRecord) -> bool:
    """Others may have its memory and queues: it says so, or has those of one that does."""
    return container.spec.ipc == "shareable" or bool(other(container.spec.ipc))
