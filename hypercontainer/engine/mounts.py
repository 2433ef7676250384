"""What is mounted in a container, and in which order: the caller's mounts, then the volumes that the image names."""

import os
import posixpath
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from hypercontainer.errors import InvalidInput
from hypercontainer.lib import files
from hypercontainer.lib.mount import spreads
from hypercontainer.model import ids
from hypercontainer.model.container import Below, IdMap
from hypercontainer.model.record import MountRecord, PodRecord, SocketRecord
from hypercontainer.model.settings import Settings
from hypercontainer.model.spec import Mount
from hypercontainer.sandbox import relay

TMPFS_FLAGS = {"rw", "ro", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "atime", "noatime"}
TMPFS_NUMBERS = {"uid": 1 << 32, "gid": 1 << 32, "nr_inodes": 1 << 62, "nr_blocks": 1 << 50}


def plan(asked: Sequence[Mount], image_volumes: Iterable[str]) -> list[MountRecord]:
    """Whatever lies above another one's place comes first, else the upper one would hide it."""
    mounts = [_mount(mount) for mount in asked]
    taken = [mount.target for mount in mounts]
    for place in sorted({place for place in taken if taken.count(place) > 1}):
        raise InvalidInput(f"cannot mount two things at {place}")
    for spelt in image_volumes:
        place = target(spelt, "volume of the image")
        if place not in taken:
            taken.append(place)
            mounts.append(_anonymous(place))
    return sorted(mounts, key=lambda mount: mount.target.count("/"))


def of_another(had: Iterable[MountRecord], *, read_only: bool) -> list[Mount]:
    """The volumes and binds of another container, as they are there or `read_only`."""
    return [
        Mount(
            type=mount.type,
            source=mount.source,
            target=mount.target,
            read_only=read_only or mount.read_only,
            subpath=mount.subpath,
        )
        for mount in had
        if mount.type != "tmpfs"
    ]


def joined(own: Sequence[Mount], others: Sequence[Mount]) -> list[Mount]:
    """All of them: at one place its own, else the last one of the others'."""
    taken = {target(mount.target, "mount target") for mount in own}
    return [*own, *{mount.target: mount for mount in others if mount.target not in taken}.values()]


def _anonymous(place: str) -> MountRecord:
    return MountRecord(type="volume", target=place, source="", read_only=False, populate=True, anonymous=True)


def absolute(path: str, what: str) -> str:
    """`path` inside a container, in the one spelling that names it: as docker's path.Clean has it."""
    if not path.startswith("/") or "\0" in path:
        raise InvalidInput(f"invalid {what} {path!r}: it needs to be an absolute path")
    return "/" + posixpath.normpath(path).lstrip("/")


def target(path: str, what: str) -> str:
    place = absolute(path, what)
    if place == "/":
        raise InvalidInput(f"invalid {what} {path!r}: it needs to be an absolute path other than /")
    return place


def within(path: str, what: str) -> str:
    """A relative path, in the one spelling that names it. InvalidInput for one that leads out."""
    found = posixpath.normpath(path) if path else "."
    if found.startswith("/") or "\0" in path or found.split("/")[0] == "..":
        raise InvalidInput(f"invalid {what} {path[:200]!r}: it needs to be a relative path that leads nowhere else")
    return "" if found == "." else found


def _mount(mount: Mount) -> MountRecord:
    place = target(mount.target, "mount target")
    found: SocketRecord | None = None
    if mount.type == "bind":
        found = _source(mount)
    elif mount.type == "volume" and mount.source:
        ids.check_name("volume", mount.source)
    if mount.subpath and mount.type != "volume":
        raise InvalidInput(f"cannot mount a {mount.type} at {place} with a subpath: only a volume has one")
    if mount.options and mount.type != "tmpfs":
        raise InvalidInput(
            f"cannot mount a {mount.type} at {place} with {mount.options[0]!r}: only a tmpfs has options"
        )
    for option in mount.options:
        _check_option(option)
    return MountRecord(
        type=mount.type,
        target=place,
        source=mount.source,
        subpath=_subpath(mount.subpath),
        read_only=mount.read_only,
        populate=mount.type == "volume" and not mount.no_copy,
        anonymous=mount.type == "volume" and not mount.source,
        size_mib=mount.size_mib,
        mode=mount.mode,
        options=mount.options,
        socket=found,
    )


