"""OCI's words for how a process is scheduled -> the kernel's numbers. Pure."""

from collections.abc import Mapping

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.oci.document import Personality, Process
from hypercontainer.model.container import Scheduling

POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
IO_CLASS_SHIFT, IO_LEVELS = 13, 8
PERSONALITIES = {"LINUX": 0, "LINUX32": 8}


def scheduling(process: Process, personality: Personality | None) -> Scheduling:
    """InvalidInput for words that there are not."""
    found = Scheduling(personality=_personality(personality), io_priority=_io_priority(process))
    if (said := process.scheduler) is None:
        return found
    return Scheduling(
        policy=_number(POLICIES, said.policy, "process.scheduler.policy"),
        nice=said.nice,
        priority=said.priority,
        flags=sum(_number(FLAGS, flag, "process.scheduler.flags") for flag in set(said.flags or [])),
        runtime_ns=said.runtime,
        deadline_ns=said.deadline,
        period_ns=said.period,
        io_priority=found.io_priority,
        personality=found.personality,
    )


def _io_priority(process: Process) -> int:
    if (said := process.io_priority) is None:
        return 0
    if not 0 <= said.priority < IO_LEVELS:
        raise InvalidInput(f"invalid process.ioPriority.priority {said.priority}: 0 to {IO_LEVELS - 1}")
    return _number(IO_CLASSES, said.klass, "process.ioPriority.class") << IO_CLASS_SHIFT | said.priority


def _personality(said: Personality | None) -> int:
    if said is None:
        return 0
    if said.flags:
        raise InvalidInput("invalid linux.personality.flags: the specification names none")
    return _number(PERSONALITIES, said.domain, "linux.personality.domain")


def _number(known: Mapping[str, int], word: str, field: str) -> int:
    if word not in known:
        raise InvalidInput(f"invalid {field} {word[:40]!r}: it is one of {', '.join(known)}")
    return known[word]
