"""A running domain: what can be done with it, and how it ended."""

import logging
import re
from collections.abc import Mapping

from hypercontainer.errors import HyperError
from hypercontainer.hypervisor.base import Limits, Size
from hypercontainer.hypervisor.host.cause import why_ended
from hypercontainer.hypervisor.host.life import ProcessGuest
from hypercontainer.hypervisor.xen.rundir import CONSOLE, DomainDir
from hypercontainer.hypervisor.xen.toolstack import Toolstack
from hypercontainer.lib import proc
from hypercontainer.lib.cgroup import PERIOD_US, USUAL_SHARES
from hypercontainer.model.record import GuestRecord

log = logging.getLogger(__name__)

USUAL_WEIGHT, WEIGHTS = 256, range(1, 65536)  # of Xen's scheduler
ENDED = re.compile(r"has shut down, reason code (\d+)")  # xl's words
REASONS = {"0": "guest-shutdown", "1": "guest-reset"}  # Xen's SHUTDOWN_…, as QEMU calls them


class XenGuest(ProcessGuest[DomainDir]):
    """Implements hypervisor.base.Guest. Its process is xl's, which ends after the domain has, and has cleaned up."""

    def __init__(self, record: GuestRecord, run: DomainDir, xen: Toolstack) -> None:
        super().__init__(record, run)
        self._xen = xen
        self._reason = ""  # xl's, of the domain's end

    def waited_s(self) -> Mapping[int, float]:
        return {}  # its processors are Xen's, which tells nobody

    async def size(self) -> Size:
        return await self._xen.size(self._run.name)

    async def limit(self, limits: Limits) -> None:
        """What runs on this host for it, and its processors."""
        await super().limit(limits)
        weight = (limits.cpu_shares or USUAL_SHARES) * USUAL_WEIGHT // USUAL_SHARES
        weight = min(max(weight, WEIGHTS[0]), WEIGHTS[-1])
        try:
            await self._xen.weigh(self._run.name, weight=weight, cap=limits.cpu_quota_us * 100 // PERIOD_US)
        except HyperError as e:
            log.warning("cannot hold the virtual machine in %s to its share of this host: %s", self._run.path, e)

    async def pause(self) -> None:
        await self._xen.pause(self._run.name)

    async def resume(self) -> None:
        await self._xen.unpause(self._run.name)

    async def lacks_room(self) -> bool:
        return False  # what a full disk does not take is an error in the guest

    async def tell_end(self) -> None:
        self._end()
        await self._destroy()

    async def _destroy(self) -> None:
        """The domain, which its xl has not if it was killed; and what else runs for it."""
        if self._run.path.is_dir() and self._run.load():
            await self._xen.destroy(self._run.name)
            for process in self._run.marked():
                proc.kill(process.pid, process.start_time)
                await proc.gone(process.pid, process.start_time)

    async def _gone(self) -> None:
        process = self.record.process
        await proc.gone(process.pid, process.start_time)
        said = ENDED.findall(self._run.log())
        self._reason = REASONS.get(said[-1], "") if said else ""
        await self._destroy()
        for process in self._run.processes(CONSOLE):  # it reads to the end
            await proc.gone(process.pid, process.start_time)

    def _why(self) -> str:
        return why_ended(self._run, reason=self._reason)
