"""What people are told of a process that the guest's kernel killed for want of memory, and of a guest whose kernel
gave up for that. Pure."""

from signal import SIGKILL

from hypercontainer.hypervisor.base import OUT_OF_MEMORY
from hypercontainer.model.record import ContainerRecord, PodRecord
from hypercontainer.sandbox import size


def words(pod: PodRecord, container: ContainerRecord, status: int, usual_mib: int) -> str:
    """Why a process of `container` ended with `status` after an OOM kill in it: with the limit, and what raises it.

    "" for one that went on and ended well: it was not the one that was killed, and has coped."""
    if status == 0:
        return ""
    who = "killed: out of memory" if status == 128 + SIGKILL else "a process in it was killed: out of memory"
    inside = min(
        (mib for mib in (container.spec.memory_mib, size.limit_mib(pod, container, usual_mib)) if mib), default=0
    )
    return f"{who} ({_limit(inside)})" if inside else f"{who} ({_whole(pod, usual_mib)})"


def of_machine(pod: PodRecord, cause: str, usual_mib: int) -> str:
    """`cause`, for which a virtual machine ended; with its size, and what raises it, if it ran out of memory."""
    return cause.replace(OUT_OF_MEMORY, f"{OUT_OF_MEMORY} ({_whole(pod, usual_mib)})", 1) if killed(cause) else cause


def killed(cause: str) -> bool:
    """Whether it was want of memory for which a virtual machine ended."""
    return cause.startswith(OUT_OF_MEMORY)


def _limit(mib: int) -> str:
    return f"limit {mib} MiB: give it more with -m"


def _whole(pod: PodRecord, usual_mib: int) -> str:
    mib = size.machine_mib(pod, usual_mib)
    return _limit(mib) if pod.implicit else f"limit {mib} MiB, all that its pod has: give that more in the pod's file"
