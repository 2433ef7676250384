"""What is true, as kept on disk: a versioned record a pod. See docs/state.md."""

from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGKILL, SIGTERM
from typing import Any, Literal

import msgspec

from hypercontainer.lib import document
from hypercontainer.model import arch, upgrade
from hypercontainer.model import state as states
from hypercontainer.model.container import Below, ContainerConfig, Hook, IdMap
from hypercontainer.model.kube import KubeContainer, KubePod
from hypercontainer.model.spec import ContainerSpec, Healthcheck, PodSpec
from hypercontainer.model.state import State, Verb

VERSION = document.version(upgrade.POD)
MOST_NICS = 8  # network interfaces that a pod has at a time

FileSystem = Literal["erofs", "ext4"]  # on disks, of those that every guest's kernel has


class Record(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The ground of records. Mutable: the engine changes them under the pod's lock and saves them whole."""


# What runs a guest's instructions: KVM, QEMU's emulation, Xen
Accelerator = Literal["kvm", "tcg", "xen"]


class DiskRecord(Record, kw_only=True):
    """A disk of the guest: its number there, backing file ("": nothing yet, a disk of zeroes that is to get one)."""

    target: int
    path: str
    read_only: bool
    device: bool = False  # `path` is a block device


class DiskRootfsRecord(Record, kw_only=True, tag_field="kind", tag="disk"):
    """A root file system on a disk: an image's, or another. With `scratch`, a disk for all that the container changes,
    it stays as it is."""

    disk: DiskRecord
    type: FileSystem = "erofs"
    options: list[str] = []  # of its mount
    scratch: DiskRecord | None = None


class FolderRootfsRecord(Record, kw_only=True, tag_field="kind", tag="folder"):
    """A root file system that is a folder of this host, with all that is mounted in it."""

    path: str
    read_only: bool
    share_path: str = ""  # where it is bound below the pod's share


class StackedRootfsRecord(Record, kw_only=True, tag_field="kind", tag="stacked"):
    """A root file system of several disks, which are another engine's: EROFS ones that lie over each other, the
    uppermost first, and over them, if there is one, one of ext4 for all that the container changes."""

    lowers: list[DiskRecord]
    upper: DiskRecord | None = None


RootfsRecord = DiskRootfsRecord | FolderRootfsRecord | StackedRootfsRecord


class LogSinkRecord(Record, kw_only=True, tag_field="kind", tag="log"):
    """A log of ours in the container's folder, which `logs` reads. 0 = as the settings say."""

    max_bytes: int = 0  # of a file
    files: int = 0


class RawSinkRecord(Record, kw_only=True, tag_field="kind", tag="raw"):
    """A fifo or file that the caller handed over, for output as it is."""

    path: str
    streams: list[Literal["stdout", "stderr"]]
    device: int  # with the inode: tells what was handed over from another thing that has its path later
    inode: int


class CriSinkRecord(Record, kw_only=True, tag_field="kind", tag="cri"):
    """A file in the format of Kubernetes' logs, at a path that the kubelet chose."""

    path: str


class StandInRecord(Record, kw_only=True, tag_field="kind", tag="stand-in"):
    """A process of this host that stands for one of a guest's, and has the stdio of whoever started it. Who connects
    and knows `key` is that."""

    key: str
    process: "ProcessRef"


class ExecRecord(Record, kw_only=True):
    """One more process in a container of another engine. Its file is named after it, and there until nobody will ask
    for its status."""

    version: int
    stand_in: StandInRecord
    name: str = ""  # the other engine's for it; "": that knows it by its stand-in alone
    status: int | None = None  # once it has ended
    finished_ns: int = 0


SinkRecord = LogSinkRecord | RawSinkRecord | CriSinkRecord | StandInRecord


class BundleRecord(Record, kw_only=True):
    """What a container is to the engine whose bundle describes it."""

    path: str
    oci_version: str
    annotations: dict[str, str] = {}
    cgroup: str = ""  # of its stand-in: lib/engine_cgroup.py says what it means
    start_container: list[Hook] = []  # the guest's to run
    poststart: list[Hook] = []  # runv's to run
    poststop: list[Hook] = []


class HopRecord(Record, kw_only=True):
    """One of several gateways of a route."""

    gateway: str
    device: str
    weight: int = 1


class RouteRecord(Record, kw_only=True):
    """Where the guest sends what is for `dst`."""

    dst: str  # "default", of the gateway's family, or "10.0.0.0/8"
    gateway: str  # "": it is on the link of `device`
    device: str = ""  # the interface's name in the guest; "": the one that the gateway is reached by
    kind: str = ""  # "blackhole", "unreachable", "prohibit", "throw": it leads nowhere
    table: int = 0  # 0: the main one
    metric: int = 0
    source: str = ""  # the address that is chosen for what goes that way
    metrics: list[int] = []  # RTAX_… of the kernel's, and its value, one after the other: its MTU
    onlink: bool = False  # its gateway is, whatever other routes say
    hops: list[HopRecord] = []  # in place of `gateway` and `device`, when there are several


class RuleRecord(Record, kw_only=True):
    """Which table of routes is looked at for what comes from `source`, or goes to `dst`."""

    priority: int
    family: int  # 4 or 6
    table: int
    source: str = ""
    dst: str = ""


class NeighbourRecord(Record, kw_only=True):
    """An address on the link that needs no asking for."""

    address: str
    mac: str


Model = Literal["tcfilter", "macvtap"]


class NicRecord(Record, kw_only=True):
    """A network interface of a pod: everything `Network.remove` needs to remove it again."""

    number: int = 0  # among those of its guest
    provisional: bool = False  # it comes or goes: whoever finds it takes it away
    tap: str  # no other interface of this host's pods has that name
    mac: str
    name: str = "eth0"  # in the guest
    network: str = ""  # the name of that; "": none of hyperd's
    addresses: list[str]  # "192.168.123.5/24", "fd00::5/64"
    routes: list[RouteRecord] = []
    rules: list[RuleRecord] = []
    neighbours: list[NeighbourRecord] = []
    mtu: int = 1500
    ports: list["PortRecord"] = []
    netns: str = ""  # where the tap is, beside an interface `name` of somebody else's; "": where hyperd is
    netns_inode: int = 0  # tells that one from another which has the path later
    model: Model = "tcfilter"  # how frames get from that interface to the tap

    @property
    def address(self) -> str:
        """Its first one of IPv4, or ""."""
        return next((address for address in self.addresses if ":" not in address), "")

    @property
    def address6(self) -> str:
        return next((address for address in self.addresses if ":" in address), "")

    @property
    def gateway(self) -> str:
        """Its default one of IPv4, or ""."""
        return next((g for g in self._gateways() if ":" not in g), "")

    @property
    def gateway6(self) -> str:
        return next((g for g in self._gateways() if ":" in g), "")

    def _gateways(self) -> list[str]:
        return [route.gateway for route in self.routes if route.dst == "default"]


class PortRecord(Record, kw_only=True):
    host_ip: str
    host_port: int
    container_port: int
    protocol: str


class SubnetRecord(Record, kw_only=True):
    subnet: str  # "10.1.2.0/24"
    gateway: str  # the host's own address in it
    ip_range: str = ""  # where addresses are chosen from; "": all of it
    reserved: dict[str, str] = {}  # addresses that no pod gets, by who has them


class NetworkRecord(Record, kw_only=True):
    """A network that hyperd has made, or is about to: a bridge, and all that the host does for it."""

    version: int
    id: str
    name: str
    bridge: str  # the name of that interface
    subnets: list[SubnetRecord]  # one of IPv4, and one of IPv6 if it has that
    internal: bool = False  # nothing leads out of it
    labels: dict[str, str] = {}
    options: dict[str, str] = {}  # docker's, as they were given
    created_ns: int


class ChainRecord(Record, kw_only=True):
    """A network that plugins of CNI make, one after the other."""

    name: str
    source: str  # the file that it is of
    cni_version: str  # that its plugins are spoken to in
    plugins: list[dict[str, Any]]  # the configuration of each
    disable_check: bool = False
    disable_gc: bool = False


class AttachmentRecord(Record, kw_only=True):
    """What plugins of CNI have made for a pod, or are about to: all that they are to be told again when it goes."""

    version: int
    id: str  # of the pod
    netns: str  # path of its network namespace
    interface: str  # how that is called which the chain makes in there
    chain: ChainRecord
    arguments: dict[str, str] = {}  # CNI_ARGS
    capabilities: dict[str, Any] = {}  # what each plugin gets that asks for it
    result: dict[str, Any] | None = None  # that of the last plugin which has said one
    connected: bool = False  # that was the last one of the chain
    created_ns: int


class ProcessRef(Record, kw_only=True):
    """A host process, told apart from a later one with the same pid by its start time (clock ticks since boot)."""

    pid: int
    start_time: int


class GuestRecord(Record, kw_only=True):
    """A running virtual machine: enough to attach to it again."""

    driver: str
    arch: str = msgspec.field(default_factory=arch.host_name)
    process: ProcessRef
    run_dir: str
    accelerator: Accelerator
    boot_id: str
    uid: int
    helpers: list[ProcessRef] = []  # virtiofsd


class Streams(Record, kw_only=True):
    stdin: int = 0
    stdout: int = 0
    stderr: int = 0


class SocketRecord(Record, kw_only=True):
    """Who may connect to a socket of this host."""

    uid: int
    gid: int
    mode: int


class MountRecord(Record, kw_only=True):
    type: Literal["bind", "volume", "tmpfs"]
    target: str
    source: str  # host path, volume name or ""
    path: str = ""  # where that is on this host
    subpath: str = ""  # what of a volume it is
    read_only: bool
    share_path: str = ""  # where it is bound below the pod's share
    populate: bool = False
    anonymous: bool = False  # a volume that was invented for this container
    size_mib: int = 0
    mode: int = 0o1777
    options: list[str] = []  # of a tmpfs
    ids: IdMap | None = None  # of a bind whose files belong to others in the machine
    below: Below = "same"  # what is mounted there on this host
    socket: SocketRecord | None = None  # of a bind that is one, as it was when it was there last

    @property
    def shared(self) -> bool:
        """The guest is shown it by the pod's share."""
        return self.type != "tmpfs" and self.socket is None


class ProbeRecord(Record, kw_only=True):
    """A probe that has ended. -1: it could not be run, or took too long."""

    started_ns: int
    ended_ns: int
    exit_code: int
    output: str


class HealthRecord(Record, kw_only=True):
    """Whether a container is well. When it does not run it is not: docker calls that unhealthy."""

    status: Literal["starting", "healthy", "unhealthy"] = "starting"
    failing_streak: int = 0
    log: list[ProbeRecord] = []  # the last ones


class BlockRecord(Record, kw_only=True):
    """A block device of this host that a container has as a device: where, and who may use that."""

    path: str
    disk: DiskRecord
    mode: int
    uid: int
    gid: int


class ImageVolumeRecord(Record, kw_only=True):
    """An image that is mounted in a container, or what is at `subpath` of it."""

    target: str
    image: str  # as it was named
    image_id: str
    subpath: str = ""
    disk: DiskRecord


class IdentityRecord(Record, kw_only=True):
    """Who a process began as, with ids as they are inside."""

    uid: int
    gid: int
    groups: list[int] = []


class ContainerRecord(Record, kw_only=True):
    id: str
    name: str
    spec: ContainerSpec
    image_id: str  # digest of the image's config
    image_name: str
    config: ContainerConfig  # what runs: all that the guest is asked of it
    rootfs: RootfsRecord
    sinks: list[SinkRecord]  # where its output goes; each keeps its place in this list
    stop_signal: int
    healthcheck: Healthcheck | None = None  # what was asked for, or else the image says
    probe: list[str] = []  # the command that this comes to; [] = nobody asks
    labels: dict[str, str]
    mounts: list[MountRecord]
    exposed_ports: list[str] = []  # "80/tcp": as the image says
    volumes: list[str] = []  # the same: the targets that have to be volumes
    joined: str = ""  # id of the container whose network it shares, into whose pod it came for that
    created_ns: int
    state: State = "created"  # changed by `move` alone
    started_ns: int = 0
    finished_ns: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    restart_count: int = 0
    health: HealthRecord | None = None  # from its first start on, where there is a `probe`
    folder: bool = False  # it was made with one, and is removed when that is missing
    runs: int = 0  # how often it was started: tells the log's entries of one run from the next
    stopped_by_user: bool = False
    streams: Streams = msgspec.field(default_factory=Streams)
    bundle: BundleRecord | None = None  # of one that another engine has, see PodRecord.owner
    kube: KubeContainer | None = None  # of one in a kubelet's pod
    blocks: list[BlockRecord] = []
    images: list[ImageVolumeRecord] = []
    identity: IdentityRecord | None = None  # of its first process, where its guest was asked for that

    @property
    def stand_in(self) -> StandInRecord | None:
        """The process that stands for it on this host."""
        return next((sink for sink in self.sinks if isinstance(sink, StandInRecord)), None)

    @property
    def further_disks(self) -> list[DiskRecord]:
        """Those that are no part of its root file system."""
        return [*(block.disk for block in self.blocks), *(image.disk for image in self.images)]

    def begin_health(self) -> None:
        """A run begins: nobody knows yet whether it goes well."""
        if self.probe:
            self.health = HealthRecord(log=self.health.log if self.health else [])

    def signalled(self, number: int) -> None:
        """Somebody sends it a signal. It is stopped by that, as docker has it, but for a signal that is not its own one
        to stop."""
        own = self.spec.stop_signal or self.stop_signal != SIGTERM
        if not own or number in (SIGKILL, self.stop_signal) or self.spec.restart.name == "unless-stopped":
            self.stopped_by_user = True

    def check(self, verb: Verb) -> None:
        """WrongState when its state does not allow that."""
        states.check(verb, self.name, self.state)

    def move(self, to: State) -> None:
        """Be in another state from now on. ValueError for one that cannot follow: nobody should have asked."""
        if to != self.state and to not in states.MOVES[self.state]:
            raise ValueError(f"container {self.name} cannot become {to}: it is {self.state}")
        self.state = to

    @contextmanager
    def moving(self, to: State) -> Iterator[None]:
        """Be in another state for the block, and from then on; as before where the block fails."""
        before = self.state
        self.move(to)
        try:
            yield
        except BaseException:
            self.state = before
            raise


class SnapshotInfo(Record, kw_only=True):
    """What must be known of a guest that was saved while it ran, beside its memory, its devices and its disk."""

    vmm: str  # who can go on from it: "QEMU 7.2.22"
    shape: str  # digest of Hypervisor.shape
    vcpus: int
    memory_mib: int
    container: str  # its id in the guest
    mac: str  # that its interface had; "" without one
    streams: Streams
    offsets: tuple[int, int]  # of stdout and stderr: where the log ended
    time_ns: int


class PodRecord(Record, kw_only=True):
    version: int
    id: str
    name: str
    spec: PodSpec  # without its containers: they are below
    implicit: bool  # made by `hyperctl run|create` for a container: it goes when that and all who joined it go
    created_ns: int
    containers: list[ContainerRecord] = []
    arch: str = msgspec.field(default_factory=arch.host_name)  # of its machine, and so of all that runs in it
    owner: str = ""  # another engine, whose containers have names of their own; "": it is ours
    kube: KubePod | None = None  # what it is to a kubelet; with the share that its containers may need
    uid: int = 0  # the VMM runs as
    netns: str = ""  # path of a network namespace that somebody else made: its interfaces are the pod's
    nics: list[NicRecord] = []
    guest: GuestRecord | None = None
    paused: bool = False
    frozen: bool = False  # a copy is being taken: whoever finds this lets the guest go on
    provisional: bool = False  # a copy that nobody was told of yet, or a build's: whoever finds this removes it
    suspended: SnapshotInfo | None = None  # what is in the pod's folder for `resume`

    @property
    def lone(self) -> bool:
        """It was made for a container, and nobody has joined that."""
        return self.implicit and len(self.containers) == 1

    def sized_for(self, container: ContainerRecord) -> bool:
        """Its size is what `container` asked for, for which it was made."""
        return self.implicit and not container.joined
