"""Mounts and devices of a container: of folders, files and sockets of this host. Pure."""

from collections.abc import Iterable

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.model.kube import KubeDevice, KubeMount
from hypercontainer.model.spec import Mount


def wanted(mounts: Iterable[pb.Mount]) -> list[Mount]:
    """InvalidInput for what is not there."""
    return [_mount(mount) for mount in mounts]


def _mount(mount: pb.Mount) -> Mount:
    place = mount.container_path[:200]
    if mount.image.image:
        raise InvalidInput(f"cannot mount image {mount.image.image[:200]!r} at {place}: it is not there yet")
    if mount.propagation != pb.PROPAGATION_PRIVATE:
        words = "what is mounted on one side later is not seen on the other one"
        raise InvalidInput(f"cannot have mount propagation at {place}: {words}")
    if mount.recursive_read_only and not mount.readonly:  # what is read-only is so with all that is mounted below it
        raise InvalidInput(f"cannot mount {place} recursively read-only: it is not read-only")
    if mount.uidMappings or mount.gidMappings:
        raise InvalidInput(f"cannot map the ids of {place}: it is not there yet")
    return Mount(
        type="bind",
        source=mount.host_path,
        target=mount.container_path,
        read_only=mount.readonly,
        create=True,  # as other runtimes do
    )


def devices(asked: Iterable[pb.Device]) -> list[KubeDevice]:
    """Who may not write gets one that nobody can write to."""
    return [
        KubeDevice(path=each.host_path, target=each.container_path, read_only="w" not in (each.permissions or "rwm"))
        for each in asked
    ]


def told(mounts: Iterable[KubeMount]) -> list[pb.Mount]:
    return [pb.Mount(container_path=mount.target, host_path=mount.source, readonly=mount.read_only) for mount in mounts]
