"""The life of a guest, as the processes of its VMM and of the virtiofsd beside it tell it, whoever has started them."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar, cast

from hypercontainer.errors import HyperError
from hypercontainer.hypervisor.base import Limits, VmConfig
from hypercontainer.hypervisor.host import limits as host_limits
from hypercontainer.hypervisor.host.cause import CAUSE_BYTES, text, why_ended
from hypercontainer.hypervisor.host.reaper import reap
from hypercontainer.hypervisor.host.rundir import VIRTIOFSD, RunDir
from hypercontainer.lib import proc
from hypercontainer.lib.tasks import in_thread
from hypercontainer.lib.vsock import Vsock
from hypercontainer.model.record import Accelerator, GuestRecord, ProcessRef

SHARED_S = 20.0  # until a killed virtiofsd must have ended
HELPER_S = 1.0  # from the end of virtiofsd to that of its VMM, where both end together

AnyRun = TypeVar("AnyRun", bound=RunDir)


def born(driver: str, config: VmConfig, run: RunDir, process: ProcessRef, helpers: list[ProcessRef]) -> GuestRecord:
    """The record of a VMM that runs, with what serves it."""
    return GuestRecord(
        driver=driver,
        arch=config.arch,
        process=process,
        run_dir=str(run.path),
        accelerator=cast(Accelerator, config.accelerator),  # drivers refuse others
        boot_id=proc.boot_id(),
        uid=config.uid,
        helpers=helpers,
    )


class ProcessGuest(Generic[AnyRun]):
    """A guest whose VMM is a process of this host: of hypervisor.base.Guest, what most drivers' guests have in common.

    `_run` is where its files are now. `_ending` is held by whoever ends it, or reads how it ended."""

    def __init__(self, record: GuestRecord, run: AnyRun) -> None:
        self.record, self._run = record, run
        self._ending = asyncio.Lock()
        self._cause = ""  # set once the VMM is gone
        self._share_end = ""  # how virtiofsd ended, if it did so before its VMM
        self._last_words = b""  # its console, kept when the files go

    @property
    def agent_socket(self) -> Path | Vsock:
        return self._run.agent

    def waited_s(self) -> Mapping[int, float]:
        return proc.waited_s(self.record.process.pid)

    async def limit(self, limits: Limits) -> None:
        await in_thread(host_limits.hold, self._run, limits)

    async def enter(self, groups: Sequence[Path]) -> None:
        await in_thread(host_limits.enter, self._run, groups)

    async def leave(self, groups: Sequence[Path]) -> None:
        await in_thread(host_limits.leave, self._run, groups)

    async def tell_end(self) -> None:
        self._end()
        await self._end_share()

    async def kill(self) -> None:
        async with self._ending:
            self._end()
            await self._settle()
            await self._let_go()
            await reap(self._run)

    async def wait(self) -> str:
        await self._ended()
        async with self._ending:
            await self._settle()
        return self._cause

    def console_tail(self, size: int = 4096) -> str:
        return text(self._last_words[-size:] or self._run.read_tail(self._run.console_out, size))

    async def _settle(self) -> None:
        """Wait for the end, and read what was said of it while it can be read."""
        if self._last_words:
            return
        await self._gone()
        self._cause = self._cause or self._why()
        self._last_words = self._run.read_tail(self._run.console_out, CAUSE_BYTES) or b"\n"

    async def _gone(self) -> None:
        """Wait for the VMM's end, and for that of its keeper, who writes the status."""
        keeper = self._run.processes(self._run.vmm)[:1]
        for process in [self.record.process, *keeper]:
            await proc.gone(process.pid, process.start_time)

    def _why(self) -> str:
        """Why it ended, in words, its processes gone and its files still there."""
        return why_ended(self._run, share=self._share_end)

    async def _let_go(self) -> None:
        """Let go of what its driver has of it beside processes and files; it has ended."""

    def _end(self) -> None:
        """Kill the VMM, unless it is gone."""
        process = self.record.process
        if proc.kill(process.pid, process.start_time) and not self._cause:
            self._cause = "killed"

    async def _end_share(self) -> None:
        """Have nobody use the shared folder any more. HyperError: somebody does."""
        for server in self.record.helpers:
            for child in proc.children(server.pid):  # which serves: it ends with the VMM's connection, but that late
                proc.kill(*child)  # and the server after it
        ends = [asyncio.ensure_future(proc.gone(each.pid, each.start_time)) for each in self.record.helpers]
        try:
            if ends and (await asyncio.wait(ends, timeout=SHARED_S))[1]:
                folder = self._run.path
                raise HyperError(f"cannot end the virtual machine in {folder}: it uses its share after {SHARED_S:g} s")
        finally:
            for end in ends:
                end.cancel()

    async def _ended(self) -> None:
        """Wait for the VMM's end, or bring it about: without virtiofsd whoever touches a shared folder hangs."""
        vmm, *helpers = [
            asyncio.create_task(proc.gone(one.pid, one.start_time))
            for one in (self.record.process, *self.record.helpers)
        ]
        try:
            await asyncio.wait([vmm, *helpers], return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait([vmm], timeout=HELPER_S)  # mostly it is the VMM's end that ends them both
            if not vmm.done():
                await self._lose_share()
                await vmm
        finally:
            for task in (vmm, *helpers):
                task.cancel()

    async def _lose_share(self) -> None:
        for keeper in self._run.processes(VIRTIOFSD)[:1]:
            await proc.gone(keeper.pid, keeper.start_time)  # it writes the status
        async with self._ending:
            process = self.record.process
            if proc.kill(process.pid, process.start_time):
                self._share_end = self._run.status(VIRTIOFSD) or "nobody knows what"
