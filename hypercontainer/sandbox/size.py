"""How large a pod's machine is, and what its container may use of it. Pure."""

import os
from collections.abc import Sequence
from math import ceil

from hypercontainer.hypervisor.base import Limits
from hypercontainer.lib.cgroup import PERIOD_US, USUAL_SHARES
from hypercontainer.model.container import Resources
from hypercontainer.model.record import Accelerator, ContainerRecord, PodRecord

MIB = 1 << 20
VMM_US = PERIOD_US // 4  # of a processor, for what the VMM and virtiofsd do beside running the guest
MOST_SHARES = 262144
MOST_VCPUS = 8  # by default, however many the host has: as many as `update` can give one that runs


def fitting(resources: Resources) -> tuple[int, int]:
    """Processors and MiB of a machine for a container with these limits; 0 = as usual."""
    vcpus = ceil(resources.cpu_quota_us / resources.cpu_period_us) if resources.cpu_quota_us else 0
    return vcpus, ceil(resources.memory_bytes / MIB)


def together(limits: Sequence[Resources], usual_mib: int) -> tuple[int, int]:
    """Processors and MiB that containers of one machine may use: what their limits come to, and once the usual memory
    for those that have none."""
    cpus = sum(each.cpu_quota_us / each.cpu_period_us for each in limits)
    memory = [each.memory_bytes for each in limits]
    return ceil(cpus), ceil(sum(memory) / MIB) + (0 if all(memory) else usual_mib)


def of_host(resources: Sequence[Resources]) -> Limits:
    """What a machine may take of its host, in which containers with these limits are: of processors what theirs come
    to and what a VMM needs besides, if all have a quota; the shares of all, if any asks for some; of disks the largest
    weight."""
    quotas = [ceil(each.cpu_quota_us * PERIOD_US / each.cpu_period_us) for each in resources]
    shares = [each.cpu_shares for each in resources]
    weights = [int(text) for each in resources if (text := each.unified.get("io.weight", "")).isdecimal()]
    return Limits(
        cpu_quota_us=sum(quotas) + VMM_US if quotas and all(quotas) else 0,
        cpu_shares=min(sum(each or USUAL_SHARES for each in shares), MOST_SHARES) if any(shares) else 0,
        io_weight=max(weights, default=0),
    )


def machine_mib(pod: PodRecord, usual_mib: int) -> int:
    """Memory of its VM. One that was made for a container which asks for less than is usual is a usual one: what the
    container may use of it is a limit inside, `limit_mib`."""
    asked = pod.spec.memory_mib
    return max(asked, usual_mib) if pod.implicit else asked or usual_mib


def limit_mib(pod: PodRecord, container: ContainerRecord, usual_mib: int) -> int:
    """What a container that a VM was made for may use, where that is less than the VM has; else 0."""
    return pod.spec.memory_mib if pod.sized_for(container) and pod.spec.memory_mib < usual_mib else 0


def usual_vcpus(setting: int, accelerator: Accelerator) -> int:
    """Processors of a VM for which nobody said how many: as the `setting` says, unless that is 0. Emulated, each costs
    an idle guest's host time: ADR 23."""
    if setting:
        return setting
    return min(len(os.sched_getaffinity(0)), MOST_VCPUS) if accelerator != "tcg" else 1
