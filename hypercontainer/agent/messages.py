"""What is said on stream 0, typed: docs/wire.md section 4, one struct for each request, answer and event.

Requests are ours. Answers come from a hostile guest: every number, string and list has a bound. `bytes` travel as
base64. How old hosts and new guests get on with each other, and the other way round: docs/wire.md section 5.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, ClassVar, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from hypercontainer.agent.wire import MAX_STREAM, WireError
from hypercontainer.errors import InvalidInput
from hypercontainer.lib.document import NOT_JSON
from hypercontainer.model import container
from hypercontainer.model.ulimits import Rlimit

MAX_DEPTH = 16  # of nested objects and arrays
MAX_FEATURES = 64  # of one guest

T = TypeVar("T")

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Small = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Id = Annotated[int, Meta(ge=0, le=2**32 - 2)]  # of a user or a group
StreamNumber = Annotated[int, Meta(ge=0, le=MAX_STREAM)]
Word = Annotated[str, Meta(max_length=256)]
Identifier = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}\Z")]
FeatureWord = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_.-]{0,63}\Z")]


class Feature(NamedTuple):
    """Something that guests have learnt after the first ones."""

    word: str  # in the HELLO of a guest that has learnt it
    deed: str  # what cannot be done without, as "fill volumes"


ARCHIVE_ERRNO = Feature("archive.errno", "tell why files cannot be copied")
ARCHIVE_USER = Feature("archive.user", "give files that are copied to a user of the container")

ROUTES = Feature("routes", "route by an interface")
MOUNTS = Feature("mounts", "mount what is to be in the container")
DEVICES = Feature("devices", "give the container devices of its own")
CAPABILITY_SETS = Feature("capability-sets", "grant capabilities that are not bounding, effective and permitted alike")
UMASK = Feature("umask", "start a process with a umask of its own")
UNIFIED = Feature("unified", "set limits of cgroup v2 by their names")
INTERFACES = Feature("interfaces", "add or remove network interfaces while it runs")
LAYERS = Feature("layers", "tell what a container has made of its image")
GROUP_NAMES = Feature("group-names", "put a process into a group by its name")
ROOTFS = Feature("rootfs", "use a disk or a folder of this host as a root file system")
NAMESERVER = Feature("nameserver", "ask this host for the names of its networks")
SOCKETS = Feature("sockets", "reach a socket of this host")
LOWERS = Feature("lowers", "lay several disks over each other")
OVER = Feature("over", "go on from what a container has written")
NAMESPACES = Feature("namespaces", "share processes, memory and queues with another container, or keep its own apart")
SCHEDULING = Feature("scheduling", "choose how a process is scheduled, or its personality")
RESOLVER = Feature("resolver", "ask an engine's resolver for names")
TIME = Feature("time", "give the container clocks of its own")
START_HOOKS = Feature("start-hooks", "run hooks in the container before it starts")
DEVICE_RULES = Feature("device-rules", "rule who may use which devices")
USERS = Feature("users", "give the container a user namespace of its own")
PROPAGATION = Feature("propagation", "choose how mounts of a root file system spread")
CHECKPOINT = Feature("checkpoint", "save or restore the processes of a container")
CHECKPOINT_CHANGES = Feature("checkpoint.changes", "save the processes of a container with what it has changed")
ROUTING = Feature("routing", "route by tables, rules, several gateways or metrics")
HANG_UP = Feature("hang-up", "tell a process that nobody reads what it writes")
HOLD = Feature("hold", "have another process in a container that is not started")
CONNECT = Feature("connect", "connect to one of its ports")
MEMBERSHIPS = Feature("memberships", "choose whether groups of the image's own files count")
DISK_DEVICES = Feature("disk-devices", "give the container a block device of this host")
DISK_MOUNTS = Feature("disk-mounts", "mount an image")
POD_SHM = Feature("pod-shm", "share /dev/shm with all of a pod")
FILES = Feature("files", "count the open files of a container")
POD_STATS = Feature("pod.stats", "tell what all of its containers use at once")
POD_USERS = Feature("pod-users", "give all of a pod one user namespace")
DISK_STAGE = Feature("disk.stage", "mount a scratch disk before a container has it")
APPARMOR = Feature("apparmor", "confine a process by a profile of AppArmor")  # of guests whose kernel has it on

# Of the guests of this version.
FEATURES = (
    ARCHIVE_ERRNO, ROUTES, MOUNTS, DEVICES, CAPABILITY_SETS, UMASK, UNIFIED, INTERFACES, LAYERS, ROOTFS, NAMESERVER,
    GROUP_NAMES, SOCKETS, ARCHIVE_USER, OVER, LOWERS, NAMESPACES, SCHEDULING, RESOLVER,
    TIME, START_HOOKS, DEVICE_RULES, PROPAGATION, USERS, HANG_UP, HOLD, CHECKPOINT, ROUTING, CONNECT,
    MEMBERSHIPS, POD_SHM, DISK_DEVICES, DISK_MOUNTS, FILES, POD_USERS, CHECKPOINT_CHANGES,
    DISK_STAGE, POD_STATS,
)  # fmt: skip


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The ground of what we ask. What is at its default is not said, and is the guest's default too.

    `needs`: the fields that the first guests refuse, each with its feature. Their defaults are nothing: False, 0, "",
    None, or an empty list."""

    needs: ClassVar[Mapping[str, Feature]] = {}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The ground of what the guest says. Keys that only a newer hyperd knows pass."""


class Neighbour(Request, frozen=True, kw_only=True):
    address: str
    mac: str


class Interface(Request, frozen=True, kw_only=True):
    needs = {"neighbours": ROUTING}

    mac: str
    hardware: str = ""  # the address that it may have instead, until it is given `mac`: a clone's
    addresses: list[str]  # "10.0.0.2/24"
    name: str
    mtu: int = 0  # 0: as it is
    down: bool = False  # it is named, and left down
    neighbours: list[Neighbour] | None = None  # those that stay, instead of those of before; None: as they are


class Hop(Request, frozen=True, kw_only=True):
    gateway: str
    device: str
    weight: int


class Route(Request, frozen=True, kw_only=True):
    needs = {
        "device": ROUTES, "kind": ROUTING, "table": ROUTING, "metric": ROUTING, "source": ROUTING, "metrics": ROUTING,
        "onlink": ROUTING, "hops": ROUTING, "gone": ROUTING,
    }  # fmt: skip

    gateway: str  # "": it is on the link of `device`
    dst: str  # "default" or a CIDR
    family: Literal[4, 6] = 4
    device: str = ""  # an interface's name
    kind: str = ""  # "blackhole", "unreachable", "prohibit", "throw"
    table: int = 0  # 0: the main one
    metric: int = 0
    source: str = ""
    metrics: list[int] = []  # RTAX_… and its value, one after the other
    onlink: bool = False
    hops: list[Hop] = []  # in place of `gateway` and `device`
    gone: bool = False  # it ends


class Rule(Request, frozen=True, kw_only=True):
    priority: int
    family: int
    table: int
    source: str = ""
    dst: str = ""
    gone: bool = False


class Resolver(Request, frozen=True, kw_only=True):
    nameservers: list[str] = []
    search: list[str] = []
    options: list[str] = []


class Nameserver(Request, frozen=True, kw_only=True):
    """Where questions go that containers ask at 127.0.0.11."""

    address: str  # of IPv4
    port: int


class IdRange(Request, frozen=True, kw_only=True):
    """See model.container.IdRange."""

    inside: int
    outside: int
    size: int


class Users(Request, frozen=True, kw_only=True):
    uids: list[IdRange]
    gids: list[IdRange]


class PodSetup(Request, frozen=True, kw_only=True):
    """Network, names, clock and random pool of the whole guest. `share`: the virtiofs tag of its share, or "". What is
    not said stays as it is.

    With INTERFACES the guest looks for the devices of `interfaces` that it does not know, and lets go of those that
    have a MAC address of `removed`."""

    needs: ClassVar[Mapping[str, Feature]] = {
        "removed": INTERFACES, "nameserver": NAMESERVER, "resolver": RESOLVER, "rules": ROUTING,
        "users": POD_USERS,
    }  # fmt: skip

    hostname: str = ""
    removed: list[str] = []
    interfaces: list[Interface] = []
    routes: list[Route] = []
    rules: list[Rule] = []
    nameserver: Nameserver | None = None
    resolver: bool = False  # questions that containers ask at 127.0.0.11 come as connections, "udp" and "tcp"
    dns: Resolver | None = None
    hosts: list[list[str]] | None = None  # [address, name, …]
    time_ns: int = 0
    entropy: bytes = b""
    sysctls: dict[str, str] = {}
    share_pid: bool = False
    share: str = ""
    users: Users | None = None  # of the user namespace that all containers are in which say none of their own


class Disk(Request, frozen=True, kw_only=True):
    needs = {"type": ROOTFS, "options": ROOTFS}

    target: int
    type: str = ""  # of its file system; "": of a lower one erofs, of an upper one ext4
    options: list[str] = []


class Rootfs(Request, frozen=True, kw_only=True):
    """`upper` over `lower`, which is not written then; or `lower` alone, which says its type; or a `folder`; or what
    the container `over` has, which is removed: what that one has written is not written any more; or `upper`, if there
    is one, over `lowers`, which all say their type."""

    needs = {"folder": ROOTFS, "over": OVER, "lowers": LOWERS}

    lower: Disk | None = None
    upper: Disk | None = None
    folder: str = ""  # below the share
    over: str = ""
    lowers: list[Disk] = []  # the uppermost first


class ShareMount(Request, frozen=True, kw_only=True, tag="share", tag_field="type"):
    source: str  # below the share
    target: str
    read_only: bool = False
    populate: bool = False


class TmpfsMount(Request, frozen=True, kw_only=True, tag="tmpfs", tag_field="type"):
    target: str
    size_bytes: int = 0
    mode: int = 0o1777
    read_only: bool = False
    options: list[str] = []


class SocketOwner(Request, frozen=True, kw_only=True):
    """Who may connect to a socket, as `stat` tells it."""

    uid: int
    gid: int
    mode: int


class Mount(Request, frozen=True, kw_only=True):
    """One of all mounts of a container. `source`: of a disk, its number, and a path in there; of a bind, below the
    share; of a file of the pod's, its name; of what another container has there, its id."""

    needs = {"owner": SOCKETS}

    type: Literal[
        "bind", "cgroup", "container", "dev", "devpts", "disk", "mqueue", "pod", "proc", "socket", "sysfs", "tmpfs"
    ]
    target: str
    source: str = ""
    options: list[str] = []
    populate: bool = False
    owner: SocketOwner | None = None  # of a socket, where the guest listens

    @classmethod
    def of(cls, mount: container.Mount, source: str | None = None, *, populate: bool = False) -> "Mount":
        """`source`: of a bind, where that is below the share."""
        source = mount.source if source is None else source
        return cls(type=mount.type, target=mount.destination, source=source, options=mount.options, populate=populate)


