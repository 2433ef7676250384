"""What is true after a restart of ours: guests that still run are taken up, what was half made is removed."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from hypercontainer.engine import endpoints, restart
from hypercontainer.engine.host import Host
from hypercontainer.engine.store import Unread
from hypercontainer.engine.supervisor import Supervisor
from hypercontainer.errors import Exhausted, GuestDied, HyperError, InUse, WrongState
from hypercontainer.lib import proc
from hypercontainer.lib.tasks import all_of
from hypercontainer.model.record import NicRecord, PodRecord
from hypercontainer.sandbox.container import LOST
from hypercontainer.sandbox.locked import LockedPod
from hypercontainer.sandbox.pod import Pod
from hypercontainer.sandbox.snapshot import suspend

log = logging.getLogger(__name__)

RETRY_S = 1.0  # while a guest stands still


async def recover(supervisor: Supervisor) -> None:
    """Make pods of the records, make each true again, and remove what no record owns."""
    host, pods = supervisor.host, supervisor.pods
    records, host.index.unread = host.pods.load()
    _check_driver(host, records)
    for unread in host.index.unread:
        log.error("%s: pod %s is left alone", unread.why, unread.id)
    for folder in (host.dumps, host.waiting):  # of a hyperd that was killed
        shutil.rmtree(folder, ignore_errors=True)
    for complaint in host.checkpoints.sweep():
        log.error("%s: left alone", complaint)
    for record in [record for record in records if record.provisional]:  # `_sweep` does the rest
        host.pods.remove(record.id)
        records.remove(record)
        for container in record.containers:
            await supervisor.remove_anonymous(container)
    for record in records:
        for container in record.containers:
            supervisor.place(container)  # one of before that was written down says nothing of it
        supervisor.add(pod := supervisor.pod(record))
        pod.recall()
    there = host.index.there()
    host.networks.load()
    taken = host.networks.take_up(_kept(there))
    for complaint in [*host.networks.unread, *taken, *await host.networks.ensure()]:
        log.error("%s", complaint)
    await all_of(*(_recover(supervisor, pod) for pod in list(pods.values())))
    await _sweep(host, there)
    for pod in list(pods.values()):
        if not pod.machine.unreached:
            with _alone(pod.record.id):
                await _resume(supervisor, pod)


@contextmanager
def _alone(pod_id: str) -> Iterator[None]:
    """What fails with one pod keeps hyperd from no other: whoever removes the pod is told the same."""
    try:
        yield
    except HyperError as e:
        log.error("pod %s: cannot recover all of it: %s", pod_id, e)


def _check_driver(host: Host, records: list[PodRecord]) -> None:
    """InUse while guests of another hypervisor than the settings name may run: nobody could end them."""
    name = host.site.hypervisor.name
    for record in records:
        if (guest := record.guest) and guest.driver != name and guest.boot_id == proc.boot_id():
            words = f"cannot run guests with {name}: pod {record.name} runs with {guest.driver}; start hyperd with "
            words += f"hypervisor = {guest.driver!r} in its settings and stop it first"
            raise InUse(words, "hypervisor", guest.driver, [f"pod {record.name}"])


async def _recover(supervisor: Supervisor, pod: Pod) -> None:
    """Take its guest up, or write down that it is gone and let go of what it held."""
    with _alone(pod.record.id):
        async with pod.locked() as locked:
            if pod.record.suspended:  # a guest that is there all the same was not told to go, or to go on
                await suspend.mark_suspended(locked)
                return
            try:
                attached = await locked.attach()
            except Exhausted as e:
                log.error("pod %s is not reached yet: %s", pod.record.id, e)
                pod.spawn(_reach(supervisor, pod))
                return
            await suspend.finish_interrupted(locked)
            if attached:
                _settle(locked)
            else:
                await _lost(locked)


def _settle(pod: LockedPod) -> None:
    """Write down in which networks it is, where a hyperd before us was about to change that."""
    if (spec := endpoints.settled(pod.record)) != pod.record.spec:
        pod.record.spec = spec
        pod.machine.note()


async def _lost(pod: LockedPod) -> None:
    """Its guest is gone: what was to start again does so, what ran may."""
    pod.end_execs(GuestDied(pod.machine.lost))
    if pod.record.guest:
        pod.emit("die", error=pod.machine.lost)
    for container in pod.containers.values():
        if container.running or container.record.state == "restarting":
            was_restarting = not container.running
            container.finish(LOST, oom=False, error=pod.machine.lost)
            if was_restarting or restart.wanted(container.record):
                container.record.move("restarting")
            pod.emit("die", container, exitCode=str(LOST))
    await pod.machine.release()


async def _reach(supervisor: Supervisor, pod: Pod) -> None:
    """Take a guest up that stood still when we started, as soon as it goes on; or lose it when it has ended."""
    while True:
        still = await pod.machine.still(RETRY_S)
        async with pod.locked() as locked:
            if not pod.machine.unreached:
                return  # somebody has ended it meanwhile
            try:
                attached = still and await locked.attach()
            except Exhausted:
                continue
            if not attached:
                ended = "its virtual machine ended while it stood still for want of room on this host's disk"
                await locked.lose(GuestDied(pod.machine.lost if still else ended))
            log.info("pod %s is %s", pod.record.id, "reached again" if attached else "lost")
            if not pod.removed:
                await suspend.finish_interrupted(locked)
                if attached:
                    _settle(locked)
        break
    if not pod.removed:
        await _resume(supervisor, pod)


async def _sweep(host: Host, there: list[PodRecord | Unread]) -> None:
    """Taps, rules, run folders and shares that no pod owns, and what is mounted of volumes that none uses."""
    for complaint in await host.networks.sweep(lambda: _kept(there)):
        log.error("%s", complaint)
    known = {pod.id for pod in there}
    for folder in (host.site.run_dir(""), host.site.share_dir(""), host.site.netns("")):
        for path in folder.iterdir() if folder.exists() else ():
            if path.name not in known:
                with _alone(path.name):
                    await host.discard(path.name)
    if not host.index.unread:  # those may run, and nobody knows which volumes they have
        await host.mounted.sweep()


def _kept(there: list[PodRecord | Unread]) -> list[NicRecord]:
    """Interfaces at networks of ours; a suspended pod keeps its addresses, and has none."""
    return [nic for pod in there if not pod.suspended for nic in pod.nics if not nic.netns]


async def _resume(supervisor: Supervisor, pod: Pod) -> None:
    """Start what is to be started again, remove what was to remove itself, end a guest that nobody uses."""
    for container in list(pod.containers.values()):
        record = container.record
        if record.state == "restarting" and not supervisor.restarts.due(record.id):
            supervisor.restart_later(pod, container, 0.0)
        elif record.state == "exited" and restart.wanted_anew(record):
            record.move("restarting")
            supervisor.restart_later(pod, container, 0.0, anew=True)
        elif record.state == "removing" or (record.state == "exited" and record.spec.auto_remove):
            record.move("exited")
            with suppress(WrongState):  # it has done so meanwhile
                await supervisor.remove(pod, container, volumes=record.spec.auto_remove)
    if not pod.removed:
        async with pod.locked() as locked:
            await supervisor.power_off_if_idle(locked)
