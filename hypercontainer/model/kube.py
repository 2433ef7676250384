"""What pods of a kubelet and their containers are to that: it is told again what it has said. Frozen values."""

from typing import Literal

from hypercontainer.model.container import Below, IdMap, Resources, Users, Value
from hypercontainer.model.pod_network import HostPort

ContainerState = Literal["created", "running", "exited"]
EventKind = Literal["created", "started", "stopped", "deleted"]


class KubePod(Value, frozen=True, kw_only=True):
    """The first four together are one pod's: a kubelet counts its attempts at the same."""

    name: str
    uid: str
    namespace: str
    attempt: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    handler: str = ""  # of its RuntimeClass
    logs: str = ""  # the folder of its containers' logs
    sysctls: dict[str, str] = {}  # of each container in it
    ports: list[HostPort] = []  # of this host that lead to it
    users: Users | None = None  # of the user namespace that its containers are in; None: the machine's
    request: str  # digest of what asked for it: the same again is no second one

    @property
    def identity(self) -> tuple[str, str, str, int]:
        return self.name, self.uid, self.namespace, self.attempt

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class KubeContainer(Value, frozen=True, kw_only=True):
    """The first two together are one container's of a pod."""

    name: str
    attempt: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    image: str  # as its pod names it
    log: str = ""  # path of the file of its output; "": nobody keeps that
    request: str

    @property
    def identity(self) -> tuple[str, int]:
        return self.name, self.attempt


class KubeDevice(Value, frozen=True, kw_only=True):
    """A device of this host, or one of those that every guest has, that a container is to have at `target`."""

    path: str
    target: str
    read_only: bool = False


class KubeImage(Value, frozen=True, kw_only=True):
    """An image, or what is at `subpath` of it, that a container is to have at `target`, read-only."""

    image: str
    target: str
    subpath: str = ""


class KubeIdentity(Value, frozen=True, kw_only=True):
    """Who the first process of a container began as."""

    uid: int
    gid: int
    groups: list[int] = []


class KubeSecurity(Value, frozen=True, kw_only=True):
    """Of a container that is to be: what docker has no words for."""

    seccomp: bytes | None = None  # classic BPF of its own; None = as its spec says
    ambient: list[str] = []  # capabilities that its programs keep, whose user is not root
    devices: list[KubeDevice] = []
    images: list[KubeImage] = []
    ids: dict[str, IdMap] = {}  # of what is mounted there: whose files are whose
    below: dict[str, Below] = {}  # of what is mounted there: what is with that which is mounted below it
    memberships: Literal["merge", "strict"] = "merge"  # groups that the image's files have its user in count, or not


USUAL = KubeSecurity()


class KubePodState(Value, frozen=True, kw_only=True):
    id: str
    pod: KubePod
    ready: bool  # its machine runs
    created_ns: int
    share_pid: bool = False
    addresses: list[str] = []  # the first is the pod's


class KubeMount(Value, frozen=True, kw_only=True):
    """A folder or file of this host in a container, or an image."""

    target: str
    source: str
    image: str = ""  # as it was named
    image_id: str = ""
    subpath: str = ""  # of that
    read_only: bool = False
    ids: IdMap | None = None  # whose its files are, where they are mapped
    below: Below = "same"


class KubeContainerState(Value, frozen=True, kw_only=True):
    id: str
    pod: str  # its id
    container: KubeContainer
    image_id: str
    state: ContainerState
    created_ns: int
    started_ns: int = 0  # 0: not yet
    finished_ns: int = 0
    exit_code: int = 0
    reason: str = ""  # a word for how it has ended
    message: str = ""
    mounts: list[KubeMount] = []
    resources: Resources = Resources()
    identity: KubeIdentity | None = None  # once it has begun
    user: str = ""  # that its first process has: "1000:100", or names
    stdin_once: bool = False  # its stdin ends with the first client that it had


class KubeEvent(Value, frozen=True, kw_only=True):
    """What has happened to a pod, or to one of its containers, and what was there right after it."""

    kind: EventKind
    id: str  # whom it has happened to: the pod's, or a container's
    time_ns: int
    pod: KubePodState
    containers: list[KubeContainerState]


class KubeFiles(Value, frozen=True, kw_only=True):
    """Of the file system that a container's root is on, in its machine, and what its processes have open. None: an
    older guest does not tell, or it could not be counted in time."""

    disk_bytes: int | None = None
    inodes: int | None = None
    inodes_free: int | None = None
    descriptors: int | None = None
    sockets: int | None = None


class DiskUsage(Value, frozen=True, kw_only=True):
    """What a folder of ours has on its disk."""

    path: str
    bytes: int
    files: int
