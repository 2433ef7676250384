"""A container that somebody else's bundle describes, for an engine that has its own images. Frozen values."""

from typing import Literal

from hypercontainer.model.container import ContainerConfig, Process, Value
from hypercontainer.model.record import StandInRecord

Status = Literal["created", "running", "paused", "stopped"]  # OCI's words


class Bind(Value, frozen=True, kw_only=True):
    """A folder or file of the host that is shown in the container."""

    target: str
    source: str
    read_only: bool = False


class Bundle(Value, frozen=True, kw_only=True):
    """What is to be made."""

    owner: str  # whose it is: runv's --root
    id: str  # unique for its owner
    path: str
    oci_version: str
    annotations: dict[str, str] = {}
    rootfs: str
    read_only: bool = False
    config: ContainerConfig  # its binds are among the mounts, by target
    binds: list[Bind] = []
    netns: str  # path of the network namespace whose interfaces it has
    vcpus: int = 0
    memory_mib: int = 0
    stand_in: StandInRecord


class BundleExec(Value, frozen=True, kw_only=True):
    """One more process in one that runs."""

    process: Process
    rows: int = 0
    columns: int = 0
    stand_in: StandInRecord


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
