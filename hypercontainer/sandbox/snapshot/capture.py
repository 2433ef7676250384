"""A container's machine as it is at one moment. docs/howto/snapshots.md.

While it is copied the container is frozen in its guest, so none of its processes runs, in any copy, before that copy
has been told who it is.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from hypercontainer.errors import HyperError, WrongState
from hypercontainer.hypervisor.base import Copyable, Feature, need
from hypercontainer.lib import clock
from hypercontainer.lib.tasks import all_of, in_thread, uninterrupted
from hypercontainer.lib.trace import Trace
from hypercontainer.model.record import ContainerRecord, PodRecord, SnapshotInfo
from hypercontainer.model.state import Verb
from hypercontainer.sandbox.clock import set_clock
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.locked import LockedPod
from hypercontainer.sandbox.pod import Pod
from hypercontainer.sandbox.snapshot import shape

FREEZE_S = 10.0

CopyDisk = Callable[[Path], None]  # from there; blocks


def check(pod: Pod, container: Container, verb: Verb) -> None:
    """Raise unless the container's machine can be copied."""
    record = container.record
    need(pod.site.hypervisor, Feature.COPY, f"{verb} {record.name}", pod.record.arch)
    pod.check(container, verb)
    pod.machine.check_reached(verb, record.name)
    check_alone(pod.record, record, verb)
    if record.config.ipc_of:
        why = "its memory and queues were made for another container, and no other machine can have them"
        raise WrongState(verb, record.name, "in the IPC namespace of another one", why)
    if tied := [mount.target for mount in record.mounts if mount.shared]:
        why = f"its virtual machine shares one, at {tied[0]}, and cannot be copied"
        raise WrongState(verb, record.name, "tied to a folder of this host", why)
    if container.rootfs.scratch is None:
        why = f"its root file system is {container.rootfs} itself, and no other machine can have that"
        raise WrongState(verb, record.name, "tied to a disk or folder of this host", why)
    if len(pod.record.nics) > 1:
        why = "a copy knows the one interface that it had by its address, and this one has several"
        raise WrongState(verb, record.name, "in several networks", why)
    if container.holds:
        raise WrongState(verb, record.name, "being committed", "wait for the end of that")
    if pod.record.netns:
        why = f"somebody else made its network, {pod.record.netns}, and no other machine can have its addresses"
        raise WrongState(verb, record.name, "tied to a network of this host", why)
    if [nic.number for nic in pod.record.nics] != list(shape.numbers(pod.record)):
        why = "network interfaces have come or gone since; stop it and start it again"
        raise WrongState(verb, record.name, "not connected as at its start", why)


def check_alone(pod: PodRecord, container: ContainerRecord, verb: Verb) -> None:
    """WrongState when others are in its machine, too, or may be."""
    if not pod.implicit:
        why = f"the virtual machine is that of pod {pod.name}, not its own"
        raise WrongState(verb, container.name, "in a pod", why)
    if others := ", ".join(other.name for other in pod.containers if other is not container):
        why = f"the virtual machine is that of {others} too, for they share a network"
        raise WrongState(verb, container.name, "not alone", why)


async def capture(
    pod: LockedPod, container: Container, memory: int, state: int, copy_disk: CopyDisk | None, trace: Trace
) -> SnapshotInfo:
    """Write the machine's memory and devices to the empty files `memory` and `state`, and have its disk copied by
    `copy_disk`, in a thread (None: it stays where it is). The container stays frozen and its machine stopped, until
    `continue_`.

    On failure it goes on at once, as if nothing had been. Exhausted: a disk is full."""
    vm, record = pod.machine.running(), container.record
    guest = vm.guest
    assert isinstance(guest, Copyable)  # noqa: S101  see `check`
    with trace.step("memory"):
        await guest.copy_memory(memory)
    pod.record.frozen = True
    pod.pod.halts += 1
    try:
        pod.machine.save()
    except BaseException:
        pod.record.frozen = False
        raise
    try:
        with trace.step("freeze"):
            await vm.agent.freeze_container(record.id, True, timeout_s=FREEZE_S)
            await guest.pause()
        with trace.step("dump"):
            work = [guest.dump(memory, state)]
            if copy_disk:
                work.append(in_thread(copy_disk, container.scratch))
            await all_of(*work)
        return await info(pod, container)
    except BaseException:
        await uninterrupted(continue_(pod, container))
        raise


async def info(pod: LockedPod, container: Container) -> SnapshotInfo:
    """What a snapshot that is taken now begins with. All but `offsets` and `time_ns` stays true while the lock is
    held."""
    record, nics, vm = container.record, pod.record.nics, pod.machine.running()
    size = await vm.guest.size()
    vcpus, memory_mib = size.vcpus, size.memory_mib - size.added_mib
    return SnapshotInfo(
        vmm=await shape.vmm(pod.site),
        shape=shape.digest(pod.site, pod.record, vm.guest.record.accelerator, vcpus, memory_mib),
        vcpus=vcpus,
        memory_mib=memory_mib,
        container=record.id,
        mac=nics[0].mac if nics else "",
        streams=record.streams,
        offsets=container.output.offsets,
        time_ns=clock.now_ns(),
    )


async def continue_(pod: LockedPod, container: Container, *, stopped: bool = True) -> None:
    """The snapshot was taken, or not: the container runs on. Safe when its machine has gone meanwhile.

    `stopped`: its CPUs are, too, so its clock is wrong."""
    if vm := pod.machine.vm:
        try:
            try:
                if stopped:
                    await vm.guest.resume()
                    await set_clock(vm.agent)
            finally:  # a VMM that is slow to answer goes on later: its guest finds this then
                await vm.agent.freeze_container(container.record.id, False, timeout_s=FREEZE_S)
        except HyperError:
            if await _alive(pod):
                raise
    pod.record.frozen = False
    pod.machine.note()


async def _alive(pod: LockedPod) -> bool:
    """Whether its VMM is still there; the pod hears of its end by itself, a little later."""
    if pod.machine.vm is None:
        return False
    end = asyncio.ensure_future(pod.machine.vm.guest.wait())
    done, _ = await asyncio.wait([end], timeout=1.0)
    end.cancel()
    return not done
