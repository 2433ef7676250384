"""What people are told of a process that the guest's kernel killed for want of memory. Pure."""

from signal import SIGKILL

from hypercontainer.model.record import ContainerRecord, PodRecord
from hypercontainer.sandbox import size


def words(pod: PodRecord, container: ContainerRecord, status: int, usual_mib: int) -> str:
    """Why a process of `container` ended with `status` after an OOM kill in it: with the limit, and what raises it.

    "" for one that went on and ended well: it was not the one that was killed, and has coped."""
    if status == 0:
        return ""
    who = "killed: out of memory" if status == 128 + SIGKILL else "a process in it was killed: out of memory"
    inside = min((mib for mib in (container.spec.memory_mib, size.limit_mib(pod, usual_mib)) if mib), default=0)
    if inside or pod.implicit:
        return f"{who} (limit {inside or size.machine_mib(pod, usual_mib)} MiB: give it more with -m)"
    machine = size.machine_mib(pod, usual_mib)
    return f"{who} (limit {machine} MiB, all that its pod has: give that more in the pod's file)"
