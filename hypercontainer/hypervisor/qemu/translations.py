"""Room for one more processor in what an emulating QEMU keeps of translated code (its tcg/region.c).

The code is in REGIONS regions, one of them each processor's own; who has filled his takes another, and when none is
left all are emptied. A processor that is plugged while none is left has no region, and QEMU ends with a failed
assertion.
"""

import asyncio
import re
from dataclasses import dataclass

from hypercontainer.errors import Exhausted, GuestError
from hypercontainer.hypervisor.qemu.qmp import Monitor
from hypercontainer.lib.limit import limit

REGIONS = 32  # of 2 MiB, as QEMU divides argv.TRANSLATIONS_MIB with 4 to 31 possible processors
SPARE = 1  # a guest that runs goes on filling meanwhile
EMPTIED_S, LOOK_S = 10.0, 0.02  # until it must have been emptied; between looks

USED = re.compile(r"gen code size +(\d+)/(\d+)")
FLUSHES = re.compile(r"TB flush count +(\d+)")
ONE_BY_ONE = ("singlestep", "one-insn-per-tb")  # translate instruction by instruction: QEMU to 8.0, and later


@dataclass(frozen=True)
class Translations:
    """What QEMU says of it, in bytes; `flushes`: how often it was emptied."""

    used: int
    capacity: int
    flushes: int

    def left(self, vcpus: int) -> int:
        """Regions that nobody has, at least, of a guest with so many processors."""
        return REGIONS - self.used // (self.capacity // REGIONS) - vcpus


async def look(monitor: Monitor) -> Translations:
    said = await monitor.execute("x-query-jit")
    text = str(said.get("human-readable-text")) if isinstance(said, dict) else ""
    used, flushes = USED.search(text), FLUSHES.search(text)
    if not used or not flushes or int(used[2]) < REGIONS:
        raise GuestError("cannot tell how much code QEMU has translated: it says nonsense")
    return Translations(int(used[1]), int(used[2]), int(flushes[1]))


async def make_room(monitor: Monitor, vcpus: int) -> None:
    """Have a region free, in a guest with `vcpus` processors. Exhausted when that does too little to fill the last
    ones: nothing has changed then.

    It fills them with the same code again, translated instruction by instruction: megabytes at the next interrupt."""
    before = await look(monitor)
    if before.left(vcpus) > SPARE:
        return
    try:
        async with limit(EMPTIED_S, monitor.waited):
            await _one_by_one(monitor, "on")
            while (await look(monitor)).flushes == before.flushes:  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)
    except TimeoutError as e:
        why = "QEMU has no room for the code that it would run, and the guest does too little to have any made"
        raise Exhausted(f"cannot add a processor: {why}; try again while something runs in it") from e
    finally:
        await as_usual(monitor)


async def as_usual(monitor: Monitor) -> None:
    """Translate as QEMU does by itself: a hyperd before us may have ended in between. Again changes nothing."""
    await _one_by_one(monitor, "off")


async def _one_by_one(monitor: Monitor, switch: str) -> None:
    for command in ONE_BY_ONE:
        said = await monitor.execute("human-monitor-command", {"command-line": f"{command} {switch}"})
        if not said:
            return
    raise GuestError(f"cannot have QEMU translate otherwise: {str(said).strip()}")