class Device(Request, frozen=True, kw_only=True):
    """A device that is made in a container, and may be used there. `target`: it is that disk, whose numbers the guest
    knows, whatever is said."""

    needs = {"target": DISK_DEVICES}

    path: str
    type: Literal["b", "c"]
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0
    target: int | None = None


class DeviceRule(Request, frozen=True, kw_only=True):
    """See model.container.DeviceRule."""

    allow: bool = False
    type: str
    major: int = -1
    minor: int = -1
    access: str


class TimeOffsets(Request, frozen=True, kw_only=True):
    """See model.container.TimeOffsets."""

    monotonic_ns: int = 0
    boottime_ns: int = 0


class File(Request, frozen=True, kw_only=True):
    path: str
    content: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


class Cgroup(Request, frozen=True, kw_only=True):
    """Limits inside the guest; 0 = none. `unified`: files of cgroup v2, and what is written to them."""

    needs: ClassVar[Mapping[str, Feature]] = {"unified": UNIFIED}

    memory_bytes: int = 0
    cpu_quota_us: int = 0
    cpu_period_us: int = 100_000
    cpu_shares: int = 0
    pids: int = 0
    unified: dict[str, str] = {}


class ContainerCreate(Request, frozen=True, kw_only=True):
    """`all_mounts`: all there are. None, as the first hosts say: `mounts`, and the usual ones, of which /dev/shm has
    `shm_bytes`. Namespaces: see model.container.ContainerConfig."""

    needs: ClassVar[Mapping[str, Feature]] = {
        "all_mounts": MOUNTS,
        "devices": DEVICES,
        "pid_of": NAMESPACES,
        "ipc_of": NAMESPACES,
        "own_ipc": NAMESPACES,
        "time_offsets": TIME,
        "device_rules": DEVICE_RULES,
        "propagation": PROPAGATION,
        "users": USERS,
    }

    id: str
    rootfs: Rootfs
    read_only: bool = False
    mounts: list[ShareMount | TmpfsMount] = []
    all_mounts: list[Mount] | None = None
    devices: list[Device] = []
    files: list[File] = []
    hostname: str = ""  # "" = the pod's
    cgroup: Cgroup = Cgroup()
    sysctls: dict[str, str] = {}
    masked_paths: list[str]
    readonly_paths: list[str]
    shm_bytes: int = 64 << 20
    privileged: bool = False  # every device of the guest, /sys and cgroups writable
    pid_of: str = ""
    ipc_of: str = ""
    own_ipc: bool = False
    time_offsets: TimeOffsets | None = None
    device_rules: list[DeviceRule] | None = None  # None: `devices` may be used
    propagation: str = ""
    users: Users | None = None


