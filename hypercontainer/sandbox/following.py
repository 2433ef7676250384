"""The machine of a pod follows the network namespace that an engine made for that: interfaces come, change and go with
those that are there."""

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from hypercontainer.errors import HyperError, NotFound
from hypercontainer.model.record import NicRecord
from hypercontainer.network.changes import Changes
from hypercontainer.vm import Vm

if TYPE_CHECKING:
    from hypercontainer.sandbox.pod import Pod

log = logging.getLogger(__name__)

FIRST_S = 1.0  # until what has changed while nobody listened is looked for: a start does not wait for that
AGAIN_S = 5.0  # after a failure: a machine that is paused changes later


class Difference(NamedTuple):
    gone: list[NicRecord]
    come: list[NicRecord]
    changed: list[tuple[NicRecord, NicRecord]]  # as it is, and as it is to be


def difference(have: Sequence[NicRecord], found: Sequence[NicRecord], cut: Sequence[NicRecord] = ()) -> Difference:
    """What makes the interfaces of a pod those that are `found` in its namespace. `cut`: of those that it has, whatever
    is called so there by now is another one. What a hyperd began and did not end with is begun anew."""
    there = {(nic.name, nic.mac): nic for nic in found}
    kept = {
        (nic.name, nic.mac): nic
        for nic in have
        if (nic.name, nic.mac) in there and not nic.provisional and nic not in cut
    }
    return Difference(
        gone=[nic for nic in have if nic not in kept.values()],
        come=[nic for key, nic in there.items() if key not in kept],
        changed=[(nic, there[key]) for key, nic in kept.items() if _says(nic) != _says(there[key])],
    )


def _says(nic: NicRecord) -> tuple[object, ...]:
    return nic.mtu, nic.addresses, nic.routes, nic.rules, nic.neighbours


async def follow(pod: "Pod", vm: Vm) -> None:
    """Until its machine has ended. What cannot be followed is logged once, and tried again."""
    try:
        changes = Changes(_place(pod))
    except HyperError as e:
        log.warning("pod %s: its network stays as it is: %s", pod.record.id, e)
        return
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_follow(pod, vm, changes))
            await vm.guest.wait()
            changes.end()
    finally:
        changes.end()


async def _follow(pod: "Pod", vm: Vm, changes: Changes) -> None:
    failed, known = "", list[str]()
    wait_s: float | None = FIRST_S
    while await changes.wait(wait_s):
        try:
            left_out = await _look(pod, vm, changes.inode)
            for words in left_out:
                if words not in known:
                    log.warning("pod %s: its machine does without %s", pod.record.id, words)
            failed, known, wait_s = "", left_out, None
        except HyperError as e:
            if pod.machine.vm is not vm:
                return  # it went with its machine
            if str(e) != failed:
                log.warning("pod %s: cannot follow what has changed in its network: %s", pod.record.id, e)
            failed, wait_s = str(e), AGAIN_S


async def _look(pod: "Pod", vm: Vm, inode: int) -> list[str]:
    """What no machine can have of it, in words. Its lock is held only where there is something to do, and then all is
    looked at once more. When all in it has ended, whoever takes the network down takes it from a machine that goes as
    well."""
    found, left_out = await _difference(pod, inode)
    if any(found):
        async with pod.locked() as locked:
            if pod.machine.vm is vm and any(each.record.state != "exited" for each in pod.containers.values()):
                found, left_out = await _difference(pod, inode)
                await locked.follow(found)
    return left_out


def _place(pod: "Pod") -> str:
    """Where hyperd holds its namespace while the machine runs, whoever has ended in there."""
    return str(pod.site.netns(pod.record.id))


async def _difference(pod: "Pod", inode: int) -> tuple[Difference, list[str]]:
    record = pod.record
    network = pod.site.given(record.id)
    found = await network.plan(record.id, [], [])
    if any(nic.netns_inode != inode for nic in found):
        raise NotFound("network namespace", _place(pod), "there is another one in its place")
    have = list(record.nics)
    return difference(have, found, [nic for nic in have if not await network.is_plugged(nic)]), network.left_out
