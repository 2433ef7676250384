"""A running domain: what can be done with it, and how it ended."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hypercontainer.errors import GuestError, HyperError, Unavailable
from hypercontainer.hypervisor.base import Limits, Size
from hypercontainer.hypervisor.host import limits as host_limits
from hypercontainer.hypervisor.host.reaper import reap
from hypercontainer.hypervisor.host.rundir import VIRTIOFSD
from hypercontainer.hypervisor.libvirt.connection import Domain, Libvirt, lacks_room, resume
from hypercontainer.hypervisor.libvirt.rundir import CONSOLE, DomainDir
from hypercontainer.hypervisor.qemu.cause import cause, text
from hypercontainer.lib import cgroup, proc
from hypercontainer.lib.tasks import in_thread
from hypercontainer.model.record import GuestRecord

SHARED_S = 20.0  # until a killed virtiofsd must have ended
HELPER_S = 1.0  # from the end of virtiofsd to that of its VMM, where both end together
CAUSE_BYTES = 16384  # of the console are searched for a panic


class LibvirtGuest:
    """Implements hypervisor.base.Guest. Its VMM's life is looked at here, so that a libvirtd that has ended is missed
    only by who wants to change something."""

    def __init__(
        self, record: GuestRecord, run: DomainDir, libvirt: Libvirt, ended: Callable[["LibvirtGuest"], object]
    ) -> None:
        """`ended` is told, once, when its VMM is gone."""
        self._record, self._run, self._libvirt, self._tell_ended = record, run, libvirt, ended
        self._ending = asyncio.Lock()
        self._cause = ""  # set once the VMM is gone
        self._share_end = ""  # how virtiofsd ended, if it did so before its VMM
        self._last_words = ""  # its console, kept when the files go
        self.stopped = False  # by us: it is not to go on by itself

    @property
    def record(self) -> GuestRecord:
        return self._record

    @property
    def name(self) -> str:
        """Of its domain."""
        return self._run.name

    @property
    def agent_socket(self) -> Path:
        return self._run.agent

    def waited_s(self) -> Mapping[int, float]:
        return proc.waited_s(self._record.process.pid)

    async def size(self) -> Size:
        def look(domain: Domain) -> Size:
            _, _, memory_kib, vcpus, _ = domain.info()
            return Size(vcpus=vcpus, memory_mib=memory_kib >> 10, added_mib=0)

        return await self._libvirt.call("tell the size of the virtual machine", self.name, look)

    async def limit(self, limits: Limits) -> None:
        await in_thread(host_limits.hold, self._run, limits)

    async def enter(self, groups: Sequence[Path]) -> None:
        await in_thread(host_limits.enter, self._run, groups)

    async def leave(self, groups: Sequence[Path]) -> None:
        await in_thread(host_limits.leave, self._run, groups)

    async def pause(self) -> None:
        self.stopped = True
        await self._libvirt.call("pause the virtual machine", self.name, lambda domain: domain.suspend())

    async def resume(self) -> None:
        await self._libvirt.call("resume the virtual machine", self.name, resume)
        self.stopped = False

    async def lacks_room(self) -> bool:
        """Without a libvirtd nobody can tell, and who asks is to reach a guest that most likely runs."""
        try:
            return await self._libvirt.call("look at the virtual machine", self.name, lacks_room)
        except Unavailable:
            return False

    async def tell_end(self) -> None:
        self._end_vmm()
        try:
            async with asyncio.timeout(SHARED_S):
                for server in self._record.helpers:
                    for child in proc.children(server.pid):  # which serves: it would end with the VMM, but that late
                        proc.kill(*child)
                    await proc.gone(server.pid, server.start_time)
        except TimeoutError as e:
            folder = self._run.path
            words = f"cannot end the virtual machine in {folder}: it uses its share after {SHARED_S:g} s"
            raise HyperError(words) from e

    def _end_vmm(self) -> None:
        process = self._record.process
        if proc.kill(process.pid, process.start_time) and not self._cause:
            self._cause = "killed"

    async def kill(self) -> None:
        async with self._ending:
            self._end_vmm()
            await self._settle()
            try:
                await self._libvirt.forget(self.name)
            except (GuestError, Unavailable):
                pass  # a libvirtd that comes back finds that it has ended
            await reap(self._run)

    async def wait(self) -> str:
        await self._first_end()
        async with self._ending:
            await self._settle()
        return self._cause

    async def _first_end(self) -> None:
        """Wait for the VMM's end, or bring it about: without virtiofsd whoever touches a shared folder hangs."""
        vmm, *helpers = [
            asyncio.create_task(proc.gone(one.pid, one.start_time))
            for one in (self._record.process, *self._record.helpers)
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
            process = self._record.process
            if proc.kill(process.pid, process.start_time):
                self._share_end = self._run.status(VIRTIOFSD) or "nobody knows what"

    def console_tail(self, size: int = 4096) -> str:
        return (self._last_words or text(self._run.read_tail(f"{CONSOLE}.out", size)))[-size:]

    async def _settle(self) -> None:
        """Wait for the end, and read what was said of it while it can be read."""
        if self._last_words:
            return
        for process in [self._record.process, *self._run.processes(CONSOLE)]:  # it reads to the end
            await proc.gone(process.pid, process.start_time)
        known = self._run.load()
        self._last_words = text(self._run.read_tail(f"{CONSOLE}.out", CAUSE_BYTES)) or "\n"
        self._cause = self._cause or cause(
            status="",  # libvirtd has waited for it, and does not tell
            reason="",
            console=self._last_words,
            log="",
            out_of_memory=cgroup.out_of_memory(known.groups() if known else []),
            share=self._share_end,
        )
        self._tell_ended(self)
