"""A container's machine as it is at one moment, and machines that go on from there. docs/howto/snapshots.md.

While it is copied the container is frozen in its guest, so none of its processes runs, in any copy, before that copy
has been told who it is.
"""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from hypercontainer.errors import HyperError, WrongState
from hypercontainer.hypervisor.base import SNAPSHOT_MAC, Nic, Snapshot, VmConfig
from hypercontainer.lib import clock
from hypercontainer.lib.together import in_thread, to_its_end, together
from hypercontainer.lib.trace import Trace
from hypercontainer.model.record import Moment, PodRecord
from hypercontainer.sandbox.clock import set_clock
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.exec import Exec
from hypercontainer.sandbox.locked import LockedPod
from hypercontainer.sandbox.machine import Origin
from hypercontainer.sandbox.pod import Pod
from hypercontainer.sandbox.site import Site

FREEZE_S = 10.0
RUN = ("state", "finished_ns", "error", "exit_code", "stopped_by_user", "oom_killed")  # of a container: it runs
COPY = ("making", "suspended")  # of a pod: it is no copy any more

CopyDisk = Callable[[Path], None]  # from there; blocks


def check(pod: Pod, container: Container, verb: str) -> None:
    """Raise unless the container's machine can be copied."""
    record = container.record
    if pod.removed or record.state != "running":
        if pod.record.paused:
            raise WrongState(verb, record.name, "paused", "unpause it first")
        raise WrongState(verb, record.name, record.state)
    pod.machine.check_reached(verb, record.name)
    if not pod.record.implicit:
        why = f"the virtual machine is that of pod {pod.record.name}, not its own"
        raise WrongState(verb, record.name, "in a pod", why)
    if tied := [mount.target for mount in record.mounts if mount.type != "tmpfs"]:
        why = f"its virtual machine shares one, at {tied[0]}, and cannot be copied"
        raise WrongState(verb, record.name, "tied to a folder of this host", why)


async def take(
    pod: LockedPod, container: Container, memory: int, state: int, copy_disk: CopyDisk | None, trace: Trace
) -> Moment:
    """Write the machine's memory and devices to the empty files `memory` and `state`, and have its disk copied by
    `copy_disk`, in a thread (None: it stays where it is). The container stays frozen and its machine stopped, until
    `go_on`.

    On failure it goes on at once, as if nothing had been. Exhausted: a disk is full."""
    vm, record = pod.machine.running(), container.record
    assert record.upper  # noqa: S101  its pod made it
    with trace.step("memory"):
        await vm.guest.copy_memory(memory)
    pod.record.held = True
    try:
        pod.machine.save()
    except BaseException:
        pod.record.held = False
        raise
    try:
        with trace.step("freeze"):
            await vm.agent.freeze_container(record.id, True, timeout_s=FREEZE_S)
            await vm.guest.pause()
        with trace.step("dump"):
            work = [vm.guest.dump(memory, state)]
            if copy_disk:
                work.append(in_thread(copy_disk, Path(record.upper.path)))
            await together(*work)
        return await plan(pod, container)
    except BaseException:
        await to_its_end(go_on(pod, container))
        raise


async def plan(pod: LockedPod, container: Container) -> Moment:
    """What a copy that is taken now begins with. All but `offsets` and `time_ns` stays true while the lock is held."""
    record, nic = container.record, pod.record.nic
    size = await pod.machine.running().guest.size()
    vcpus, memory_mib = size.vcpus, size.memory_mib - size.added_mib
    assert pod.record.guest  # noqa: S101  it runs
    return Moment(
        vmm=await _vmm(pod.site),
        shape=_shape(pod.site, pod.record, pod.record.guest.accelerator, vcpus, memory_mib),
        vcpus=vcpus,
        memory_mib=memory_mib,
        container=record.id,
        mac=nic.mac if nic else "",
        streams=record.streams,
        offsets=container.output.log.offsets,
        time_ns=clock.now_ns(),
    )


