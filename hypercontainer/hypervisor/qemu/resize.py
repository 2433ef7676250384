"""More processors and memory for a guest that runs, and less memory again.

Processors are plugged (ACPI) and never unplugged: QEMU 7.2 crashes, emulating, when one is plugged into the slot of
one that was. The agent switches off those that are not wanted, and on again. A machine that plugs none has those that
it started with. Memory comes and goes through one virtio-mem device, in blocks of 4 MiB; the guest decides what it can
give back.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hypercontainer.errors import GuestError, InvalidInput
from hypercontainer.hypervisor.base import Size
from hypercontainer.hypervisor.host import limits
from hypercontainer.hypervisor.qemu import argv, translations
from hypercontainer.hypervisor.qemu.machines import Machine
from hypercontainer.hypervisor.qemu.qmp import Monitor

STALLED_S = 3.0  # without a block more or less: nothing more will come. 384 MiB go in 0.4 s, emulated
LOOK_S = (0.005, 0.01, 0.02, 0.05)  # between looks at what the guest has done; the last one again and again
DEVICE = f"/machine/peripheral/{argv.ROOM}"

Document = Mapping[str, object]


async def size(monitor: Monitor, machine: Machine) -> Size:
    """What the guest has now."""
    summary = _document(await monitor.execute("query-memory-size-summary"))
    base, added = (_number(summary, key) >> 20 for key in ("base-memory", "plugged-memory"))
    return Size(vcpus=len(_plugged(await _cpu_slots(monitor, machine))), memory_mib=base + added, added_mib=added)


async def resize(
    monitor: Monitor,
    machine: Machine,
    cgroups: Sequence[Path],
    *,
    vcpus: int,
    memory_mib: int,
    emulated: bool = False,
    stalled_s: float = STALLED_S,
) -> Size:
    """See hypervisor.base.Resizable. `cgroups` are the VMM's: their limits follow the memory."""
    if emulated:
        await translations.as_usual(monitor)
    slots, now = await _cpu_slots(monitor, machine), await size(monitor, machine)
    if vcpus > len(slots):
        raise InvalidInput(f"cannot give a running virtual machine {vcpus} vCPUs: {len(slots)} at most")
    most_mib = now.memory_mib - now.added_mib + await _room_mib(monitor)
    if memory_mib > most_mib:
        raise InvalidInput(f"cannot give a running virtual machine {memory_mib} MiB of memory: {most_mib} at most")
    for n, slot in enumerate(_free(slots)[: max(0, vcpus - now.vcpus)]):
        if emulated:
            await translations.make_room(monitor, now.vcpus + n)
        await _plug(monitor, slot)
    wanted = max(0, memory_mib - (now.memory_mib - now.added_mib))
    wanted -= wanted % -argv.BLOCK_MIB  # whole blocks, rounded up
    if wanted != now.added_mib:
        limits.change(cgroups, max(now.memory_mib, now.memory_mib - now.added_mib + wanted))
        await _add(monitor, now.added_mib, wanted, stalled_s)
    now = await size(monitor, machine)
    limits.change(cgroups, now.memory_mib)
    return now


async def _add(monitor: Monitor, had_mib: int, wanted_mib: int, stalled_s: float) -> None:
    """Have the guest take, or give back, what makes `wanted_mib`, for as long as it does so."""
    await _request(monitor, wanted_mib)
    looks, before, deadline = list(LOOK_S), had_mib, time.monotonic() + stalled_s
    while (added := await _added_mib(monitor)) != wanted_mib and time.monotonic() < deadline:
        if added != before:
            before, deadline = added, time.monotonic() + stalled_s
        await asyncio.sleep(looks.pop(0) if len(looks) > 1 else looks[0])
    if added != wanted_mib:  # or it would try again for as long as it lives, every minute
        await _request(monitor, added)


async def _request(monitor: Monitor, added_mib: int) -> None:
    value = {"path": DEVICE, "property": "requested-size", "value": added_mib << 20}
    await monitor.execute("qom-set", value)


async def _added_mib(monitor: Monitor) -> int:
    found = await monitor.execute("qom-get", {"path": DEVICE, "property": "size"})
    if not isinstance(found, int):
        raise GuestError("cannot tell the size of the guest's memory: QEMU does not say")
    return found >> 20


async def _room_mib(monitor: Monitor) -> int:
    """What can be added in all; 0 of a guest of an older hyperd."""
    devices = await monitor.execute("query-memory-devices")
    for device in devices if isinstance(devices, list) else []:
        data = _document(_document(device).get("data"))
        if data.get("id") == argv.ROOM:
            return _number(data, "max-size") >> 20
    return 0


async def _cpu_slots(monitor: Monitor, machine: Machine) -> list[Document]:
    """Where processors are or may be, in the order of their numbers."""
    found = await monitor.execute("query-hotpluggable-cpus" if machine.hot_vcpus else "query-cpus-fast")
    slots = [_document(slot) for slot in found] if isinstance(found, list) else []
    return sorted(slots, key=_order)


def _order(slot: Document) -> list[int]:
    props = _document(slot.get("props"))
    return [_number(props, key) for key in ("socket-id", "core-id", "thread-id")]


def _plugged(slots: Sequence[Document]) -> list[Document]:
    return [slot for slot in slots if "qom-path" in slot]


def _free(slots: Sequence[Document]) -> list[Document]:
    return [slot for slot in slots if "qom-path" not in slot]


async def _plug(monitor: Monitor, slot: Document) -> None:
    props = _document(slot.get("props"))
    number = "-".join(str(word) for word in _order(slot))
    await monitor.execute("device_add", {"driver": slot.get("type"), "id": f"cpu{number}", **props})


def _document(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise GuestError("cannot tell the size of the virtual machine: QEMU says nonsense")
    return value


def _number(document: Document, key: str) -> int:
    value = document.get(key, 0)
    if not isinstance(value, int):
        raise GuestError(f"cannot tell the size of the virtual machine: QEMU says nonsense about {key}")
    return value
