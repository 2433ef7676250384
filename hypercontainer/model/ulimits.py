"""Limits of processes as docker names them, and as the kernel does."""

import msgspec

from hypercontainer.errors import InvalidInput
from hypercontainer.model.spec import Ulimit

NAMES = {
    "core": "RLIMIT_CORE",
    "cpu": "RLIMIT_CPU",
    "data": "RLIMIT_DATA",
    "fsize": "RLIMIT_FSIZE",
    "locks": "RLIMIT_LOCKS",
    "memlock": "RLIMIT_MEMLOCK",
    "msgqueue": "RLIMIT_MSGQUEUE",
    "nice": "RLIMIT_NICE",
    "nofile": "RLIMIT_NOFILE",
    "nproc": "RLIMIT_NPROC",
    "rss": "RLIMIT_RSS",
    "rtprio": "RLIMIT_RTPRIO",
    "rttime": "RLIMIT_RTTIME",
    "sigpending": "RLIMIT_SIGPENDING",
    "stack": "RLIMIT_STACK",
}
UNLIMITED = -1
MAX_NOFILE = 1 << 20  # fs.nr_open, which no limit may pass
HIGHEST = (1 << 63) - 1


class Rlimit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As the guest's agent takes it; -1 is no limit."""

    type: str
    soft: int
    hard: int


def resolve(limit: Ulimit) -> Rlimit:
    """Raises InvalidInput for a name that is none, and for limits that the kernel would refuse."""
    if limit.name not in NAMES:
        raise InvalidInput(f"invalid ulimit {limit.name[:40]!r}: give one of {', '.join(NAMES)}")
    for value in (limit.soft, limit.hard):
        if not UNLIMITED <= value <= HIGHEST:
            raise InvalidInput(f"invalid ulimit {limit.name}={value}: use 0 or more, or -1 for no limit")
    if limit.hard != UNLIMITED and not 0 <= limit.soft <= limit.hard:
        raise InvalidInput(
            f"invalid ulimit {limit.name}: the soft limit {limit.soft} is above the hard one {limit.hard}"
        )
    if limit.name == "nofile" and not 0 <= limit.hard <= MAX_NOFILE:
        raise InvalidInput(f"invalid ulimit nofile={limit.hard}: {MAX_NOFILE} is the most that a kernel allows")
    return Rlimit(type=NAMES[limit.name], soft=limit.soft, hard=limit.hard)