class Stage(Request, frozen=True, kw_only=True):
    """What is made ahead of the next container: SCSI targets are known, those of `mounts` that any one can have."""

    needs: ClassVar[Mapping[str, Feature]] = {"mounts": MOUNTS}

    targets: list[int]
    mounts: list[Mount] | None = None


class DiskStage(Request, frozen=True, kw_only=True):
    """A scratch disk is mounted, its folders made, for the container that has it next; None: none is, any more."""

    target: int | None = None


class ContainerUpdate(Request, frozen=True, kw_only=True):
    """Limits that take the place of those it has."""

    id: str
    cgroup: Cgroup


class StreamSet(Answer, frozen=True, kw_only=True):
    """Numbers of a process's streams, 0 for none. Host and guest both say it."""

    stdin: StreamNumber = 0
    stdout: StreamNumber = 0
    stderr: StreamNumber = 0

    def outputs(self) -> list[int]:
        return [number for number in (self.stdout, self.stderr) if number]


class CapabilitySets(Request, frozen=True, kw_only=True):
    bounding: list[str] = []
    effective: list[str] = []
    permitted: list[str] = []
    inheritable: list[str] = []
    ambient: list[str] = []


class Scheduling(Request, frozen=True, kw_only=True):
    """See model.container.Scheduling."""

    policy: int = -1
    nice: int = 0
    priority: int = 0
    flags: int = 0
    runtime_ns: int = 0
    deadline_ns: int = 0
    period_ns: int = 0
    io_priority: int = 0
    personality: int = 0


