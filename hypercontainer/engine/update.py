"""The use case `update`: other sizes and another restart policy for a container that exists, running or not.

The size of a VM that was made for one container is that container's. A pod's VM grows when a limit would not fit it,
and never shrinks for one.
"""

import errno
import logging
import math
from collections.abc import Sequence
from contextlib import AsyncExitStack

import msgspec

from hypercontainer.engine import config, resolve
from hypercontainer.engine.host import Host
from hypercontainer.errors import GuestError, HyperError, InUse, InvalidInput, WrongState
from hypercontainer.hypervisor.base import Feature, Size, need
from hypercontainer.lib.tasks import uninterrupted
from hypercontainer.model.container import Resources
from hypercontainer.model.record import ContainerRecord, PodRecord
from hypercontainer.model.spec import ContainerSpec, ContainerUpdate, PodSpec
from hypercontainer.sandbox import size
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.pod import Pod
from hypercontainer.vm import Vm

log = logging.getLogger(__name__)


async def update(host: Host, pod: Pod, container: Container, wanted: ContainerUpdate) -> list[str]:
    """See model.api.Containers.update. Returns what is not as it was asked for."""
    async with pod.locked():
        _check(pod, container, wanted)
        vcpus, memory_mib = host.vcpus(pod.record), host.settings.memory_mib
        pod_spec, spec = changed(pod.record, container.record, wanted, vcpus, memory_mib)
        if pod_spec != pod.record.spec and pod.record.guest:
            need(pod.site.hypervisor, Feature.RESIZE, f"change the size of {container.record.name} while it runs")
        resources = config.resources(spec)
        return await uninterrupted(_change(pod, container, pod_spec, spec, resources, tell=_sizes(wanted)))


async def limit(pod: Pod, container: Container, resources: Resources, usual_mib: int = 0) -> None:
    """Have the limits of another engine's container be `resources`, and the size of its machine what they ask for; one
    that others are in grows; `usual_mib`: see `grow`. WrongState when it has ended, or stands still; InUse when it uses
    more memory by now."""
    async with pod.locked():
        pod.check(container, "update")
        if state := _stands_still(pod, container):
            raise WrongState("update", container.record.name, state, "it cannot take up another size")
        if pod.record.lone:
            vcpus, memory_mib = size.fitting(resources)
            machine = msgspec.structs.replace(pod.record.spec, vcpus=vcpus, memory_mib=memory_mib)
        else:
            others = [each.config.resources for each in pod.record.containers if each is not container.record]
            machine = _grown(pod, [*others, resources], usual_mib)
        resolve.check_size(machine, implicit=True)
        await uninterrupted(_change(pod, container, machine, container.record.spec, resources))


async def grow(pod: Pod, container: Container, usual_mib: int = 0) -> None:
    """Have the machine, whose lock is held, be large enough for all that are in it, of whom `container` is a new one.
    Those without a limit may use `usual_mib` together; 0: what a machine usually has. InvalidInput where that is
    absurd."""
    machine = _grown(pod, [each.config.resources for each in pod.record.containers], usual_mib)
    resolve.check_size(machine, implicit=True)
    if machine != pod.record.spec:
        await uninterrupted(_change(pod, container, machine, container.record.spec, container.record.config.resources))


async def enlarge(pod: Pod, vcpus: int, memory_mib: int) -> None:
    """Have the machine have so many processors and so much memory at least, whoever is in it; as before on failure.
    InvalidInput where that is absurd; WrongState for one that stands still, or is not reached."""
    async with pod.locked():
        pod.machine.check_reached("update", pod.record.name)
        machine = _larger(pod, vcpus, memory_mib)
        resolve.check_size(machine, implicit=False)
        if machine != pod.record.spec:
            need(pod.site.hypervisor, Feature.RESIZE, f"change the size of pod {pod.record.name} while it runs")
            await uninterrupted(_enlarge(pod, machine))


async def _enlarge(pod: Pod, machine: PodSpec) -> None:
    vm, before = pod.machine.running(), pod.record.spec
    try:
        pod.record.spec = machine
        pod.machine.save()  # first: a hyperd after us goes by the record
        async with AsyncExitStack() as undo:
            await _resize(pod, vm, undo)
            undo.pop_all()
    except BaseException:
        pod.record.spec = before
        pod.machine.note()
        raise


def _grown(pod: Pod, limits: Sequence[Resources], usual_mib: int) -> PodSpec:
    return _larger(pod, *size.together(limits, usual_mib or pod.site.limits.memory_mib))


def _larger(pod: Pod, vcpus: int, memory_mib: int) -> PodSpec:
    """Never less than it has."""
    site, record = pod.site, pod.record
    spec, guest = record.spec, record.guest
    if guest and vcpus > site.vcpus(record, guest.accelerator):
        spec = msgspec.structs.replace(spec, vcpus=vcpus)
    return msgspec.structs.replace(spec, memory_mib=memory_mib) if memory_mib > site.machine_mib(record) else spec


def _check(pod: Pod, container: Container, wanted: ContainerUpdate) -> None:
    record = container.record
    pod.check(container, "update")
    if _sizes(wanted) and (state := _stands_still(pod, container)):
        raise WrongState("update", record.name, state, "it cannot take up another size")
    if wanted.restart and wanted.restart.name != "no" and record.spec.auto_remove:
        raise InvalidInput(f"cannot set a restart policy for {record.name}: it removes itself when it ends")


