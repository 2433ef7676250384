"""In whose machine, and in whose namespaces there, a container of another engine is to be: that engine names namespaces
of this host, which are those of processes that stand for containers."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec.structs import replace

from hypercontainer.engine import namespaces
from hypercontainer.errors import InvalidInput
from hypercontainer.model import defaults
from hypercontainer.model.bundle import Bundle
from hypercontainer.model.container import ContainerConfig, Mount
from hypercontainer.model.record import ContainerRecord, PodRecord

OF_PROCESS = re.compile(r"/proc/([0-9]{1,10})/ns/(net|pid|ipc|uts)")


def sharing(pods: Sequence[PodRecord], held: Callable[[str], Path], wanted: Bundle) -> PodRecord | None:
    """The pod whose network namespace `wanted` has: two machines cannot have one. `held`: where that of a pod is while
    its machine runs, by its id. InvalidInput where that is not the one which its engine calls its pod's."""
    inode = _inode(Path(wanted.netns))
    found = next((pod for pod in pods if inode and _inode(held(pod.id)) == inode), None)
    if wanted.sandbox and not (found and any(each.name == wanted.sandbox for each in found.containers)):
        why = "that has ended, or is in another network namespace"
        raise InvalidInput(f"cannot create the container in the pod of {wanted.sandbox[:80]}: {why}")
    return found


def joined(pods: Sequence[PodRecord], pod: PodRecord | None, wanted: Bundle) -> ContainerConfig:
    """What runs of `wanted`, in `pod` or in one of its own, in the namespaces that its engine names. InvalidInput for
    those that are not in that machine, and for settings of one that it shares."""
    of = {kind: _whose(pods, pod, wanted, kind) for kind in wanted.namespaces}
    config = replace(wanted.config, hostname="") if "uts" in of else wanted.config
    if pod is None:
        return config
    namespaces.check_sysctls(config.sysctl)
    if "ipc" in of:
        other = of["ipc"] or pod.containers[0]
        config = replace(config, mounts=[_shared(mount, other) for mount in config.mounts])
    ids = {kind: each.id for kind, each in of.items() if each}
    return replace(config, pid_of=ids.get("pid", ""), ipc_of=ids.get("ipc", ""), own_ipc="ipc" not in of)


def _whose(pods: Sequence[PodRecord], pod: PodRecord | None, wanted: Bundle, kind: str) -> ContainerRecord | None:
    """The container of `pod` whose namespace it is; None: all of the pod have it."""
    path = wanted.namespaces[kind]
    process = OF_PROCESS.fullmatch(path)
    if not process and wanted.pinned and kind != "pid":
        return None
    for each in pods if process else ():
        for container in each.containers:
            if process and container.stand_in and container.stand_in.process.pid == int(process[1]):
                if each is pod:
                    return container
                raise _refused(kind, path, "it is in another machine: give it that one's network namespace as well")
    raise _refused(kind, path, "it is not in the machine")


def _refused(kind: str, path: str, why: str) -> InvalidInput:
    what = f"linux.namespaces: a {kind} namespace of this host, {path[:80]}"
    return InvalidInput(f"cannot create the container with {what}: {why}")


def _shared(mount: Mount, other: ContainerRecord) -> Mount:
    """An engine binds the same /dev/shm for all who share it."""
    there = any(each.destination == defaults.SHM for each in other.config.mounts)
    if mount.destination != defaults.SHM or mount.type != "tmpfs" or not there:
        return mount
    return Mount(type="container", destination=defaults.SHM, source=other.id)


def _inode(path: Path) -> int:
    """Tells a namespace from others; 0: there is none at that path."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0
