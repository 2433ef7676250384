"""A container that somebody else's bundle describes, for an engine that has its own images. Frozen values."""

from typing import Literal

import msgspec

from hypercontainer.model.container import ContainerConfig, Hook, IdMap, Process, Resources, Value
from hypercontainer.model.documents import NetworkStats
from hypercontainer.model.record import FileSystem, ProcessRef, StandInRecord

Status = Literal["created", "running", "paused", "stopped"]  # OCI's words


class Bind(Value, frozen=True, kw_only=True):
    """A folder or file of the host that is shown in the container."""

    target: str
    source: str
    read_only: bool = False
    ids: IdMap | None = None


class Disk(Value, frozen=True, kw_only=True):
    """A file system of the host's, in a file or on a block device, that the machine has as a disk."""

    path: str
    type: FileSystem
    read_only: bool
    device: bool = False  # it is a block device
    options: list[str] = []  # of its mount


class Bundle(Value, frozen=True, kw_only=True):
    """What is to be made."""

    owner: str  # whose it is: runv's --root
    id: str  # unique for its owner
    path: str
    oci_version: str
    annotations: dict[str, str] = {}
    rootfs: str
    read_only: bool = False
    disks: list[Disk] = []  # in place of `rootfs`: one, or EROFS ones, the uppermost first, and one that is written
    config: ContainerConfig  # its binds are among the mounts, by target
    binds: list[Bind] = []
    netns: str  # path of the network namespace whose interfaces it has; who has that already is in its machine
    namespaces: dict[str, str] = {}  # paths of those of others that it is to be in, by "pid", "ipc" and "uts"
    sandbox: str = ""  # id of the container that its engine made first in its pod, whose machine it is to be in
    pinned: bool = False  # paths of `namespaces` may be places where its engine keeps those of a pod
    machine: Resources = Resources()  # what its engine says that all of its pod may use
    domainname: str = ""
    cgroup: str = ""
    start_container: list[Hook] = []
    poststart: list[Hook] = []
    poststop: list[Hook] = []
    stand_in: StandInRecord
    restored: bool = False  # it goes on from a checkpoint instead of being started


class BundleExec(Value, frozen=True, kw_only=True):
    """One more process in one that runs."""

    process: Process
    rows: int = 0
    columns: int = 0
    stand_in: StandInRecord
    name: str = ""  # by which its owner asks for it later; "": nobody will


class BundleImages(Value, frozen=True, kw_only=True):
    """Where the processes of a container are saved, and CRIU's log: mount trees (lib.mount.clone), which stay the
    caller's to close. `flags` are CRIU's."""

    images: int
    work: int
    flags: list[str] = []


class BundleUpdate(Value, frozen=True, kw_only=True):
    """Limits that are to be others; None, and what `unified` does not name, stays. 0 lifts one."""

    memory_bytes: int | None = None
    cpu_quota_us: int | None = None
    cpu_period_us: int | None = None
    cpu_shares: int | None = None
    pids: int | None = None
    unified: dict[str, str] = {}

    def of(self, before: Resources) -> Resources:
        fields = {name: getattr(self, name) for name in self.__struct_fields__ if name != "unified"}
        said = {name: value for name, value in fields.items() if value is not None}
        return msgspec.structs.replace(before, unified={**before.unified, **self.unified}, **said)


class BundleUsage(Value, frozen=True, kw_only=True):
    """What a container uses, as the guest counts it; a limit of 0 is none."""

    cpu_ns: int
    user_ns: int
    system_ns: int
    periods: int  # of its quota, in which it ran
    throttled_periods: int  # in which it had to stop
    throttled_ns: int
    memory_bytes: int
    memory_limit_bytes: int
    inactive_file_bytes: int
    anon_bytes: int
    file_bytes: int
    mapped_bytes: int  # of files
    page_faults: int
    major_page_faults: int
    pids: int
    pids_limit: int
    read_bytes: int
    written_bytes: int
    reads: int
    writes: int
    oom_kills: int  # since it was made
    memory_peak_bytes: int | None = None  # None: its guest, or the kernel there, does not tell
    memory_kernel_bytes: int | None = None
    memory_limit_hits: int | None = None
    swap_bytes: int | None = None
    swap_limit_bytes: int | None = None  # what of the guest's swap it may have: 0 is none
    threads_limit: int | None = None
    networks: dict[str, NetworkStats] = {}


class BundleEnd(Value, frozen=True, kw_only=True):
    """Whether a container has ended, and that its memory was too little."""

    ended: bool
    oom: bool = False


class BundleState(Value, frozen=True, kw_only=True):
    """A container as its owner may know it."""

    id: str
    oci_version: str
    status: Status
    pid: int  # of its stand-in; 0: it is stopped
    bundle: str
    rootfs: str
    created_ns: int
    annotations: dict[str, str] = {}
    poststart: list[Hook] = []
    poststop: list[Hook] = []
    stand_in: ProcessRef
    exit_code: int = 0  # once it is stopped
    finished_ns: int = 0
    oom_killed: bool = False
