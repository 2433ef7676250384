"""LinuxContainerResources <-> limits inside the machine. Pure."""

from math import ceil

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.model.container import Resources

USUAL_PERIOD_US = 100_000


def wanted(limits: pb.LinuxContainerResources) -> Resources:
    """InvalidInput for what a machine has not. It has no swap, so that any limit of that holds."""
    if limits.cpuset_cpus or limits.cpuset_mems:
        raise InvalidInput("cannot pin a container to processors or memory of this host: it has those of its machine")
    for huge in limits.hugepage_limits:
        if huge.limit:
            raise InvalidInput(f"cannot give huge pages of {huge.page_size[:20]}: a virtual machine has none")
    return Resources(
        memory_bytes=max(0, limits.memory_limit_in_bytes),
        cpu_quota_us=max(0, limits.cpu_quota),
        cpu_period_us=limits.cpu_period or USUAL_PERIOD_US,
        cpu_shares=max(0, limits.cpu_shares),
        unified=dict(limits.unified),
    )


def machine(limits: pb.LinuxContainerResources) -> tuple[int, int]:
    """Processors and MiB of memory that all containers of a pod may use; 0: nobody says."""
    quota, memory = max(0, limits.cpu_quota), max(0, limits.memory_limit_in_bytes)
    return ceil(quota / (limits.cpu_period or USUAL_PERIOD_US)), ceil(memory / (1 << 20))


def changed(limits: pb.LinuxContainerResources, there: Resources) -> Resources:
    """What is not said, which is 0, stays as it is; less than 0 lifts a limit."""
    said = wanted(limits)
    return Resources(
        memory_bytes=said.memory_bytes if limits.memory_limit_in_bytes else there.memory_bytes,
        cpu_quota_us=said.cpu_quota_us if limits.cpu_quota else there.cpu_quota_us,
        cpu_period_us=limits.cpu_period or there.cpu_period_us,
        cpu_shares=said.cpu_shares if limits.cpu_shares else there.cpu_shares,
        pids=there.pids,
        unified=said.unified or there.unified,
    )


def told(limits: Resources) -> pb.ContainerResources:
    return pb.ContainerResources(
        linux=pb.LinuxContainerResources(
            memory_limit_in_bytes=limits.memory_bytes,
            cpu_quota=limits.cpu_quota_us,
            cpu_period=limits.cpu_period_us,
            cpu_shares=limits.cpu_shares,
            unified=limits.unified,
        )
    )
