"""A running domain: what can be done with it, and how it ended."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hypercontainer.errors import GuestError, Unavailable
from hypercontainer.hypervisor.base import Limits, Size
from hypercontainer.hypervisor.host import limits as host_limits
from hypercontainer.hypervisor.host.cause import cause, text
from hypercontainer.hypervisor.host.life import Life
from hypercontainer.hypervisor.host.reaper import reap
from hypercontainer.hypervisor.libvirt.connection import Domain, Libvirt, lacks_room, resume
from hypercontainer.hypervisor.libvirt.rundir import CONSOLE, DomainDir
from hypercontainer.lib import cgroup, proc
from hypercontainer.lib.tasks import in_thread
from hypercontainer.model.record import GuestRecord

CAUSE_BYTES = 16384  # of the console are searched for a panic


class LibvirtGuest:
    """Implements hypervisor.base.Guest. Its VMM's life is looked at here, so that a libvirtd that has ended is missed
    only by who wants to change something."""

    def __init__(
        self, record: GuestRecord, run: DomainDir, libvirt: Libvirt, ended: Callable[["LibvirtGuest"], object]
    ) -> None:
        """`ended` is told, once, when its VMM is gone."""
        self._life, self._run, self._libvirt, self._tell_ended = Life(record, run), run, libvirt, ended
        self._last_words = ""  # its console, kept when the files go
        self.stopped = False  # by us: it is not to go on by itself

    @property
    def record(self) -> GuestRecord:
        return self._life.record

    @property
    def name(self) -> str:
        """Of its domain."""
        return self._run.name

    @property
    def agent_socket(self) -> Path:
        return self._run.agent

    def waited_s(self) -> Mapping[int, float]:
        return proc.waited_s(self.record.process.pid)

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
        self._life.end()
        await self._life.end_share()

    async def kill(self) -> None:
        async with self._life.ending:
            self._life.end()
            await self._settle()
            try:
                await self._libvirt.forget(self.name)
            except (GuestError, Unavailable):
                pass  # a libvirtd that comes back finds that it has ended
            await reap(self._run)

    async def wait(self) -> str:
        await self._life.ended()
        async with self._life.ending:
            await self._settle()
        return self._life.cause

    def console_tail(self, size: int = 4096) -> str:
        return (self._last_words or text(self._run.read_tail(f"{CONSOLE}.out", size)))[-size:]

    async def _settle(self) -> None:
        """Wait for the end, and read what was said of it while it can be read."""
        if self._last_words:
            return
        for process in [self.record.process, *self._run.processes(CONSOLE)]:  # it reads to the end
            await proc.gone(process.pid, process.start_time)
        known = self._run.load()
        self._last_words = text(self._run.read_tail(f"{CONSOLE}.out", CAUSE_BYTES)) or "\n"
        life = self._life
        life.cause = life.cause or cause(
            status="",  # libvirtd has waited for it, and does not tell
            reason="",
            console=self._last_words,
            log="",
            out_of_memory=cgroup.out_of_memory(known.groups() if known else []),
            share=life.share_end,
        )
        self._tell_ended(self)
