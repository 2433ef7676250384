"""What runs in a container, resolved, in the words of OCI's runtime specification. Who asked for it in which words, and
where on this host its files are, is no part of it. Frozen values."""

from typing import Literal

import msgspec

from hypercontainer.model.ulimits import Rlimit


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The ground of all below."""


class Capabilities(Value, frozen=True, kw_only=True):
    bounding: list[str] = []
    effective: list[str] = []
    permitted: list[str] = []
    inheritable: list[str] = []
    ambient: list[str] = []

    @classmethod
    def granted(cls, names: list[str]) -> "Capabilities":
        """As docker has it: a program's own inheritable ones cannot bring any back."""
        return cls(bounding=names, effective=names, permitted=names)


class Scheduling(Value, frozen=True, kw_only=True):
    """In the kernel's numbers: of sched_setattr(2), where `policy` -1 is as usual; of ioprio_set(2) and
    personality(2), where 0 is as usual."""

    policy: int = -1
    nice: int = 0
    priority: int = 0
    flags: int = 0
    runtime_ns: int = 0
    deadline_ns: int = 0
    period_ns: int = 0
    io_priority: int = 0
    personality: int = 0


class Process(Value, frozen=True, kw_only=True):
    """`user` is "name|uid[:group|gid]", by the container's own files; `seccomp` is classic BPF, b"" for no filter."""

    args: list[str]
    env: list[str] = []
    cwd: str = "/"
    user: str = ""
    groups: list[int] = []
    group_names: list[str] = []  # by the same files
    memberships: Literal["", "merge", "strict"] = (
        ""  # those of its user there count, or not; "": if `user` has no group
    )
    umask: int | None = None  # None: 022
    terminal: bool = False
    capabilities: Capabilities = Capabilities()
    rlimits: list[Rlimit] = []
    no_new_privileges: bool = False
    oom_score_adj: int = 0
    seccomp: bytes = b""
    apparmor: str = ""  # name of a profile of this host; "": none
    scheduling: Scheduling = Scheduling()


class Hook(Value, frozen=True, kw_only=True):
    """A program of this host, or of the container's, that an engine wants to have run."""

    path: str
    args: list[str] | None = None
    env: list[str] | None = None
    timeout: int | None = None  # seconds


class Mount(Value, frozen=True, kw_only=True):
    """`source`: of a bind, the path on this host; of a file of the pod's, its name; of what another `container` has
    at the same place, its id. `dev` is a tmpfs with the devices that every container has."""

    destination: str
    type: Literal["bind", "cgroup", "container", "dev", "devpts", "mqueue", "pod", "proc", "sysfs", "tmpfs"]
    source: str = ""
    options: list[str] = []


class Device(Value, frozen=True, kw_only=True):
    path: str
    type: Literal["b", "c"]
    major: int
    minor: int
    file_mode: int = 0o666
    uid: int = 0
    gid: int = 0


class DeviceRule(Value, frozen=True, kw_only=True):
    """Whether devices may be used; of rules that are about one, the last says it. Numbers: -1 = any."""

    allow: bool = False
    type: Literal["a", "b", "c"] = "a"
    major: int = -1
    minor: int = -1
    access: str = "rwm"


class TimeOffsets(Value, frozen=True, kw_only=True):
    """How far clocks are ahead of the guest's."""

    monotonic_ns: int = 0
    boottime_ns: int = 0


class IdRange(Value, frozen=True, kw_only=True):
    """`size` ids: from `inside` on in the container, from `outside` on in the guest, and on shared file systems."""

    inside: int
    outside: int
    size: int


class Users(Value, frozen=True, kw_only=True):
    """Of a user namespace."""

    uids: list[IdRange]
    gids: list[IdRange]


# What is with that which is mounted below a folder of this host when a container is shown that: it may be written where
# the folder may; where it may on this host; as that, and what is mounted there later is shown, too.
Below = Literal["same", "own", "followed"]


class IdMap(Value, frozen=True, kw_only=True):
    """Whose files are whose on a mount: those that the host's file system has at `inside` belong to `outside`.
    `recursive`: on what is mounted below, too."""

    uids: list[IdRange]
    gids: list[IdRange]
    recursive: bool = False


class Resources(Value, frozen=True, kw_only=True):
    """Limits inside the guest; 0 = none. `unified`: files of cgroup v2, and what is written to them."""

    memory_bytes: int = 0
    cpu_quota_us: int = 0
    cpu_period_us: int = 100_000
    cpu_shares: int = 0
    pids: int = 0
    unified: dict[str, str] = {}


class ContainerConfig(Value, frozen=True, kw_only=True):
    process: Process  # its first
    init: bool = False  # a reaper is PID 1, the first process its child
    hostname: str = ""  # "" = the pod's
    read_only: bool = False  # its root
    mounts: list[Mount]  # all there are
    masked_paths: list[str] = []
    readonly_paths: list[str] = []
    devices: list[Device] = []
    device_rules: list[DeviceRule] | None = None  # beside the usual ones; None = `devices` may be used
    all_devices: bool = False  # those of the guest
    propagation: str = ""  # of its root's mounts, as "rshared"; "" = private
    sysctl: dict[str, str] = {}
    pid_of: str = ""  # id of the container whose pid namespace its processes are in; "" = one of its own, or the pod's
    ipc_of: str = ""  # the same of IPC; "" = the machine's
    own_ipc: bool = False  # its own, and not the machine's
    users: Users | None = None  # of a user namespace of its own; None = it has the machine's
    time_offsets: TimeOffsets | None = None  # of a time namespace of its own; None = it has the machine's
    resources: Resources = Resources()
    annotations: dict[str, str] = {}