def _sizes(wanted: ContainerUpdate) -> bool:
    """Whether it is about more than hyperd itself."""
    return wanted != ContainerUpdate(restart=wanted.restart, as_asked=wanted.as_asked)


def _stands_still(pod: Pod, container: Container) -> str:
    """How; "" if it does not."""
    return "paused" if pod.record.paused else "suspended" if container.record.state == "suspended" else ""


def changed(
    pod: PodRecord, container: ContainerRecord, wanted: ContainerUpdate, usual_vcpus: int, default_mib: int
) -> tuple[PodSpec, ContainerSpec]:
    """The specs with what is `wanted`, a limit lifted by 0; a pod's own size is `usual_vcpus` and `default_mib` where
    it has none.

    InvalidInput when that is absurd."""
    spec, machine, whole_machine = container.spec, pod.spec, pod.sized_for(container)
    if wanted.restart is not None:
        spec = msgspec.structs.replace(spec, restart=wanted.restart)
    if wanted.as_asked:
        spec = msgspec.structs.replace(spec, as_asked={**spec.as_asked, **wanted.as_asked})
    if wanted.cpu_shares is not None:
        spec = msgspec.structs.replace(spec, cpu_shares=wanted.cpu_shares)
    if wanted.pids is not None:
        spec = msgspec.structs.replace(spec, pids=wanted.pids)
    if wanted.cpus is not None:
        if not 0 <= wanted.cpus <= resolve.MAX_VCPUS:
            raise InvalidInput(f"invalid cpus {wanted.cpus:g}: 0 to {resolve.MAX_VCPUS}")
        if spec.cpus or not whole_machine:
            spec = msgspec.structs.replace(spec, cpus=wanted.cpus)
        whole = math.ceil(wanted.cpus)
        if whole_machine or whole > usual_vcpus:
            machine = msgspec.structs.replace(machine, vcpus=whole)
    if wanted.memory_mib is not None:
        if spec.memory_mib or not whole_machine:
            spec = msgspec.structs.replace(spec, memory_mib=wanted.memory_mib)
        if whole_machine or wanted.memory_mib > (machine.memory_mib or default_mib):
            machine = msgspec.structs.replace(machine, memory_mib=wanted.memory_mib)
    resolve.check_size(machine, implicit=pod.implicit)
    resolve.check_numbers(spec)
    return machine, spec


async def _change(
    pod: Pod, container: Container, machine: PodSpec, spec: ContainerSpec, resources: Resources, *, tell: bool = True
) -> list[str]:
    """Write it down, then make it true; as it was before if that fails. Returns what is not as it was asked for.

    Unless `tell` is off the guest is told what is written down already, too: a hyperd before us may have been killed
    between the two."""
    pod.machine.check_reached("update", container.record.name)
    before, running = (pod.record.spec, container.record.spec), container.record.config
    try:
        _write(pod, container, machine, spec, resources)  # a hyperd after us has a machine of that size
    except BaseException:
        pod.record.spec, container.record.spec = before
        container.record.config = running
        raise
    vm = pod.machine.vm
    if vm is None or _stands_still(pod, container) or not tell:
        return []
    try:
        return await _apply(pod, container, vm, resize=machine != before[0])
    except BaseException:
        pod.record.spec, container.record.spec = before
        container.record.config = running
        pod.machine.note()
        raise


def _write(pod: Pod, container: Container, machine: PodSpec, spec: ContainerSpec, resources: Resources) -> None:
    pod.record.spec, container.record.spec = machine, spec
    container.record.config = msgspec.structs.replace(container.record.config, resources=resources)
    pod.machine.save()


async def _apply(pod: Pod, container: Container, vm: Vm, *, resize: bool) -> list[str]:
    record = container.record
    wanted_mib = pod.site.machine_mib(pod.record)
    async with AsyncExitStack() as undo:
        now = await _resize(pod, vm, undo) if resize else await vm.guest.size()
        kept = pod.machine.keeps_more(record, now.memory_mib)
        if pod.machine.holds(record):
            await _limit(pod, record, now.memory_mib)
            await pod.machine.hold([each for each in pod.record.containers if pod.machine.holds(each)])
        undo.pop_all()
    if not kept:
        return []
    return [
        f"the virtual machine of {record.name} keeps {now.memory_mib} MiB of memory until it is started again; "
        f"{record.name} may use {pod.site.limit_mib(pod.record, record) or wanted_mib} MiB"
    ]


async def _resize(pod: Pod, vm: Vm, undo: AsyncExitStack) -> Size:
    """Have the machine be of the size in its record; which size it has then. `undo` has it be as it was."""
    before = await vm.guest.size()
    online = await vm.agent.resize(0, before.added_mib << 10)
    undo.push_async_callback(_again, vm, online.cpus, before)
    return await vm.resize(pod.site.vcpus(pod.record, vm.guest.record.accelerator), pod.site.machine_mib(pod.record))


async def _limit(pod: Pod, record: ContainerRecord, has_mib: int) -> None:
    try:
        await pod.machine.limit(record, has_mib)
    except GuestError as e:
        if e.errno != errno.EBUSY:
            raise
        raise InUse(str(e), "memory", record.name, [f"container {record.name}"]) from e


async def _again(vm: Vm, vcpus: int, size: Size) -> None:
    """As it was, as far as that can be; why it is undone is what the caller hears."""
    try:
        await vm.resize(vcpus, size.memory_mib)
    except HyperError as e:
        log.warning("cannot undo a change of size: %s", e)
