"""Options of a runtime, as containerd's clients send them for one: what they say is honoured, or refused by name."""

from dataclasses import dataclass

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.shim.messages import Any
from hypercontainer.lib import protobuf
from hypercontainer.lib.protobuf import field


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


MEANT = ("no_pivot_root", "no_new_keyring", "systemd_cgroup")  # a machine is what they ask for
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