class Hook(Request, frozen=True, kw_only=True):
    """A program of the container's that is run before its first process."""

    path: str
    args: list[str] = []
    env: list[str] = []
    timeout_s: int = 0  # 0: it may take as long as it likes


class Criu(Request, frozen=True, kw_only=True):
    """CRIU and all that it needs, what it writes or reads, and its log: folders of the share; flags beside the
    guest's."""

    program: str
    images: str
    work: str
    flags: list[str] = []


class ProcessCheckpoint(Request, frozen=True, kw_only=True):
    """CRIU as a process of ours, which saves all of a container's. `changes`: the container stands still for as long as
    that process runs, which writes what was changed of the image beside the log, too."""

    needs = {"changes": CHECKPOINT_CHANGES}

    id: str
    container: str
    streams: StreamSet
    criu: Criu
    changes: bool = False


class ProcessStart(Request, frozen=True, kw_only=True):
    """`capabilities` are those that are bounding, effective and permitted; or `capability_sets` has all five."""

    needs: ClassVar[Mapping[str, Feature]] = {
        "capability_sets": CAPABILITY_SETS,
        "umask": UMASK,
        "group_names": GROUP_NAMES,
        "scheduling": SCHEDULING,
        "hooks": START_HOOKS,
        "state": START_HOOKS,
        "hold": HOLD,
        "restore": CHECKPOINT,
        "memberships": MEMBERSHIPS,
        "apparmor": APPARMOR,
    }

    id: str
    container: str
    args: list[str]
    env: list[str] = []
    cwd: str = "/"
    user: str = ""  # "name|uid[:group|gid]"
    groups: list[int] = []
    group_names: list[str] = []  # as the container's own files have them
    memberships: Literal["", "merge", "strict"] = ""  # those of its user in /etc/group count, or not; "": if no group
    tty: bool = False
    rows: int = 0
    columns: int = 0
    init: bool = False
    first: bool = False  # the container's PID 1
    hold: bool = False  # a first one: all but its start is done, others may join it, and it waits for its release
    capabilities: list[str] = []
    capability_sets: CapabilitySets | None = None
    umask: int | None = None  # None: 022
    no_new_privs: bool = False
    rlimits: list[Rlimit] = []
    seccomp: bytes = b""  # classic BPF
    apparmor: str = ""  # name of a profile that it has loaded
    scheduling: Scheduling | None = None
    oom_score_adj: int = 0
    hooks: list[Hook] = []
    state: str = ""  # a JSON object that they read; the guest adds the pid
    streams: StreamSet = StreamSet()
    restore: Criu | None = None  # it goes on from what was saved


