"""What a pod of a kubelet, and a container of one, is just now: the record as a kubelet may know it. Pure."""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address

import msgspec

from hypercontainer.model.kube import ContainerState, KubeContainerState, KubeIdentity, KubeMount, KubePodState
from hypercontainer.model.record import ContainerRecord, PodRecord
from hypercontainer.sandbox.pod import Pod

POD_INTERFACE = "eth0"  # that a kubelet knows a pod by
STATES: Mapping[str, ContainerState] = {"created": "created", "running": "running", "paused": "running"}


def ready(pod: Pod) -> bool:
    return pod.machine.vm is not None or bool(pod.machine.unreached)


def of_pod(record: PodRecord, *, ready: bool) -> KubePodState:
    assert record.kube  # noqa: S101  of this owner
    nics = sorted(record.nics, key=lambda nic: nic.name != POD_INTERFACE)  # others are networks beside
    addresses = [address.partition("/")[0] for nic in nics for address in nic.addresses]
    return KubePodState(
        id=record.id,
        pod=record.kube,
        ready=ready,
        created_ns=record.created_ns,
        share_pid=record.spec.share_pid,
        addresses=[address for address in addresses if not _is_link_local(address)],
    )


@lru_cache(4096)  # kubelets ask for all of them every second, and to parse one takes longer than all else here
def _is_link_local(address: str) -> bool:
    return ip_address(address).is_link_local


def state(record: ContainerRecord) -> ContainerState:
    return STATES.get(record.state, "exited")


def of_container(pod: PodRecord, record: ContainerRecord) -> KubeContainerState:
    assert record.kube  # noqa: S101  of this owner
    now = state(record)
    return KubeContainerState(
        id=record.id,
        pod=pod.id,
        container=record.kube,
        image_id=record.image_id,
        state=now,
        created_ns=record.created_ns,
        started_ns=record.started_ns,
        finished_ns=record.finished_ns,
        exit_code=record.exit_code,
        reason=_reason(record) if now == "exited" else "",
        message=record.error,
        mounts=[
            KubeMount(
                target=mount.target,
                source=mount.source,
                read_only=mount.read_only,
                ids=mount.ids,
                below=mount.below,
            )
            for mount in record.mounts
            if mount.type == "bind"
        ]
        + [
            KubeMount(
                target=volume.target,
                source="",
                read_only=True,
                image=volume.image,
                image_id=volume.image_id,
                subpath=volume.subpath,
            )
            for volume in record.images
        ],
        resources=record.config.resources,
        user=record.config.process.user,
        identity=KubeIdentity(**msgspec.structs.asdict(record.identity)) if record.identity else None,
        stdin_once=record.spec.stdin_once,
    )


def _reason(record: ContainerRecord) -> str:
    """A word that kubelets and people know."""
    if not record.started_ns:
        return "StartError"
    if record.oom_killed:
        return "OOMKilled"
    return "Error" if record.exit_code else "Completed"
