"""Ids of a user namespace as they are outside of it. Pure."""

from collections.abc import Sequence

from msgspec.structs import replace

from hypercontainer.model.container import IdMap, IdRange, Mount, Users

NOBODY = 65534


def outside(ranges: Sequence[IdRange], id: int) -> int | None:
    """None: it is nobody there."""
    return next((r.outside + id - r.inside for r in ranges if r.inside <= id < r.inside + r.size), None)


def owner(ids: Users | IdMap | None, uid: int, gid: int) -> tuple[int, int]:
    """Whose it is outside; None: the same."""
    if ids is None:
        return uid, gid
    found = outside(ids.uids, uid), outside(ids.gids, gid)
    return NOBODY if found[0] is None else found[0], NOBODY if found[1] is None else found[1]


def owned(mount: Mount, users: Users) -> Mount:
    """With ids as they are outside, for the guest's root mounts it. Where none is said, the container's root has it."""
    if mount.type not in ("tmpfs", "dev", "devpts"):
        return mount
    said = dict(option.partition("=")[::2] for option in mount.options if option.startswith(("uid=", "gid=")))
    kept = [option for option in mount.options if not option.startswith(("uid=", "gid="))]
    for name, ranges in (("uid", users.uids), ("gid", users.gids)):
        id = int(said[name]) if said.get(name, "").isdecimal() else 0
        there = outside(ranges, id)
        if there is not None and (name in said or mount.type != "devpts"):
            kept.append(f"{name}={there}")
    return replace(mount, options=kept)