class AppArmorLoad(Request, frozen=True, kw_only=True):
    """Profiles of AppArmor, compiled: in the place of those of their names."""

    policy: bytes


class SocketAccept(Request, frozen=True, kw_only=True):
    """Take the connection that has waited longest at a socket; without streams, refuse it."""

    container: str = ""
    target: str
    input: int = 0
    output: int = 0


class SocketConnect(Request, frozen=True, kw_only=True):
    """Connect to who listens on the guest's loopback."""

    port: int
    input: int
    output: int


class SocketClose(Request, frozen=True, kw_only=True):
    input: int  # of the connection


class Owner(Request, frozen=True, kw_only=True):
    uid: int
    gid: int


# "layer", "changes" and "tree", of all that is in the container: for guests that have LAYERS.
ArchiveMode = Literal["read", "write", "layer", "changes", "tree"]


class ProcessArchive(Request, frozen=True, kw_only=True):
    needs = {"freeze": LAYERS, "user": ARCHIVE_USER}
    id: str
    container: str
    mode: ArchiveMode
    path: str
    streams: StreamSet
    follow: bool = False
    owner: Owner | None = None
    user: str = ""  # who has what is written, as `user` of a process's start; "": `owner`
    freeze: bool = False  # the container stands still until it has ended


class Info(Answer, frozen=True, kw_only=True):
    version: Word
    kernel: Word
    uptime_ms: Count
    memory_total_kib: Count
    memory_available_kib: Count


class Sizes(Answer, frozen=True, kw_only=True):
    """What the guest has by now: processors that run, memory; `memory_used_kib` of it is without what its kernel
    could give back."""

    cpus: Annotated[int, Meta(ge=1, le=1024)]
    memory_total_kib: Count
    memory_used_kib: Count


class ListedContainer(Answer, frozen=True, kw_only=True):
    id: Identifier
    created: bool


