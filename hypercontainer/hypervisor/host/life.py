"""The life of a VMM and of the virtiofsd beside it, as their processes tell it, whoever has started them."""

import asyncio
from typing import cast

from hypercontainer.errors import HyperError
from hypercontainer.hypervisor.base import VmConfig
from hypercontainer.hypervisor.host.rundir import VIRTIOFSD, RunDir
from hypercontainer.lib import proc
from hypercontainer.model.record import Accelerator, GuestRecord, ProcessRef

SHARED_S = 20.0  # until a killed virtiofsd must have ended
HELPER_S = 1.0  # from the end of virtiofsd to that of its VMM, where both end together


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


class Life:
    """`run` is where its files are now. `ending` is held by whoever ends it, or reads how it ended."""

    def __init__(self, record: GuestRecord, run: RunDir) -> None:
        self.record, self.run = record, run
        self.ending = asyncio.Lock()
        self.cause = ""  # set once the VMM is gone
        self.share_end = ""  # how virtiofsd ended, if it did so before its VMM

    def end(self) -> None:
        """Kill the VMM, unless it is gone."""
        process = self.record.process
        if proc.kill(process.pid, process.start_time) and not self.cause:
            self.cause = "killed"

    async def end_share(self) -> None:
        """Have nobody use the shared folder any more. HyperError: somebody does."""
        for server in self.record.helpers:
            for child in proc.children(server.pid):  # which serves: it ends with the VMM's connection, but that late
                proc.kill(*child)  # and the server after it
        ends = [asyncio.ensure_future(proc.gone(each.pid, each.start_time)) for each in self.record.helpers]
        try:
            if ends and (await asyncio.wait(ends, timeout=SHARED_S))[1]:
                folder = self.run.path
                raise HyperError(f"cannot end the virtual machine in {folder}: it uses its share after {SHARED_S:g} s")
        finally:
            for end in ends:
                end.cancel()

    async def ended(self) -> None:
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
        for keeper in self.run.processes(VIRTIOFSD)[:1]:
            await proc.gone(keeper.pid, keeper.start_time)  # it writes the status
        async with self.ending:
            process = self.record.process
            if proc.kill(process.pid, process.start_time):
                self.share_end = self.run.status(VIRTIOFSD) or "nobody knows what"
