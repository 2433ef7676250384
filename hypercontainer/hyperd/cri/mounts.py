"""Mounts and devices of a container: of folders, files and sockets of this host. Pure."""

from collections.abc import Iterable, Mapping

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri import users
from hypercontainer.model.container import Below
from hypercontainer.model.kube import KubeDevice, KubeImage, KubeMount
from hypercontainer.model.spec import Mount


def wanted(mounts: Iterable[pb.Mount]) -> list[Mount]:
    """InvalidInput for what is not there."""
    return [_mount(mount) for mount in mounts if not mount.image.image]


def images(mounts: Iterable[pb.Mount]) -> list[KubeImage]:
    """InvalidInput, also for one that is not said to be read-only: nobody can write to an image."""
    found = [mount for mount in mounts if mount.image.image]
    for mount in found:
        if not mount.readonly:
            words = "it can only be read: mount it with readonly"
            raise InvalidInput(
                f"cannot mount image {mount.image.image[:200]!r} at {mount.container_path[:200]}: {words}"
            )
        if mount.host_path or mount.propagation != pb.PROPAGATION_PRIVATE:
            words = "it has no path of this host, and no propagation"
            raise InvalidInput(f"cannot mount image {mount.image.image[:200]!r}: {words}")
    return [
        KubeImage(image=mount.image.image, target=mount.container_path, subpath=mount.image_sub_path) for mount in found
    ]


def _mount(mount: pb.Mount) -> Mount:
    place = mount.container_path[:200]
    if mount.propagation == pb.PROPAGATION_BIDIRECTIONAL:
        words = "what a virtual machine mounts is its own, and never this host's: HostToContainer is there"
        raise InvalidInput(f"cannot have mount propagation Bidirectional at {place}: {words}")
    if mount.recursive_read_only and not mount.readonly:
        raise InvalidInput(f"cannot mount {place} recursively read-only: it is not read-only")
    if mount.recursive_read_only and mount.propagation != pb.PROPAGATION_PRIVATE:
        words = "what this host mounts there later is as that says: have its propagation be None"
        raise InvalidInput(f"cannot mount {place} recursively read-only: {words}")
    return Mount(
        type="bind",
        source=mount.host_path,
        target=mount.container_path,
        read_only=mount.readonly,
        create=True,  # as other runtimes do
    )


def below(mounts: Iterable[pb.Mount]) -> Mapping[str, Below]:
    """What is with that which is mounted below them, by their places; of others nothing is said."""
    found: dict[str, Below] = {}
    for mount in mounts:
        if mount.propagation == pb.PROPAGATION_HOST_TO_CONTAINER:
            found[mount.container_path] = "followed"
        elif mount.readonly and not mount.recursive_read_only:
            found[mount.container_path] = "own"
    return found


def devices(asked: Iterable[pb.Device]) -> list[KubeDevice]:
    """Who may not write gets one that nobody can write to."""
    return [
        KubeDevice(path=each.host_path, target=each.container_path, read_only="w" not in (each.permissions or "rwm"))
        for each in asked
    ]


def told(mounts: Iterable[KubeMount]) -> list[pb.Mount]:
    return [
        pb.Mount(
            container_path=mount.target,
            host_path=mount.source,
            readonly=mount.read_only,
            recursive_read_only=mount.read_only and mount.below == "same" and not mount.image,
            propagation=pb.PROPAGATION_HOST_TO_CONTAINER if mount.below == "followed" else pb.PROPAGATION_PRIVATE,
            image=pb.ImageSpec(image=mount.image, image_ref=mount.image_id) if mount.image else None,
            image_sub_path=mount.subpath,
            uidMappings=users.mappings(mount.ids.uids) if mount.ids else [],
            gidMappings=users.mappings(mount.ids.gids) if mount.ids else [],
        )
        for mount in mounts
    ]