def _subpath(path: str) -> str:
    """In the one spelling that names it. InvalidInput, in docker's words, for what leads out of a volume."""
    within = posixpath.normpath(path) if path else "."
    if within.startswith("/") or "\0" in path or within.split("/")[0] == "..":
        raise InvalidInput(
            f'invalid mount config for type "volume": subpath must be a relative path within the volume: {path[:200]!r}'
        )
    return "" if within == "." else within


def _source(mount: Mount) -> SocketRecord | None:
    """Whose socket the source of a bind is; None: it is a folder or file."""
    source = Path(mount.source)
    if not source.is_absolute() or "\0" in mount.source:
        raise InvalidInput(f"invalid bind source {mount.source!r}: it needs to be an absolute path")
    with files.telling(f"mount {mount.source}", InvalidInput):
        try:
            status = _status(source) if mount.create else os.stat(source)
            found = relay.owner(status)
            datagrams = found is not None and relay.has_datagrams(source)
        except FileNotFoundError as e:
            raise InvalidInput(f"bind source path does not exist: {mount.source}") from e
    if datagrams or not (found or stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
        what = "folders, files and sockets of streams"
        raise InvalidInput(f"cannot mount {mount.source}: only {what} reach into a VM, no datagrams, pipe or device")
    return found


def _status(source: Path) -> os.stat_result:
    """Of `source`, which is made a folder where nothing is, as docker does for -v."""
    try:
        return os.stat(source)
    except FileNotFoundError:
        if source.is_symlink():
            raise  # nobody but its owner knows what should be at its end
        source.mkdir(parents=True, exist_ok=True)
        return os.stat(source)


def _check_option(option: str) -> None:
    key, equals, value = option.partition("=")
    if equals and key in TMPFS_NUMBERS:
        if not value.isascii() or not value.isdigit() or not int(value[:20]) < TMPFS_NUMBERS[key]:
            raise InvalidInput(f"invalid tmpfs option {option!r}: write {key}=NUMBER")
    elif option not in TMPFS_FLAGS:
        known = ", ".join([*sorted(TMPFS_FLAGS), *(f"{name}=" for name in TMPFS_NUMBERS)])
        raise InvalidInput(f"unknown tmpfs option {option!r}: there are size=, mode=, {known}")


def show(listed: Iterable[MountRecord], mapped: Mapping[str, IdMap], below: Mapping[str, Below]) -> None:
    """Say of binds, by their targets, whose files are whose, and what is with that which is mounted below them.
    InvalidInput for one that is to follow what this host mounts, and cannot."""
    ids_of = {target(place, "mount target"): each for place, each in mapped.items()}
    below_of = {target(place, "mount target"): each for place, each in below.items()}
    for bind in listed:
        if bind.type != "bind":
            continue
        bind.ids, bind.below = ids_of.get(bind.target), below_of.get(bind.target, "same")
        if bind.below == "followed" and not spreads(bind.source):
            words = "it is on a mount that is private on this host: make that a shared one, by mount --make-rshared"
            raise InvalidInput(f"cannot have mount propagation at {bind.target} from {bind.source}: {words}")


# What several pods share


def without_locks(pod: PodRecord, pods: Iterable[PodRecord], settings: Settings) -> list[str]:
    """A warning for each source that `pod` shares with another one, where locks do not hold between the two."""
    ours = dict(_sources(pod))
    found: dict[str, str] = {}
    for other in pods:
        apart = "guest" in (pod.spec.locks or settings.share_locks, other.spec.locks or settings.share_locks)
        for source, writable in _sources(other) if other.id != pod.id and apart else ():
            if source in ours and (writable or ours[source]):
                found.setdefault(source, other.name)
    return [
        f"{source} is shared with {name}: locks on its files do not hold between the two; if their programs need that, "
        "give both --locks host"
        for source, name in found.items()
    ]


def _sources(pod: PodRecord) -> Iterator[tuple[str, bool]]:
    """What of the host it mounts, and whether it may write there."""
    writable: dict[str, bool] = {}
    for mount in (mount for container in pod.containers for mount in container.mounts):
        if mount.shared:
            name = os.path.realpath(mount.source) if mount.type == "bind" else f"volume {mount.source}"
            writable[name] = writable.get(name, False) or not mount.read_only
    yield from writable.items()
