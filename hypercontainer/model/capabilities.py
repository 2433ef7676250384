"""What root may do in a container: docker's default set, and the arithmetic of --cap-add, --cap-drop, --privileged."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from hypercontainer.errors import InvalidInput

# In the order of their numbers (linux/capability.h).
ALL = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
        "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
        "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
        "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
        "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
        "CHECKPOINT_RESTORE",
    )
)  # fmt: skip
NUMBERS = {name: number for number, name in enumerate(ALL)}
DEFAULT = frozenset(
    f"CAP_{name}"
    for name in (
        "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
        "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
    )
)  # fmt: skip
EVERY = "ALL"


def resolve(add: Sequence[str], drop: Sequence[str], *, privileged: bool = False) -> list[str]:
    """The capabilities of a container, by number. Names as docker takes them: net_admin, CAP_NET_ADMIN, ALL.

    What is both added and dropped is granted. `add` of ALL means all but `drop`; `drop` of ALL means only `add`.
    Raises InvalidInput for a name that is none.
    """
    added, dropped = {_checked(name) for name in add}, {_checked(name) for name in drop}
    granted: AbstractSet[str]
    if privileged:
        granted = set(ALL)
    elif EVERY in added:
        granted = set(ALL) - dropped
    elif EVERY in dropped:
        granted = added
    else:
        granted = (DEFAULT - dropped) | added
    return sorted(granted, key=NUMBERS.__getitem__)


def _checked(name: str) -> str:
    full = name.upper()
    if full == EVERY:
        return EVERY
    full = full if full.startswith("CAP_") else f"CAP_{full}"
    if full not in NUMBERS:
        raise InvalidInput(f"invalid capability {name[:40]!r}: give one such as NET_ADMIN, or ALL")
    return full
