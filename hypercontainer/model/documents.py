"""What the engine answers: inspect and list documents, in docker's words wherever docker has them.

Times are RFC 3339 strings where docker's are, and seconds since 1970 (`int`) where docker's are: lib.clock.rfc3339.
"""

from typing import Any, Literal

import msgspec

from hypercontainer.model.spec import PodSpec
from hypercontainer.model.state import State


class Document(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """The ground of answers. Every key is always there; readers skip keys that they do not know."""


class Isolation(Document, frozen=True, kw_only=True):
    """What holds the guest. `emulated` works, and is no security boundary that we promise."""

    level: Literal["emulated", "hardware"]
    accelerator: str  # tcg, kvm, xen
    reason: str  # why this one: "/dev/kvm does not exist"


class PodRef(Document, frozen=True, kw_only=True):
    id: str
    name: str
    tenant: str = ""


class Created(Document, frozen=True, kw_only=True):
    id: str
    warnings: list[str] = []


class Updated(Document, frozen=True, kw_only=True):
    warnings: list[str]  # what is not as it was asked for, until the next start


class Port(Document, frozen=True, kw_only=True):
    """A published port, as in docker's list of containers."""

    ip: str = msgspec.field(name="IP")
    private_port: int
    public_port: int
    type: str


class MountPoint(Document, frozen=True, kw_only=True):
    type: Literal["bind", "volume", "tmpfs"]
    name: str  # of the volume, or ""
    source: str  # host path, or ""
    destination: str
    mode: str  # "", "ro"
    rw: bool = msgspec.field(name="RW")
    driver: str = ""  # of a volume: "local"
    propagation: str = ""  # of a bind: "rprivate"


class ContainerEntry(Document, frozen=True, kw_only=True):
    """A line of `hyperctl ps`."""

    id: str
    names: list[str]  # "/web"
    image: str
    image_id: str = msgspec.field(name="ImageID")
    command: str
    created: int
    ports: list[Port]
    labels: dict[str, str]
    state: State
    status: str  # "Up 3 minutes", "Exited (0) 2 hours ago"
    mounts: list[MountPoint]
    networks: "dict[str, NamedEndpoint]"
    pod: PodRef
    owner: str = ""  # the engine whose it is: runv's --root, a shim's namespace; "": it is ours
    size_rw: int | None = None  # bytes of disk that it has written, when asked for
    size_root_fs: int | None = None  # the same, and its image's


class Probe(Document, frozen=True, kw_only=True):
    """One answer to the question whether a container is well. -1: it could not be asked, or took too long."""

    start: str
    end: str
    exit_code: int
    output: str


class Health(Document, frozen=True, kw_only=True):
    status: Literal["starting", "healthy", "unhealthy"]  # one that does not run is unhealthy, as docker has it
    failing_streak: int
    log: list[Probe]  # the last five


class ContainerStateDocument(Document, frozen=True, kw_only=True):
    status: State
    starting: str = ""  # what a start that is under way waits for, when that takes seconds
    running: bool
    paused: bool
    restarting: bool
    oom_killed: bool = msgspec.field(name="OOMKilled")
    dead: bool = False
    pid: int  # in the guest; 0 when it does not run
    exit_code: int
    error: str
    started_at: str
    finished_at: str
    health: Health | None = None  # from its first start on, of one that is asked


class RestartPolicyDocument(Document, frozen=True, kw_only=True):
    name: str
    maximum_retry_count: int = 0


class HostPort(Document, frozen=True, kw_only=True):
    host_ip: str = msgspec.field(name="HostIp")
    host_port: str


class UlimitDocument(Document, frozen=True, kw_only=True):
    name: str
    soft: int
    hard: int


class LogConfig(Document, frozen=True, kw_only=True):
    """docker's word for whether output is kept, so that `logs` can show it."""

    type: Literal["json-file", "none"] = "json-file"
    config: dict[str, str] = {}


class HostConfig(Document, frozen=True, kw_only=True):
    """What docker keeps apart from an image's configuration."""

    binds: list[str]  # "/host:/inside:ro"
    network_mode: str
    port_bindings: dict[str, list[HostPort]]  # "80/tcp"
    restart_policy: RestartPolicyDocument
    auto_remove: bool
    cap_add: list[str]
    cap_drop: list[str]
    dns: list[str]
    dns_options: list[str]
    dns_search: list[str]
    extra_hosts: list[str]  # "name:address"
    privileged: bool
    readonly_rootfs: bool
    security_opt: list[str]
    tmpfs: dict[str, str]
    ulimits: list[UlimitDocument]
    sysctls: dict[str, str]
    shm_size: int  # bytes
    memory: int  # bytes; 0 = no limit inside the guest
    nano_cpus: int
    pids_limit: int
    init: bool
    cpu_shares: int = 0
    group_add: list[str] = []
    oom_score_adj: int = 0
    log_config: LogConfig = LogConfig()
    volumes_from: list[str] = []
    publish_all_ports: bool = False
    masked_paths: list[str] | None = None  # that cannot be read inside; None: the usual ones of a privileged one, none
    readonly_paths: list[str] | None = None  # the same, written
    console_size: list[int] = []  # rows and columns of a terminal when it starts; 0 = nobody says
    links: list[str] = []  # "/name:/own/alias", on the usual network
    pid_mode: str = ""
    ipc_mode: str = "private"


class HealthConfig(Document, frozen=True, kw_only=True):
    """How a container is asked whether it is well, in nanoseconds; [] and 0 are docker's defaults."""

    test: list[str] = []
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class ProcessConfig(Document, frozen=True, kw_only=True):
    """Configuration of an image, or of a container made from it."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] = []
    cmd: list[str] | None = None
    entrypoint: list[str] | None = None
    image: str = ""
    working_dir: str = ""
    labels: dict[str, str] = {}
    exposed_ports: dict[str, dict[str, str]] = {}  # "80/tcp": {}
    volumes: dict[str, dict[str, str]] = {}  # "/data": {}
    stop_signal: str = ""
    stop_timeout: int = 10
    healthcheck: HealthConfig | None = None
    on_build: list[str] = []
    shell: list[str] = []  # that reads CMD-SHELL; [] = /bin/sh -c


class Endpoint(Document, frozen=True, kw_only=True):
    """A container's place in a network. All "" and 0 while it has none."""

    ip_address: str = msgspec.field(name="IPAddress", default="")
    ip_prefix_len: int = msgspec.field(name="IPPrefixLen", default=0)
    gateway: str = ""
    global_ipv6_address: str = msgspec.field(name="GlobalIPv6Address", default="")
    global_ipv6_prefix_len: int = msgspec.field(name="GlobalIPv6PrefixLen", default=0)
    ipv6_gateway: str = msgspec.field(name="IPv6Gateway", default="")
    mac_address: str = ""


class AddressConfig(Document, frozen=True, kw_only=True):
    """The addresses that somebody asked for; "" of each: any."""

    ipv4_address: str = msgspec.field(name="IPv4Address", default="")
    ipv6_address: str = msgspec.field(name="IPv6Address", default="")


class NamedEndpoint(Endpoint, frozen=True, kw_only=True):
    """The same, of one of several."""

    aliases: list[str] = []
    links: list[str] = []  # "name:alias"
    ipam_config: AddressConfig | None = msgspec.field(name="IPAMConfig", default=None)  # where it was asked for
    driver_opts: dict[str, str] = {}


class Interface(Document, frozen=True, kw_only=True):
    """A network interface of a pod's machine."""

    name: str  # in the machine: "eth0"
    network: str  # "": `netns` has it
    netns: str  # path of a namespace that somebody else made, or ""
    mac_address: str
    mtu: int = msgspec.field(name="MTU")
    addresses: list[str]  # "192.168.123.5/24", "fd00::5/64"


class NetworkSettings(Document, frozen=True, kw_only=True):
    """Of the pod, and so the same for each container in it; the addresses are those of its first network. All "" and 0
    while there is none."""

    bridge: str = ""
    ip_address: str = msgspec.field(name="IPAddress", default="")
    ip_prefix_len: int = msgspec.field(name="IPPrefixLen", default=0)
    gateway: str = ""
    global_ipv6_address: str = msgspec.field(name="GlobalIPv6Address", default="")
    global_ipv6_prefix_len: int = msgspec.field(name="GlobalIPv6PrefixLen", default=0)
    ipv6_gateway: str = msgspec.field(name="IPv6Gateway", default="")
    mac_address: str = ""
    ports: dict[str, list[HostPort] | None] = {}  # "80/tcp"; None: exposed by the image, not published
    networks: dict[str, NamedEndpoint] = {}  # by the network's name
    interfaces: list[Interface] = []  # all that the machine has now, the oldest first


class Vm(Document, frozen=True, kw_only=True):
    """The virtual machine that a pod runs in."""

    driver: str
    architecture: str = ""  # as `uname -m` says it in there
    pid: int  # of the VMM, on the host
    vcpus: int
    memory_mib: int
    run_dir: str
    isolation: Isolation


class Container(Document, frozen=True, kw_only=True):
    """`hyperctl inspect`."""

    id: str
    created: str
    path: str
    args: list[str]
    state: ContainerStateDocument
    image: str  # "sha256:…"
    name: str  # "/web"
    restart_count: int
    log_path: str
    log_attributes: dict[str, str] = {}  # what each line of the log says of it, with `logs --details`
    platform: str = "linux"
    architecture: str = ""  # of the VM that runs, or that a start would make
    driver: str = "overlay"  # how the writable layer lies above the image
    host_config: HostConfig
    config: ProcessConfig
    mounts: list[MountPoint]
    network_settings: NetworkSettings
    pod: PodRef
    vm: Vm | None  # None while the pod does not run
    isolation: Isolation  # of the VM that runs, or of the one that a start would make
    as_asked: dict[str, Any] = {}  # of HostConfig, in the words of docker's client that made it
    size_rw: int | None = None  # bytes of disk that it has written, when asked for
    size_root_fs: int | None = None  # the same, and its image's


class WaitResult(Document, frozen=True, kw_only=True):
    status_code: int


class Top(Document, frozen=True, kw_only=True):
    titles: list[str]
    processes: list[list[str]]


class Exec(Document, frozen=True, kw_only=True):
    id: str = msgspec.field(name="ID")
    container_id: str = msgspec.field(name="ContainerID")
    running: bool
    exit_code: int | None  # None while it runs
    pid: int
    tty: bool
    open_stdin: bool
    open_stdout: bool = True
    open_stderr: bool = True
    privileged: bool = False
    detach_keys: str = ""
    command: list[str]


class CpuUsage(msgspec.Struct, frozen=True, kw_only=True):
    total_usage: int  # nanoseconds
    usage_in_usermode: int
    usage_in_kernelmode: int


class ThrottlingData(msgspec.Struct, frozen=True, kw_only=True):
    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0  # ns


class CpuStats(msgspec.Struct, frozen=True, kw_only=True):
    cpu_usage: CpuUsage
    throttling_data: ThrottlingData = ThrottlingData()
    online_cpus: int


class MemoryStats(msgspec.Struct, frozen=True, kw_only=True):
    usage: int  # bytes
    limit: int


class PidsStats(msgspec.Struct, frozen=True, kw_only=True):
    current: int


class NetworkStats(msgspec.Struct, frozen=True, kw_only=True):
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


class BlkioStats(msgspec.Struct, frozen=True, kw_only=True):
    read_bytes: int
    write_bytes: int


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """One sample, in docker's words. A percentage of CPU takes two: their totals' difference by their `read`s'."""

    id: str
    name: str  # "/web"
    read: str
    cpu_stats: CpuStats
    memory_stats: MemoryStats
    pids_stats: PidsStats
    blkio_stats: BlkioStats
    networks: dict[str, NetworkStats]


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of output as it was kept; in JSON `data` is base64."""

    stream: Literal[1, 2]  # stdout, stderr
    time_ns: int
    data: bytes


class Actor(Document, frozen=True, kw_only=True):
    id: str = msgspec.field(name="ID")
    attributes: dict[str, str]


class Event(Document, frozen=True, kw_only=True):
    status: str = msgspec.field(name="status", default="")  # this and the next two: of a container or an image, as
    id: str = msgspec.field(name="id", default="")  # docker's clients of old read them
    origin: str = msgspec.field(name="from", default="")  # the image of a container
    type: Literal["container", "pod", "image", "volume", "network", "daemon"]
    action: str  # create, start, die, …
    actor: Actor
    scope: str = msgspec.field(name="scope", default="local")
    time: int = msgspec.field(name="time")  # seconds
    time_nano: int = msgspec.field(name="timeNano")


PodState = Literal["created", "running", "paused", "suspended", "exited"]


class PodEntry(Document, frozen=True, kw_only=True):
    """A line of `hyperctl pod ls`."""

    id: str
    name: str
    created: int
    state: PodState
    implicit: bool  # made for one container by `hyperctl run|create`
    vcpus: int
    memory_mib: int
    labels: dict[str, str]
    containers: list[str]  # names
    owner: str = ""  # the engine whose it is; "": it is ours
    kube: str = ""  # what a kubelet calls it: NAMESPACE/NAME


class Pod(Document, frozen=True, kw_only=True):
    id: str
    name: str
    created: str
    state: PodState
    implicit: bool
    spec: PodSpec
    network_settings: NetworkSettings
    containers: list[ContainerEntry]
    architecture: str = ""  # as of a container
    vm: Vm | None
    isolation: Isolation


class ImageEntry(Document, frozen=True, kw_only=True):
    """A line of `hyperctl images`."""

    id: str  # "sha256:…"
    repo_tags: list[str]
    repo_digests: list[str]
    created: int
    size: int  # bytes
    labels: dict[str, str]
    containers: int
    platform: str = ""  # "linux/arm64"


class RootFs(Document, frozen=True, kw_only=True):
    type: str = "layers"
    layers: list[str]


class Image(Document, frozen=True, kw_only=True):
    id: str
    repo_tags: list[str]
    repo_digests: list[str]
    parent: str  # the image that it was made of here; "" when it came from elsewhere, or that has gone
    comment: str
    created: str
    author: str
    config: ProcessConfig
    architecture: str
    variant: str
    os: str
    size: int
    root_fs: RootFs = msgspec.field(name="RootFS")
    container: str = ""  # that it was committed of, as docker has it
    container_config: dict[str, Any] = {}
    pinned: bool = False  # the setting `pinned_images` names it: what removes unused ones passes it over


class HistoryEntry(Document, frozen=True, kw_only=True):
    id: str  # "<missing>" where docker says so
    created: int
    created_by: str
    comment: str
    size: int
    tags: list[str]


class Change(Document, frozen=True, kw_only=True):
    """Something that a container has made of its image."""

    path: str
    kind: Literal[0, 1, 2]  # changed, added, deleted: docker's numbers


class ImageRemoved(Document, frozen=True, kw_only=True):
    """What a removal did, in order: each entry has one of the two."""

    untagged: str = ""
    deleted: str = ""


class ImageRef(Document, frozen=True, kw_only=True):
    id: str
    name: str  # "" when it has none


class Pruned(Document, frozen=True, kw_only=True):
    deleted: list[str]
    space_reclaimed: int  # bytes


class Volume(Document, frozen=True, kw_only=True):
    name: str
    driver: str = "local"
    mountpoint: str
    created_at: str
    labels: dict[str, str]
    options: dict[str, str] = {}  # of a folder of this host that it is
    scope: str = "local"
    size: int | None = None  # bytes of disk that its files take, when asked for


class SubnetConfig(Document, frozen=True, kw_only=True):
    subnet: str
    ip_range: str = msgspec.field(name="IPRange", default="")
    gateway: str = ""
    auxiliary_addresses: dict[str, str] = {}  # that no pod gets


class Ipam(Document, frozen=True, kw_only=True):
    """Where the addresses of a network come from."""

    driver: str = "default"
    options: dict[str, str] = {}
    config: list[SubnetConfig]


class NetworkMember(Document, frozen=True, kw_only=True):
    """A container that has an interface in a network."""

    name: str
    mac_address: str
    ipv4_address: str = msgspec.field(name="IPv4Address")  # "10.1.2.3/24"
    ipv6_address: str = msgspec.field(name="IPv6Address")


class Network(Document, frozen=True, kw_only=True):
    name: str
    id: str
    created: str
    scope: str = "local"
    driver: str = "bridge"  # of the one that is none: "null"
    enable_ipv6: bool = msgspec.field(name="EnableIPv6")
    ipam: Ipam = msgspec.field(name="IPAM")
    internal: bool
    attachable: bool = False
    ingress: bool = False
    containers: dict[str, NetworkMember] = {}  # by their ids; those that run, and in a list none
    options: dict[str, str]
    labels: dict[str, str]


class Kernel(Document, frozen=True, kw_only=True):
    """A kernel bundle. `current`: the one that a new VM boots."""

    name: str
    version: str
    architecture: str
    digest: str
    size: int
    current: bool


class Forked(Document, frozen=True, kw_only=True):
    """The new containers, in the order of their numbers."""

    ids: list[str]


class Checkpoint(Document, frozen=True, kw_only=True):
    """A container's machine at one moment. The container may have gone since."""

    name: str
    container_id: str = msgspec.field(name="ContainerID")
    container_name: str
    image: str
    created_at: str
    size: int  # bytes of disk
    vmm: str  # which alone can go on from it


class Template(Document, frozen=True, kw_only=True):
    """A guest that later ones are cloned from. `size`: bytes of memory; `clones`: guests that came from it."""

    kernel: str
    architecture: str = ""
    vcpus: int
    memory_mib: int
    network: bool
    tenant: str = ""
    accelerator: str
    created_at: str
    size: int
    clones: int


class Pool(Document, frozen=True, kw_only=True):
    """VMs of one size that wait: so many are wanted, wait now, became a pod's, were thrown away as useless."""

    architecture: str = ""
    vcpus: int
    memory_mib: int
    share: bool = False  # they are for pods that share folders
    network: bool = True  # for those with an interface
    tenant: str = ""
    wanted: int
    waiting: int
    taken: int
    poisoned: int
    reason: str = ""  # why fewer wait than are wanted


class Factory(Document, frozen=True, kw_only=True):
    """Where guests come from: `kind` cache, template or direct, as the settings say."""

    kind: str
    scope: str = "global"  # who shares them: global, tenant, none
    templates: list[Template]
    pools: list[Pool]
    warnings: list[str] = []  # what could not be made, and why; it is tried again


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a part of a long call is: `id` names the part (a layer), `total` is 0 when nobody knows."""

    id: str
    action: str
    current: int = 0
    total: int = 0


class Pushed(Document, frozen=True, kw_only=True):
    """A manifest that a registry has under a tag."""

    name: str  # of the repository, in full
    tag: str
    digest: str
    size: int  # bytes of the manifest


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A manifest or an index of some, in OCI's words."""

    media_type: str
    digest: str
    size: int  # bytes


class Platform(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={"os_version": "os.version", "os_features": "os.features"},
):
    """What an image runs on, in OCI's words."""

    os: str = ""
    architecture: str = ""
    variant: str = ""
    os_version: str = ""
    os_features: list[str] = []


class Distribution(Document, frozen=True, kw_only=True):
    """What a registry has under a name, and for which platforms."""

    descriptor: Descriptor
    platforms: list[Platform]


class PushDone(msgspec.Struct, frozen=True, kw_only=True):
    """The last line of a push that succeeded."""

    pushed: list[Pushed]


class BuildOutput(msgspec.Struct, frozen=True, kw_only=True):
    """What a build prints: of itself, and of the commands that it runs."""

    stream: str


class BuildStage(msgspec.Struct, frozen=True, kw_only=True):
    """A stage of a build is done, and this is its image. That of the last stage is what was asked for."""

    stage: str


class ImagesDone(msgspec.Struct, frozen=True, kw_only=True):
    """The last line of a pull or load that succeeded."""

    images: list[ImageRef]


class KernelDone(msgspec.Struct, frozen=True, kw_only=True):
    """The last line of a kernel's fetch or build that succeeded."""

    kernel: Kernel


class Version(Document, frozen=True, kw_only=True):
    version: str
    api_version: str
    python_version: str
    os: str = "linux"
    arch: str
    kernel_version: str


class Hypervisor(Document, frozen=True, kw_only=True):
    name: str
    version: str


class Registry(Document, frozen=True, kw_only=True):
    name: str  # of its images: "docker.io", "registry.example:5000"
    mirrors: list[str]  # asked first, in order
    insecure: bool  # plain http will do, or a certificate that nobody knows


class Architecture(Document, frozen=True, kw_only=True):
    """Of guests: how those are held, and what they boot here."""

    name: str  # as `uname -m` says it in there
    platform: str  # of their images: "linux/arm64"
    isolation: Isolation
    kernel: str  # the bundle's name; "" when there is none
    lacks: str = ""  # why there can be none of them now, and what to do


class Info(Document, frozen=True, kw_only=True):
    name: str  # of the host
    server_version: str
    root: str
    run: str
    pods: int
    containers: int
    containers_running: int
    containers_paused: int
    containers_stopped: int
    images: int
    ncpu: int = msgspec.field(name="NCPU")
    mem_total: int  # bytes
    operating_system: str
    kernel_version: str  # of the host
    architecture: str
    hypervisor: Hypervisor
    guest_kernel: str  # the bundle's name; "" when there is none
    isolation: Isolation
    apparmor: bool = False  # a container can have a profile of this host
    warnings: list[str]
    registries: list[Registry] = []  # Docker Hub, and those that the settings name
    guests: list[Architecture] = []  # whose images this host runs, its own first


class Check(Document, frozen=True, kw_only=True):
    name: str
    status: Literal["ok", "warning", "failed"]
    detail: str
    advice: str = ""


class Doctor(Document, frozen=True, kw_only=True):
    checks: list[Check]
    isolation: Isolation
