"""What a container uses, as the guest's agent counts it."""

import errno
from collections.abc import Collection, Sequence
from typing import NamedTuple

from hypercontainer.agent import messages
from hypercontainer.agent.client import AgentClient
from hypercontainer.errors import GuestError
from hypercontainer.lib import clock
from hypercontainer.model import documents as doc
from hypercontainer.model.bundle import BundleUsage
from hypercontainer.model.record import ContainerRecord


class Measured(NamedTuple):
    numbers: messages.Usage
    net: Sequence[messages.NetStats]  # which is the pod's


async def measured(agent: AgentClient, containers: Collection[str]) -> dict[str, Measured]:
    """What these use, by id, of those that the guest has. It is asked once, unless it is too old for that."""
    if agent.has(messages.POD_STATS):
        all_ = await agent.pod_stats()
        return {each.id: Measured(each, all_.net) for each in all_.containers if each.id in containers}
    found = {}
    for id in containers:
        try:
            found[id] = await alone(agent, id)
        except GuestError as e:
            if e.errno != errno.ENOENT:
                raise
    return found


async def alone(agent: AgentClient, container: str) -> Measured:
    found = await agent.container_stats(container)
    return Measured(found, found.net)


def usage(found: Measured, *, memory_mib: int, pids_limit: int) -> BundleUsage:
    """Of a container."""
    stats = found.numbers
    limit = stats.memory_max_bytes
    return BundleUsage(
        cpu_ns=stats.cpu_usec * 1000,
        user_ns=stats.user_usec * 1000,
        system_ns=stats.system_usec * 1000,
        periods=stats.cpu_periods,
        throttled_periods=stats.cpu_throttled_periods,
        throttled_ns=stats.cpu_throttled_usec * 1000,
        memory_bytes=stats.memory_bytes,
        memory_limit_bytes=min(limit, memory_mib << 20) if limit else memory_mib << 20,
        inactive_file_bytes=stats.memory_inactive_file_bytes,
        anon_bytes=stats.memory_anon_bytes,
        file_bytes=stats.memory_file_bytes,
        mapped_bytes=stats.memory_mapped_bytes,
        page_faults=stats.page_faults,
        major_page_faults=stats.major_page_faults,
        pids=stats.pids,
        pids_limit=pids_limit,
        read_bytes=stats.io_read_bytes,
        written_bytes=stats.io_write_bytes,
        reads=stats.io_reads,
        writes=stats.io_writes,
        oom_kills=stats.oom_kills,
        memory_peak_bytes=stats.memory_peak_bytes,
        memory_kernel_bytes=stats.memory_kernel_bytes,
        memory_limit_hits=stats.memory_max_hits,
        swap_bytes=stats.memory_swap_bytes,
        swap_limit_bytes=stats.swap_max_bytes,
        threads_limit=stats.pids_max,
        networks=_networks(found.net),
    )


def sample(record: ContainerRecord, used: BundleUsage, *, vcpus: int) -> doc.Stats:
    return doc.Stats(
        id=record.id,
        name=f"/{record.name}",
        read=clock.rfc3339(clock.now_ns()),
        cpu_stats=doc.CpuStats(
            cpu_usage=doc.CpuUsage(
                total_usage=used.cpu_ns, usage_in_usermode=used.user_ns, usage_in_kernelmode=used.system_ns
            ),
            throttling_data=doc.ThrottlingData(
                periods=used.periods, throttled_periods=used.throttled_periods, throttled_time=used.throttled_ns
            ),
            online_cpus=vcpus,
        ),
        memory_stats=doc.MemoryStats(  # without what the page cache could give back, as docker counts
            usage=max(0, used.memory_bytes - used.inactive_file_bytes), limit=used.memory_limit_bytes
        ),
        pids_stats=doc.PidsStats(current=used.pids),
        blkio_stats=doc.BlkioStats(read_bytes=used.read_bytes, write_bytes=used.written_bytes),
        networks=used.networks,
    )


def _networks(net: Sequence[messages.NetStats]) -> dict[str, doc.NetworkStats]:
    return {
        nic.name: doc.NetworkStats(
            rx_bytes=nic.rx_bytes,
            rx_packets=nic.rx_packets,
            rx_errors=nic.rx_errors,
            rx_dropped=nic.rx_dropped,
            tx_bytes=nic.tx_bytes,
            tx_packets=nic.tx_packets,
            tx_errors=nic.tx_errors,
            tx_dropped=nic.tx_dropped,
        )
        for nic in net
    }
