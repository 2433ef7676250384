"""What a caller may have made: asked before a pod or a container is."""

from collections.abc import Callable, Mapping

from hypercontainer.errors import Denied
from hypercontainer.model.principal import Principal, Role
from hypercontainer.model.spec import NetworkSpec, PodSpec

# The pod as it may be made, of one that a caller wants; Denied if it may not be. A container that joins a pod is asked
# for as that pod with this one container.
Admission = Callable[[Principal, PodSpec], PodSpec]


# The same of a network.
NetworkAdmission = Callable[[Principal, NetworkSpec], NetworkSpec]


def admit(principal: Principal, spec: PodSpec) -> PodSpec:
    """The usual policy: folders and sockets of the host are for admins, for hyperd is there as root."""
    if principal.role < Role.ADMIN:
        for container in spec.containers:
            for mount in container.mounts:
                if mount.type == "bind":
                    what = "folders and sockets of this host are for admins; use a volume"
                    raise Denied(f"cannot mount {mount.source}: {what}")
            for other in container.volumes_from:
                raise Denied(
                    f"cannot mount what {other} does: that may be folders of this host, which are for admins; "
                    "name its volumes"
                )
    return spec


def admit_volume(principal: Principal, name: str, options: Mapping[str, str]) -> None:
    """Folders of the host are for admins, under whatever name; a volume that is one is what an admin lets all have."""
    if principal.role < Role.ADMIN and options:
        raise Denied(f"cannot make volume {name} with options: folders of this host are for admins; leave them out")


def admit_network(principal: Principal, spec: NetworkSpec) -> NetworkSpec:
    """The usual policy: which addresses lead from the host to a network, and what that is called, is for admins."""
    if principal.role < Role.ADMIN and (spec.subnets or spec.options):
        what = "subnets" if spec.subnets else "options"
        raise Denied(f"cannot make network {spec.name}: its {what} are for admins to choose; leave them out")
    return spec


def admit_url(principal: Principal, url: str) -> None:
    """What hyperd fetches it fetches as this host, from what is on it and beside it too: that is for admins to read."""
    if principal.role < Role.ADMIN:
        raise Denied(f"cannot fetch {url[:200]}: this host does so for admins; RUN a program that fetches it")