class ListedProcess(Answer, frozen=True, kw_only=True):
    id: Identifier
    container: Identifier
    pid: Small
    running: bool
    status: Annotated[int, Meta(ge=0, le=255)]
    oom: bool
    tty: bool
    held: bool = False  # it waits for its release
    streams: StreamSet


class Listing(Answer, frozen=True, kw_only=True):
    """What the guest holds: everything a host process that starts anew must know."""

    pod: bool
    containers: Annotated[list[ListedContainer], Meta(max_length=1024)]
    processes: Annotated[list[ListedProcess], Meta(max_length=3072)]
    next_stream: Annotated[int, Meta(ge=1, le=MAX_STREAM)]


class NetStats(Answer, frozen=True, kw_only=True):
    name: Annotated[str, Meta(max_length=15)]
    rx_bytes: Count
    tx_bytes: Count
    rx_packets: Count
    tx_packets: Count
    rx_errors: Count
    tx_errors: Count
    rx_dropped: Count
    tx_dropped: Count


Networks = Annotated[list[NetStats], Meta(max_length=64)]


class Usage(Answer, frozen=True, kw_only=True):
    """What is counted for one container."""

    cpu_usec: Count
    user_usec: Count
    system_usec: Count
    cpu_periods: Count = 0  # of a quota; older guests say nothing of what has a default here
    cpu_throttled_periods: Count = 0
    cpu_throttled_usec: Count = 0
    memory_bytes: Count
    memory_max_bytes: Count
    memory_inactive_file_bytes: Count = 0
    memory_anon_bytes: Count = 0
    memory_file_bytes: Count = 0
    memory_mapped_bytes: Count = 0  # of those of files
    memory_peak_bytes: Count | None = None  # None: an older guest, or a kernel that does not count it
    memory_kernel_bytes: Count | None = None
    memory_max_hits: Count | None = None  # how often it would have had more than it may
    memory_swap_bytes: Count | None = None
    swap_max_bytes: Count | None = None
    pids_max: Count | None = None  # 0: no limit
    page_faults: Count = 0
    major_page_faults: Count = 0
    pids: Count
    oom_kills: Count = 0  # of any process in it, since it was made
    io_read_bytes: Count
    io_write_bytes: Count
    io_reads: Count = 0
    io_writes: Count = 0


class Stats(Usage, frozen=True, kw_only=True):
    net: Networks


class NamedUsage(Usage, frozen=True, kw_only=True):
    id: Identifier


class PodStats(Answer, frozen=True, kw_only=True):
    containers: Annotated[list[NamedUsage], Meta(max_length=1024)]
    net: Networks


class FileCounts(Answer, frozen=True, kw_only=True):
    """Of the file system that a container's root is on, and of what its processes have open. None: not to be had, as
    descriptors are that were too many to be counted in time."""

    fs_bytes: Count | None = None
    fs_inodes: Count | None = None
    fs_inodes_free: Count | None = None
    descriptors: Count | None = None
    sockets: Count | None = None


class ProcessRow(Answer, frozen=True, kw_only=True):
    """A line of `top`; pids as the container sees them."""

    pid: Small
    ppid: Small
    user: Word
    vsize_kib: Count
    rss_kib: Count
    state: Annotated[str, Meta(max_length=8)]
    start_s: Count  # since 1970
    cpu_ms: Count
    tty: Word
    command: Annotated[str, Meta(max_length=4096)]


class ProcessTable(Answer, frozen=True, kw_only=True):
    processes: Annotated[list[ProcessRow], Meta(max_length=32768)]


class Started(Answer, frozen=True, kw_only=True):
    """Who it is is told where `memberships` were asked for, with ids as they are inside."""

    pid: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    uid: Id | None = None
    gid: Id | None = None
    groups: Annotated[list[Id], Meta(max_length=256)] = []


class Done(Answer, frozen=True, kw_only=True):
    """An answer with nothing in it."""


class ExitEvent(Answer, frozen=True, kw_only=True):
    """A process ended: 0 to 255 as from wait, 128 + n when killed by signal n."""

    process: Identifier
    status: Annotated[int, Meta(ge=0, le=255)]
    oom: bool


