"""What guests are asked who have not learnt something that those of today have: of mounts, those that the first hyperds
booted, and that still run. Goes with the last of them."""

from collections.abc import Sequence

from msgspec.structs import replace

from hypercontainer.agent import messages as m
from hypercontainer.model import defaults


def container_create(create: m.ContainerCreate) -> m.ContainerCreate:
    """`create` in their words: they make the usual mounts by themselves, and take some beside them.

    As it is where it cannot be said so: they are not asked it then."""
    listed = create.all_mounts or []
    shm_bytes = next((_size(mount.options) for mount in listed if mount.target == defaults.SHM), 0)
    usual = [m.Mount.of(mount) for mount in defaults.mounts(shm_bytes, privileged=create.privileged)]
    own = [_first(mount) for mount in listed if mount not in usual]
    if any(mount not in listed for mount in usual) or None in own:
        return create
    return replace(create, all_mounts=None, mounts=[mount for mount in own if mount], shm_bytes=shm_bytes)


def own_shm(create: m.ContainerCreate) -> m.ContainerCreate:
    """`create` for guests that have not learnt to share /dev/shm: each container has its own."""
    usual = next(m.Mount.of(mount) for mount in defaults.mounts() if mount.destination == defaults.SHM)
    listed = [usual if (mount.type, mount.source) == ("pod", "shm") else mount for mount in create.all_mounts or []]
    return replace(create, all_mounts=listed)


def _first(mount: m.Mount) -> m.ShareMount | m.TmpfsMount | None:
    options = [option for option in mount.options if option != "ro"]
    read_only = "ro" in mount.options
    if mount.type == "bind" and not options:
        return m.ShareMount(source=mount.source, target=mount.target, read_only=read_only, populate=mount.populate)
    plain = options[: len(defaults.PLAIN)] == defaults.PLAIN
    if mount.type != "tmpfs" or not plain or any(o.startswith("size=") and not o[5:].isdigit() for o in options):
        return None
    return m.TmpfsMount(
        target=mount.target,
        size_bytes=_size(options),
        mode=next((int(option[5:], 8) for option in options if option.startswith("mode=")), 0o1777),
        read_only=read_only,
        options=[option for option in options if not option.startswith(("mode=", "size="))],
    )


def _size(options: Sequence[str]) -> int:
    return next((int(o[5:]) for o in options if o.startswith("size=") and o[5:].isdigit()), 0)
