"""Messages of containerd's shim protocol: its service Task, of version 2 or 3, which differ by name, and its events.

Names, numbers and kinds are containerd's: they are compared with what its binary says.
"""

from dataclasses import dataclass
from enum import IntEnum

from hypercontainer.lib import protobuf
from hypercontainer.lib.protobuf import field, message, repeated

TASK = "containerd.task.v2.Task"
TASKS = (TASK, "containerd.task.v3.Task")
EVENTS = "containerd.services.events.ttrpc.v1.Events"


class Status(IntEnum):
    """Of a process."""

    UNKNOWN, CREATED, RUNNING, STOPPED, PAUSED, PAUSING = range(6)


@dataclass(frozen=True, kw_only=True)
class Empty:
    pass


@dataclass(frozen=True, kw_only=True)
class Any:
    type_url: str = field(1, "string")
    value: bytes = field(2, "bytes")


@dataclass(frozen=True, kw_only=True)
class Timestamp:
    seconds: int = field(1, "int64")
    nanos: int = field(2, "int32")


def timestamp(ns: int) -> Timestamp:
    return Timestamp(seconds=ns // 10**9, nanos=ns % 10**9)


def any_of(name: str, found: object) -> Any:
    """`name`: the message's, with its package."""
    return Any(type_url=name, value=protobuf.encode(found))


# containerd.types


@dataclass(frozen=True, kw_only=True)
class Mount:
    type: str = field(1, "string")
    source: str = field(2, "string")
    target: str = field(3, "string")
    options: list[str] = repeated(4, "string")


@dataclass(frozen=True, kw_only=True)
class ProcessInfo:
    pid: int = field(1, "uint32")
    info: Any | None = message(2, Any)


# containerd.task.v2


@dataclass(frozen=True, kw_only=True)
class CreateTaskRequest:
    id: str = field(1, "string")
    bundle: str = field(2, "string")
    rootfs: list[Mount] = repeated(3, "message", Mount)
    terminal: bool = field(4, "bool")
    stdin: str = field(5, "string")
    stdout: str = field(6, "string")
    stderr: str = field(7, "string")
    checkpoint: str = field(8, "string")
    parent_checkpoint: str = field(9, "string")
    options: Any | None = message(10, Any)


@dataclass(frozen=True, kw_only=True)
class CreateTaskResponse:
    pid: int = field(1, "uint32")


@dataclass(frozen=True, kw_only=True)
class DeleteRequest:
    id: str = field(1, "string")
    exec_id: str = field(2, "string")


@dataclass(frozen=True, kw_only=True)
class DeleteResponse:
    pid: int = field(1, "uint32")
    exit_status: int = field(2, "uint32")
    exited_at: Timestamp | None = message(3, Timestamp)


@dataclass(frozen=True, kw_only=True)
class ExecProcessRequest:
    id: str = field(1, "string")
    exec_id: str = field(2, "string")
    terminal: bool = field(3, "bool")
    stdin: str = field(4, "string")
    stdout: str = field(5, "string")
    stderr: str = field(6, "string")
    spec: Any | None = message(7, Any)


@dataclass(frozen=True, kw_only=True)
class ResizePtyRequest:
    id: str = field(1, "string")
    exec_id: str = field(2, "string")
    width: int = field(3, "uint32")
    height: int = field(4, "uint32")


@dataclass(frozen=True, kw_only=True)
class StateRequest:
    id: str = field(1, "string")
    exec_id: str = field(2, "string")


@dataclass(frozen=True, kw_only=True)
class StateResponse:
    id: str = field(1, "string")
    bundle: str = field(2, "string")
    pid: int = field(3, "uint32")
    status: int = field(4, "enum")
    stdin: str = field(5, "string")
    stdout: str = field(6, "string")
    stderr: str = field(7, "string")
    terminal: bool = field(8, "bool")
    exit_status: int = field(9, "uint32")
    exited_at: Timestamp | None = message(10, Timestamp)
    exec_id: str = field(11, "string")


@dataclass(frozen=True, kw_only=True)
class KillRequest:
    id: str = field(1, "string")
    exec_id: str = field(2, "string")
    signal: int = field(3, "uint32")
    all: bool = field(4, "bool")


@dataclass(frozen=True, kw_only=True)
class CloseIORequest:
    id: str = field(1, "string")
    exec_id: str = field(2, "string")
    stdin: bool = field(3, "bool")


@dataclass(frozen=True, kw_only=True)
class PidsRequest:
    id: str = field(1, "string")


@dataclass(frozen=True, kw_only=True)
class PidsResponse:
    processes: list[ProcessInfo] = repeated(1, "message", ProcessInfo)


@dataclass(frozen=True, kw_only=True)
class StartRequest:
    id: str = field(1, "string")
    exec_id: str = field(2, "string")


@dataclass(frozen=True, kw_only=True)
class StartResponse:
    pid: int = field(1, "uint32")


@dataclass(frozen=True, kw_only=True)
class WaitRequest:
    id: str = field(1, "string")
    exec_id: str = field(2, "string")


@dataclass(frozen=True, kw_only=True)
class WaitResponse:
    exit_status: int = field(1, "uint32")
    exited_at: Timestamp | None = message(2, Timestamp)


@dataclass(frozen=True, kw_only=True)
class StatsRequest:
    id: str = field(1, "string")


@dataclass(frozen=True, kw_only=True)
class StatsResponse:
    stats: Any | None = message(1, Any)


@dataclass(frozen=True, kw_only=True)
class ConnectRequest:
    id: str = field(1, "string")


@dataclass(frozen=True, kw_only=True)
class ConnectResponse:
    shim_pid: int = field(1, "uint32")
    task_pid: int = field(2, "uint32")
    version: str = field(3, "string")


@dataclass(frozen=True, kw_only=True)
class ShutdownRequest:
    id: str = field(1, "string")
    now: bool = field(2, "bool")


@dataclass(frozen=True, kw_only=True)
class PauseRequest:
    id: str = field(1, "string")


@dataclass(frozen=True, kw_only=True)
class ResumeRequest:
    id: str = field(1, "string")


@dataclass(frozen=True, kw_only=True)
class CheckpointTaskRequest:
    id: str = field(1, "string")
    path: str = field(2, "string")
    options: Any | None = message(3, Any)


@dataclass(frozen=True, kw_only=True)
class UpdateTaskRequest:
    id: str = field(1, "string")
    resources: Any | None = message(2, Any)  # JSON


# containerd.events


@dataclass(frozen=True, kw_only=True)
class TaskIO:
    stdin: str = field(1, "string")
    stdout: str = field(2, "string")
    stderr: str = field(3, "string")
    terminal: bool = field(4, "bool")


@dataclass(frozen=True, kw_only=True)
class TaskCreate:
    container_id: str = field(1, "string")
    bundle: str = field(2, "string")
    rootfs: list[Mount] = repeated(3, "message", Mount)
    io: TaskIO | None = message(4, TaskIO)
    checkpoint: str = field(5, "string")
    pid: int = field(6, "uint32")


@dataclass(frozen=True, kw_only=True)
class TaskStart:
    container_id: str = field(1, "string")
    pid: int = field(2, "uint32")


@dataclass(frozen=True, kw_only=True)
class TaskDelete:
    container_id: str = field(1, "string")
    pid: int = field(2, "uint32")
    exit_status: int = field(3, "uint32")
    exited_at: Timestamp | None = message(4, Timestamp)
    id: str = field(5, "string")


@dataclass(frozen=True, kw_only=True)
class TaskExit:
    container_id: str = field(1, "string")
    id: str = field(2, "string")
    pid: int = field(3, "uint32")
    exit_status: int = field(4, "uint32")
    exited_at: Timestamp | None = message(5, Timestamp)


@dataclass(frozen=True, kw_only=True)
class TaskOOM:
    container_id: str = field(1, "string")


@dataclass(frozen=True, kw_only=True)
class TaskExecAdded:
    container_id: str = field(1, "string")
    exec_id: str = field(2, "string")


@dataclass(frozen=True, kw_only=True)
class TaskExecStarted:
    container_id: str = field(1, "string")
    exec_id: str = field(2, "string")
    pid: int = field(3, "uint32")


@dataclass(frozen=True, kw_only=True)
class TaskPaused:
    container_id: str = field(1, "string")


@dataclass(frozen=True, kw_only=True)
class TaskResumed:
    container_id: str = field(1, "string")


@dataclass(frozen=True, kw_only=True)
class TaskCheckpointed:
    container_id: str = field(1, "string")
    checkpoint: str = field(2, "string")


TOPICS: dict[type, str] = {
    TaskCreate: "/tasks/create",
    TaskStart: "/tasks/start",
    TaskExit: "/tasks/exit",
    TaskDelete: "/tasks/delete",
    TaskOOM: "/tasks/oom",
    TaskExecAdded: "/tasks/exec-added",
    TaskExecStarted: "/tasks/exec-started",
    TaskPaused: "/tasks/paused",
    TaskResumed: "/tasks/resumed",
    TaskCheckpointed: "/tasks/checkpointed",
}

# containerd.services.events.ttrpc.v1


@dataclass(frozen=True, kw_only=True)
class Envelope:
    timestamp: Timestamp | None = message(1, Timestamp)
    namespace: str = field(2, "string")
    topic: str = field(3, "string")
    event: Any | None = message(4, Any)


@dataclass(frozen=True, kw_only=True)
class ForwardRequest:
    envelope: Envelope | None = message(1, Envelope)