class ConnectionEvent(Answer, frozen=True, kw_only=True):
    """Somebody waits at a socket. There is no other one of it until somebody was taken."""

    container: Identifier = ""  # of none: somebody asks for names
    target: Annotated[str, Meta(max_length=4096)]


class Refusal(Answer, frozen=True, kw_only=True):
    errno: Annotated[int, Meta(ge=0, le=4095)]
    message: str
    exec: bool = False  # of process.start: the command itself could not be run


class Line(Answer, frozen=True, kw_only=True):
    """Any line that the guest may say: an answer, or an event."""

    id: Count | None = None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: Refusal | msgspec.UnsetType = msgspec.UNSET
    event: Literal["exit", "connection"] | None = None
    process: Identifier | None = None
    status: Annotated[int, Meta(ge=0, le=255)] | None = None
    oom: bool = False
    container: Identifier | None = None
    target: Annotated[str, Meta(max_length=4096)] | None = None


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """HELLO's payload. Unknown keys pass: a guest of another version must be able to say so."""

    version: Count
    session: Word = ""
    resumed: bool = False
    features: Annotated[list[FeatureWord], Meta(max_length=MAX_FEATURES)] = []  # none: one of the first guests


def printable(text: str, limit: int = 1024) -> str:
    """`text` as it may appear in an error or a log: one line of no more than `limit` characters, none of control."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text[:limit]).strip()


class Beginning(msgspec.Struct, frozen=True, kw_only=True):
    """What the client itself must know of a request that starts a process."""

    id: str
    container: str
    streams: StreamSet = StreamSet()


class OfProcess(msgspec.Struct, frozen=True, kw_only=True):
    process: str


class OfContainer(msgspec.Struct, frozen=True, kw_only=True):
    id: str


class Renaming(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    to: str


@cache
def _defaults(kind: type[Request]) -> Mapping[str, object]:
    """Of those fields that need a feature."""
    fields = [field for field in msgspec.structs.fields(kind) if field.name in kind.needs]
    return {f.name: f.default if f.default_factory is msgspec.NODEFAULT else f.default_factory() for f in fields}


def needed(request: object) -> Iterator[Feature]:
    """The features that a guest must have to be asked this, for each field that would be said."""
    if isinstance(request, Request):
        unsaid = _defaults(type(request)) if request.needs else {}
        yield from (feature for name, feature in request.needs.items() if getattr(request, name) != unsaid[name])
        for name in request.__struct_fields__:
            yield from needed(getattr(request, name))
    elif isinstance(request, list) and request and isinstance(request[0], Request):
        for each in request:
            yield from needed(each)


def look(args: object, shape: type[T]) -> T:
    """That part of a request of ours, a struct or a dict, that `shape` names."""
    try:
        return msgspec.convert(args, shape, from_attributes=True)
    except msgspec.ValidationError as e:
        raise InvalidInput(f"cannot ask the guest: {e}") from e


def decode(op: str, answer: msgspec.Raw, shape: type[T]) -> T:
    """The guest's answer to `op`; WireError if it has another shape."""
    try:
        return msgspec.json.decode(answer, type=shape)
    except NOT_JSON as e:
        raise WireError(f"cannot understand the guest's answer to {op}: {printable(str(e), 200)}") from e


def decode_any(op: str, answer: msgspec.Raw) -> dict[str, object]:
    """The same, of any shape that docs/wire.md allows."""
    value = decode(op, answer, dict[str, object])
    if _depth(value) > MAX_DEPTH:
        raise WireError(f"cannot understand the guest's answer to {op}: it is nested more than {MAX_DEPTH} deep")
    return value


def _depth(value: object, limit: int = MAX_DEPTH + 1) -> int:
    """How deep `value` is nested, counted to `limit`."""
    if limit <= 0 or not isinstance(value, dict | list):
        return 0
    children = value.values() if isinstance(value, dict) else value
    return 1 + max((_depth(child, limit - 1) for child in children), default=0)