async def go_on(pod: LockedPod, container: Container, *, stopped: bool = True) -> None:
    """The copy was taken, or not: the container runs on. Safe when its machine has gone meanwhile.

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
            if await alive(pod):
                raise
    pod.record.held = False
    pod.machine.note()


async def alive(pod: LockedPod) -> bool:
    """Whether its VMM is still there; the pod hears of its end by itself, a little later."""
    if pod.machine.vm is None:
        return False
    end = asyncio.ensure_future(pod.machine.vm.guest.wait())
    done, _ = await asyncio.wait([end], timeout=1.0)
    end.cancel()
    return not done


async def check_fits(site: Site, record: PodRecord, moment: Moment, verb: str) -> None:
    """WrongState when the guest that was saved at `moment` cannot go on here any more."""
    name, vmm = record.name, await _vmm(site)
    if moment.vmm != vmm:
        why = f"by {moment.vmm}, and this is {vmm}; only the same version can go on with it"
        raise WrongState(verb, name, "saved by another version", why)
    boot = await site.boot()
    if moment.shape != _shape(site, record, boot.accelerator, moment.vcpus, moment.memory_mib):
        why = "this hyperd makes none such; it is of another version, or what accelerates it"
        raise WrongState(verb, name, "saved from a virtual machine of another shape", why)


async def _vmm(site: Site) -> str:
    return f"QEMU {await site.hypervisor.version()}"


def _shape(site: Site, record: PodRecord, accelerator: str, vcpus: int, memory_mib: int) -> str:
    """All that the snapshot depends on but the version: not the kernel, which is in its memory."""
    config = VmConfig(
        name="",
        kernel=Path(),
        initrd=Path(),
        vcpus=vcpus,
        memory_mib=memory_mib,
        uid=0,
        nic=Nic(tap="", mac=SNAPSHOT_MAC) if record.spec.network == "bridge" else None,
        accelerator=accelerator,
        origin=Snapshot(memory=-1, state=-1),
    )
    return hashlib.sha256(site.hypervisor.shape(config).encode()).hexdigest()


async def wake(pod: LockedPod, container: Container, origin: Origin, trace: Trace, *, new_run: bool) -> None:
    """Have the container go on from `origin`: the machine, the streams, what runs in it. It is still frozen when this
    returns, and nothing of it on record that is not true; `thaw` follows. `new_run`: its log begins one.

    On failure nothing is left of the machine."""
    moment, record = origin.moment, container.record
    vm = await pod.machine.boot(trace, origin)
    try:
        with trace.step("identity"):
            if moment.container != record.id:
                await vm.agent.rename_container(moment.container, record.id)
            record.streams = moment.streams
            if new_run:
                record.runs, record.started_ns = record.runs + 1, clock.now_ns()
                container.output.log.begin(record.runs, moment.offsets)
            container.connect(vm)
            for process in vm.agent.known.processes:
                if process.id != moment.container:
                    pod.execs[process.id] = await Exec.orphan(vm, process)
                elif not process.running:
                    pod.pod.spawn(pod.pod.ended(container, process.status, oom=process.oom))
    except BaseException:
        await to_its_end(_end(pod, container))
        raise
    pod.pod.adopt(vm)


async def _end(pod: LockedPod, container: Container) -> None:
    container.output.cut()
    container.stdin = None
    pod.execs.clear()
    await pod.machine.release()


async def thaw(pod: LockedPod, container: Container, trace: Trace) -> None:
    """Write down that it runs, and let it. From then on it is no copy any more.

    When that cannot be written nothing is left of the machine, and the record is as before; after any later failure
    the machine is still there, and goes on as soon as its guest hears of it."""
    record, before, copied = container.record, replace(container.record), replace(pod.record)
    record.state, record.finished_ns, record.error, record.exit_code = "running", 0, "", 0
    record.stopped_by_user = record.oom_killed = False
    pod.record.held, pod.record.making, pod.record.suspended = True, False, None
    try:
        pod.owner.save(pod.record, durable=True)
    except BaseException:
        for old, now, names in ((before, record, RUN), (copied, pod.record, COPY)):
            for name in names:
                setattr(now, name, getattr(old, name))
        await to_its_end(_end(pod, container))
        raise
    container.left.clear()
    with trace.step("thaw"):
        await go_on(pod, container, stopped=False)
