"""What monitoring reads of hyperd: pods and containers by state, starts, guests that wait, what machines take."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from hypercontainer import __version__
from hypercontainer.engine import kube_states
from hypercontainer.engine.supervisor import Supervisor
from hypercontainer.factory.base import PoolInfo
from hypercontainer.lib import proc
from hypercontainer.model.figures import Family, Figure, Type
from hypercontainer.model.record import PodRecord, ProcessRef
from hypercontainer.sandbox.pod import Pod

PAGE = os.sysconf("SC_PAGE_SIZE")


def families(supervisor: Supervisor) -> list[Family]:
    pods = list(supervisor.pods.values())
    records = [container.record for pod in pods for container in pod.containers.values()]
    states = Counter(record.state for record in records)
    own = _resident_bytes(ProcessRef(pid=os.getpid(), start_time=proc.start_time(os.getpid()) or 0))
    return [
        _family("hyperd_build_info", "1, of this version", [Figure(1, {"version": __version__})]),
        _family("hyperd_resident_memory_bytes", "Memory of hyperd itself", [Figure(own)]),
        _family("hyperd_pods", "Pods, by whose they are and whether their machine runs", _pods(pods)),
        _family("hyperd_containers", "Containers by state", [Figure(n, {"state": s}) for s, n in states.items()]),
        _family("hyperd_vmm_resident_bytes", "Memory of a machine: its VMM and virtiofsd", list(_machines(pods))),
        *supervisor.starts.families(),
        *_pools(supervisor.host.factory.pools()),
    ]


def _family(name: str, help: str, figures: list[Figure]) -> Family:
    return Family(name, help, "gauge", figures)


def _pods(pods: Sequence[Pod]) -> list[Figure]:
    counts = Counter((_owner(pod.record), _state(pod)) for pod in pods)
    return [Figure(count, {"owner": owner, "state": state}) for (owner, state), count in sorted(counts.items())]


def _owner(record: PodRecord) -> str:
    """Not whose by name: that is theirs to tell."""
    return "kubelet" if record.kube else "engine" if record.owner else "hyperd"


def _state(pod: Pod) -> str:
    if pod.record.provisional:
        return "starting"
    if pod.machine.unreached:
        return "unreached"
    return ("paused" if pod.record.paused else "running") if kube_states.ready(pod) else "stopped"


def _machines(pods: Sequence[Pod]) -> Iterator[Figure]:
    for pod in pods:
        if (guest := pod.record.guest) and pod.machine.vm:
            found = sum(_resident_bytes(each) for each in (guest.process, *guest.helpers))
            if found:
                yield Figure(found, {"id": pod.record.id})


def _resident_bytes(process: ProcessRef) -> int:
    """0 for one that has ended."""
    try:
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * PAGE if proc.start_time(process.pid) == process.start_time else 0


def _pools(pools: Sequence[PoolInfo]) -> list[Family]:
    labels = [
        {
            "vcpus": str(pool.vcpus),
            "memory_mib": str(pool.memory_mib),
            "share": str(pool.share).lower(),
            "network": str(pool.network).lower(),
            "tenant": pool.tenant,
        }
        for pool in pools
    ]

    def counted(name: str, help: str, type: Type, values: Iterable[int]) -> Family:
        return Family(f"hyperd_pool_{name}", help, type, list(map(Figure, values, labels)))

    return [
        counted("wanted", "Guests that are to wait", "gauge", (pool.wanted for pool in pools)),
        counted("waiting", "Guests that wait", "gauge", (pool.waiting for pool in pools)),
        counted("taken_total", "Guests that became a pod's", "counter", (pool.taken for pool in pools)),
        counted("poisoned_total", "Guests that were thrown away", "counter", (pool.poisoned for pool in pools)),
    ]
