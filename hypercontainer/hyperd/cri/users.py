"""User namespaces of pods, and whose files on a mount are whose. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.model.container import IdMap, IdRange, Users

NO_ID = 2**32 - 1  # of nobody, as the kernel has it


def wanted(options: pb.NamespaceOption) -> Users | None:
    """Of a pod; None: it has the machine's. InvalidInput."""
    said = options.userns_options
    if not options.HasField("userns_options") or said.mode == pb.NODE:
        if said.uids or said.gids:
            raise InvalidInput("cannot map ids of a pod that has no user namespace of its own")
        return None
    if said.mode != pb.POD:
        name = pb.NamespaceMode.Name(said.mode)
        raise InvalidInput(
            f"cannot have a user namespace of mode {name}: it is the pod's (POD), or the machine's (NODE)"
        )
    return Users(uids=[_only("uids", said.uids)], gids=[_only("gids", said.gids)])


def check(options: pb.NamespaceOption, pod: Users | None) -> None:
    """InvalidInput for a container in another user namespace than its pod. Who says nothing is in that."""
    if options.HasField("userns_options") and wanted(options) != pod:
        raise InvalidInput("cannot have a container in another user namespace than its pod: all of a pod share one")


def ids(mounts: Iterable[pb.Mount]) -> Mapping[str, IdMap]:
    """By the targets of those whose files belong to others inside. InvalidInput."""
    return {each.container_path: _ids(each) for each in mounts if each.uidMappings or each.gidMappings}


def _ids(mount: pb.Mount) -> IdMap:
    what = f"the ids of {mount.container_path[:200]}"
    if mount.image.image:
        raise InvalidInput(f"cannot map {what}: those of an image are the pod's")
    if not (mount.uidMappings and mount.gidMappings):
        raise InvalidInput(f"cannot map {what}: both uidMappings and gidMappings are needed")
    return IdMap(uids=_ranges(what, mount.uidMappings), gids=_ranges(what, mount.gidMappings))


def _only(what: str, found: Sequence[pb.IDMapping]) -> IdRange:
    if len(found) != 1:
        raise InvalidInput(f"cannot map {what} of a user namespace by {len(found)} ranges: there has to be one")
    if found[0].container_id:
        raise InvalidInput(f"cannot map {what} of a user namespace from {found[0].container_id} on: 0 has to be mapped")
    return _ranges(f"{what} of a user namespace", found)[0]


def _ranges(what: str, found: Sequence[pb.IDMapping]) -> list[IdRange]:
    for each in found:
        if each.length < 1 or max(each.container_id, each.host_id) + each.length > NO_ID:
            raise InvalidInput(f"cannot map {what}: there are no {each.length} ids from {each.host_id} on")
    return [IdRange(inside=each.container_id, outside=each.host_id, size=each.length) for each in found]


def told(found: Users | None) -> pb.UserNamespace:
    if found is None:
        return pb.UserNamespace(mode=pb.NODE)
    return pb.UserNamespace(mode=pb.POD, uids=mappings(found.uids), gids=mappings(found.gids))


def mappings(ranges: Sequence[IdRange]) -> list[pb.IDMapping]:
    return [pb.IDMapping(host_id=each.outside, container_id=each.inside, length=each.size) for each in ranges]
