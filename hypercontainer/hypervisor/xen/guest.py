"""A running domain: what can be done with it, and how it ended."""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from hypercontainer.errors import HyperError
from hypercontainer.hypervisor.base import Limits, Size
from hypercontainer.hypervisor.host import limits as host_limits
from hypercontainer.hypervisor.host.cause import cause, text
from hypercontainer.hypervisor.host.life import Life
from hypercontainer.hypervisor.host.reaper import reap
from hypercontainer.hypervisor.xen.rundir import CONSOLE, DomainDir
from hypercontainer.hypervisor.xen.toolstack import Toolstack
from hypercontainer.lib import cgroup, proc
from hypercontainer.lib.cgroup import PERIOD_US, USUAL_SHARES
from hypercontainer.lib.tasks import in_thread
from hypercontainer.model.record import GuestRecord

log = logging.getLogger(__name__)

CAUSE_BYTES = 16384  # of the console are searched for a panic
USUAL_WEIGHT, WEIGHTS = 256, range(1, 65536)  # of Xen's scheduler
ENDED = re.compile(r"has shut down, reason code (\d+)")  # xl's words
REASONS = {"0": "guest-shutdown", "1": "guest-reset"}  # Xen's SHUTDOWN_…, as QEMU calls them


class XenGuest:
    """Implements hypervisor.base.Guest. Its process is xl's, which ends after the domain has, and has cleaned up."""

    def __init__(self, record: GuestRecord, run: DomainDir, xen: Toolstack) -> None:
        self._life, self._run, self._xen = Life(record, run), run, xen
        self._last_words = ""  # its console, kept when the files go

    @property
    def record(self) -> GuestRecord:
        return self._life.record

    @property
    def agent_socket(self) -> Path:
        return self._run.agent

    def waited_s(self) -> Mapping[int, float]:
        return {}  # its processors are Xen's, which tells nobody

    async def size(self) -> Size:
        return await self._xen.size(self._run.name)

    async def limit(self, limits: Limits) -> None:
        """What runs on this host for it, and its processors."""
        await in_thread(host_limits.hold, self._run, limits)
        weight = (limits.cpu_shares or USUAL_SHARES) * USUAL_WEIGHT // USUAL_SHARES
        weight = min(max(weight, WEIGHTS[0]), WEIGHTS[-1])
        try:
            await self._xen.weigh(self._run.name, weight=weight, cap=limits.cpu_quota_us * 100 // PERIOD_US)
        except HyperError as e:
            log.warning("cannot hold the virtual machine in %s to its share of this host: %s", self._run.path, e)

    async def enter(self, groups: Sequence[Path]) -> None:
        await in_thread(host_limits.enter, self._run, groups)

    async def leave(self, groups: Sequence[Path]) -> None:
        await in_thread(host_limits.leave, self._run, groups)

    async def pause(self) -> None:
        await self._xen.pause(self._run.name)

    async def resume(self) -> None:
        await self._xen.unpause(self._run.name)

    async def lacks_room(self) -> bool:
        return False  # what a full disk does not take is an error in the guest

    async def tell_end(self) -> None:
        self._life.end()
        await self._destroy()

    async def kill(self) -> None:
        async with self._life.ending:
            self._life.end()
            await self._settle()
            await reap(self._run)

    async def wait(self) -> str:
        await self._life.ended()
        async with self._life.ending:
            await self._settle()
        return self._life.cause

    def console_tail(self, size: int = 4096) -> str:
        return (self._last_words or text(self._run.read_tail(f"{CONSOLE}.out", size)))[-size:]

    async def _destroy(self) -> None:
        """The domain, which its xl has not if it was killed; and what else runs for it."""
        if self._run.path.is_dir() and self._run.load():
            await self._xen.destroy(self._run.name)
            for process in self._run.marked():
                proc.kill(process.pid, process.start_time)
                await proc.gone(process.pid, process.start_time)

    async def _settle(self) -> None:
        """Wait for the end, and read what was said of it while it can be read."""
        if self._last_words:
            return
        process = self.record.process
        await proc.gone(process.pid, process.start_time)
        said = ENDED.findall(self._run.log())
        await self._destroy()
        for process in self._run.processes(CONSOLE):  # it reads to the end
            await proc.gone(process.pid, process.start_time)
        known = self._run.load()
        self._last_words = text(self._run.read_tail(f"{CONSOLE}.out", CAUSE_BYTES)) or "\n"
        self._life.cause = self._life.cause or cause(
            status="",
            reason=REASONS.get(said[-1], "") if said else "",
            console=self._last_words,
            log="",
            out_of_memory=cgroup.out_of_memory(known.groups() if known else []),
        )
