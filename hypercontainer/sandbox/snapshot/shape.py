"""Which virtual machines can go on from a snapshot: those of the same VMM that are of the same shape."""

import hashlib
from pathlib import Path

from hypercontainer.errors import WrongState
from hypercontainer.hypervisor.base import SNAPSHOT_MAC, Feature, Nic, Snapshot, VmConfig, need
from hypercontainer.model.record import PodRecord, SnapshotInfo
from hypercontainer.model.spec import NONE
from hypercontainer.sandbox.site import Site


async def check_fits(site: Site, record: PodRecord, info: SnapshotInfo, verb: str) -> None:
    """WrongState when the guest of a snapshot cannot go on here any more."""
    need(site.hypervisor, Feature.SNAPSHOT, f"{verb} {record.name}", record.arch)
    name, ours = record.name, await vmm(site)
    if info.vmm != ours:
        why = f"by {info.vmm}, and this is {ours}; only the same version can go on with it"
        raise WrongState(verb, name, "saved by another version", why)
    boot = await site.boot(record)
    if info.shape != digest(site, record, boot.accelerator, info.vcpus, info.memory_mib):
        why = "this hyperd makes none such; it is of another version, or what accelerates it"
        raise WrongState(verb, name, "saved from a virtual machine of another shape", why)


async def vmm(site: Site) -> str:
    """The VMM of this host, with its version."""
    return f"{site.hypervisor.product} {await site.hypervisor.version()}"


def numbers(record: PodRecord) -> range:
    """Of the network interfaces that its machine starts with."""
    return range(len([each for each in record.spec.networks if each.network != NONE]))


def digest(site: Site, record: PodRecord, accelerator: str, vcpus: int, memory_mib: int) -> str:
    """Of all that a snapshot depends on but the version: not of the kernel, which is in its memory."""
    config = VmConfig(
        name="",
        kernel=Path(),
        initrd=Path(),
        vcpus=vcpus,
        memory_mib=memory_mib,
        uid=0,
        nics=[Nic(number=number, tap="", mac=SNAPSHOT_MAC) for number in numbers(record)],
        accelerator=accelerator,
        origin=Snapshot(memory=-1, state=-1),
    )
    return hashlib.sha256(site.hypervisor.shape(config).encode()).hexdigest()
