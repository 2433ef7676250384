"""config.json, process.json and state.json, as OCI's runtime specification 1.2 has them.

Keys that nobody here knows are passed over, as the specification wants it; wrong types are refused by name.
"""

import re
from typing import Annotated, Any

import msgspec

from hypercontainer.errors import InvalidInput
from hypercontainer.model.container import Hook

VERSION = re.compile(r"1\.[0-3]\.[0-9]+([-+].*)?")
Id = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 2)]  # of a user or a group
MAX_BYTES = 4 << 20


class Document(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The ground of all below."""


class Box(Document, frozen=True, kw_only=True, rename="camel"):
    height: int = 0
    width: int = 0


class User(Document, frozen=True, kw_only=True, rename="camel"):
    uid: Id = 0
    gid: Id = 0
    umask: int | None = None
    additional_gids: list[Id] | None = None
    username: str = ""  # Windows'


class Capabilities(Document, frozen=True, kw_only=True, rename="camel"):
    bounding: list[str] | None = None
    effective: list[str] | None = None
    permitted: list[str] | None = None
    inheritable: list[str] | None = None
    ambient: list[str] | None = None


class Rlimit(Document, frozen=True, kw_only=True, rename="camel"):
    type: str
    soft: int
    hard: int


class Scheduler(Document, frozen=True, kw_only=True, rename="camel"):
    policy: str
    nice: int = 0
    priority: int = 0
    flags: list[str] | None = None
    runtime: int = 0
    deadline: int = 0
    period: int = 0


class IoPriority(Document, frozen=True, kw_only=True, rename="camel"):
    klass: str = msgspec.field(name="class")
    priority: int = 0


class Personality(Document, frozen=True, kw_only=True, rename="camel"):
    domain: str
    flags: list[str] | None = None


class Process(Document, frozen=True, kw_only=True, rename="camel"):
    args: list[str] | None = None
    env: list[str] | None = None
    cwd: str = ""
    terminal: bool = False
    console_size: Box | None = None
    user: User = User()
    capabilities: Capabilities | None = None
    rlimits: list[Rlimit] | None = None
    no_new_privileges: bool = False
    oom_score_adj: int | None = None
    apparmor_profile: str = ""
    selinux_label: str = ""
    scheduler: Scheduler | None = None
    io_priority: IoPriority | None = None


class Root(Document, frozen=True, kw_only=True, rename="camel"):
    path: str
    readonly: bool = False


class IdMapping(Document, frozen=True, kw_only=True, rename="camel"):
    container_id: Id = msgspec.field(name="containerID")
    host_id: Id = msgspec.field(name="hostID")
    size: int


class Mount(Document, frozen=True, kw_only=True, rename="camel"):
    destination: str
    type: str = ""
    source: str = ""
    options: list[str] | None = None
    uid_mappings: list[IdMapping] | None = None
    gid_mappings: list[IdMapping] | None = None


class Hooks(Document, frozen=True, kw_only=True, rename="camel"):
    prestart: list[Hook] | None = None
    create_runtime: list[Hook] | None = None
    create_container: list[Hook] | None = None
    start_container: list[Hook] | None = None
    poststart: list[Hook] | None = None
    poststop: list[Hook] | None = None


class Namespace(Document, frozen=True, kw_only=True, rename="camel"):
    type: str
    path: str = ""


class Device(Document, frozen=True, kw_only=True, rename="camel"):
    path: str
    type: str
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    uid: int | None = None
    gid: int | None = None


class DeviceRule(Document, frozen=True, kw_only=True, rename="camel"):
    allow: bool
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = ""


class Memory(Document, frozen=True, kw_only=True, rename="camel"):
    limit: int | None = None
    reservation: int | None = None
    disable_oom_killer: bool = msgspec.field(default=False, name="disableOOMKiller")


class Cpu(Document, frozen=True, kw_only=True, rename="camel"):
    shares: int | None = None
    quota: int | None = None
    period: int | None = None
    cpus: str = ""
    mems: str = ""
    idle: int | None = None
    burst: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None


class Pids(Document, frozen=True, kw_only=True, rename="camel"):
    limit: int | None = None


class BlockIo(Document, frozen=True, kw_only=True, rename="camel"):
    weight: int | None = None
    leaf_weight: int | None = None
    weight_device: list[Any] | None = None
    throttle_read_bps_device: list[Any] | None = None
    throttle_write_bps_device: list[Any] | None = None
    throttle_read_iops_device: list[Any] | None = msgspec.field(default=None, name="throttleReadIOPSDevice")
    throttle_write_iops_device: list[Any] | None = msgspec.field(default=None, name="throttleWriteIOPSDevice")


class HugepageLimit(Document, frozen=True, kw_only=True, rename="camel"):
    page_size: str
    limit: int


class Resources(Document, frozen=True, kw_only=True, rename="camel"):
    devices: list[DeviceRule] | None = None
    block_io: BlockIo | None = msgspec.field(default=None, name="blockIO")
    hugepage_limits: list[HugepageLimit] | None = None
    network: Any = None
    rdma: Any = None
    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    unified: dict[str, str] | None = None


class SeccompArg(Document, frozen=True, kw_only=True, rename="camel"):
    index: int
    value: int
    op: str
    value_two: int = 0


class Syscall(Document, frozen=True, kw_only=True, rename="camel"):
    names: list[str]
    action: str
    errno_ret: int | None = None
    args: list[SeccompArg] | None = None


class Seccomp(Document, frozen=True, kw_only=True, rename="camel"):
    default_action: str
    default_errno_ret: int | None = None
    architectures: list[str] | None = None
    flags: list[str] | None = None
    listener_path: str = ""
    syscalls: list[Syscall] | None = None


class Clock(Document, frozen=True, kw_only=True, rename="camel"):
    secs: int = 0
    nanosecs: Annotated[int, msgspec.Meta(ge=0, le=999_999_999)] = 0


class Linux(Document, frozen=True, kw_only=True, rename="camel"):
    uid_mappings: list[IdMapping] | None = None
    gid_mappings: list[IdMapping] | None = None
    sysctl: dict[str, str] | None = None
    resources: Resources | None = None
    cgroups_path: str = ""
    namespaces: list[Namespace] | None = None
    devices: list[Device] | None = None
    seccomp: Seccomp | None = None
    rootfs_propagation: str = ""
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    mount_label: str = ""
    intel_rdt: Any = None
    personality: Personality | None = None
    time_offsets: dict[str, Clock] | None = None


class Config(Document, frozen=True, kw_only=True, rename="camel"):
    oci_version: str
    root: Root | None = None
    process: Process | None = None
    hostname: str = ""
    domainname: str = ""
    mounts: list[Mount] | None = None
    hooks: Hooks | None = None
    linux: Linux | None = None
    annotations: dict[str, str] | None = None


def config(data: bytes) -> Config:
    """InvalidInput names what is wrong."""
    return checked(_decode(data, Config, "config.json"))


def process(data: bytes) -> Process:
    found: Process = _decode(data, Process, "process.json")
    return found


def resources(data: bytes) -> Resources:
    """`linux.resources` alone."""
    found: Resources = _decode(data, Resources, "resources")
    return found


def seccomp(data: bytes) -> Seccomp:
    """`linux.seccomp` alone."""
    found: Seccomp = _decode(data, Seccomp, "seccomp")
    return found


def checked(found: Config) -> Config:
    if not VERSION.fullmatch(found.oci_version):
        raise InvalidInput(f"cannot read config.json: ociVersion {found.oci_version[:20]!r} is not 1.0 to 1.3")
    for name in ("root", "process", "linux"):
        if getattr(found, name) is None:
            raise InvalidInput(f"cannot read config.json: {name} is missing")
    return found


def _decode(data: bytes, kind: type[Any], name: str) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise InvalidInput(f"cannot read {name}: {e}") from e
