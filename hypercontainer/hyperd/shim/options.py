"""Options of a runtime, as containerd's clients send them for one: what they say is honoured, or refused by name."""

from dataclasses import dataclass

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.shim.messages import Any
from hypercontainer.lib import protobuf
from hypercontainer.lib.protobuf import field, repeated


@dataclass(frozen=True, kw_only=True)
class Runc:
    """containerd.runc.v1.Options."""

    no_pivot_root: bool = field(1, "bool")  # nothing is mounted on the host that this could be about
    no_new_keyring: bool = field(2, "bool")  # nor is there a key of this host's in a machine
    shim_cgroup: str = field(3, "string")
    io_uid: int = field(4, "uint32")
    io_gid: int = field(5, "uint32")
    binary_name: str = field(6, "string")
    root: str = field(7, "string")
    criu_path: str = field(8, "string")
    systemd_cgroup: bool = field(9, "bool")  # cgroupsPath has the form that asks for a scope
    criu_image_path: str = field(10, "string")
    criu_work_path: str = field(11, "string")


@dataclass(frozen=True, kw_only=True)
class Generic:
    """runtimeoptions.v1.Options, which containerd's CRI plugin sends to runtimes that it does not know."""

    type_url: str = field(1, "string")
    config_path: str = field(2, "string")
    config_body: bytes = field(3, "bytes")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """containerd.runc.v1.CheckpointOptions."""

    exit: bool = field(1, "bool")
    open_tcp: bool = field(2, "bool")
    external_unix_sockets: bool = field(3, "bool")
    terminal: bool = field(4, "bool")
    file_locks: bool = field(5, "bool")
    empty_namespaces: list[str] = repeated(6, "string")
    cgroups_mode: str = field(7, "string")
    image_path: str = field(8, "string")
    work_path: str = field(9, "string")


MEANT = ("no_pivot_root", "no_new_keyring", "systemd_cgroup")  # a machine is what they ask for
CHECKPOINT = "containerd.runc.v1.CheckpointOptions"
KINDS: dict[str, type[Runc] | type[Generic]] = {
    "containerd.runc.v1.Options": Runc,
    "runtimeoptions.v1.Options": Generic,
}


def check(found: Any | None) -> None:
    """InvalidInput names the option that cannot be honoured."""
    if found is None or not found.value:
        return
    kind = KINDS.get(found.type_url.rpartition("/")[2])
    if kind is None:
        raise InvalidInput(f"cannot use options of type {found.type_url[:100]!r}: known are {' and '.join(KINDS)}")
    said = protobuf.decode(found.value, kind)
    for name, _ in protobuf.fields(kind).values():
        if getattr(said, name) and name not in MEANT and not (kind is Generic and name == "type_url"):
            raise InvalidInput(f"cannot use the option {name}: a virtual machine has none, and hyperd its own settings")


def checkpoint(found: Any | None) -> Checkpoint:
    """InvalidInput names the option that cannot be honoured: see `runv checkpoint`."""
    if found is None or not found.value:
        return Checkpoint()
    if found.type_url.rpartition("/")[2] != CHECKPOINT:
        raise InvalidInput(
            f"cannot use options of type {found.type_url[:100]!r} for a checkpoint: {CHECKPOINT} is known"
        )
    said = protobuf.decode(found.value, Checkpoint)
    for name in ("open_tcp", "external_unix_sockets", "terminal", "empty_namespaces"):
        if getattr(said, name):
            raise InvalidInput(f"cannot checkpoint with the option {name}: it ends with the machine")
    if said.cgroups_mode not in ("", "ignore"):
        raise InvalidInput("cannot checkpoint with the option cgroups_mode: the group is that of the container to come")
    return said
