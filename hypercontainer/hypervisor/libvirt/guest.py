"""A running domain: what can be done with it, and how it ended."""

from collections.abc import Callable

from hypercontainer.errors import GuestError, Unavailable
from hypercontainer.hypervisor.base import Size
from hypercontainer.hypervisor.host.life import ProcessGuest
from hypercontainer.hypervisor.libvirt.connection import Domain, Libvirt, lacks_room, resume
from hypercontainer.hypervisor.libvirt.rundir import CONSOLE, DomainDir
from hypercontainer.lib import proc
from hypercontainer.model.record import GuestRecord


class LibvirtGuest(ProcessGuest[DomainDir]):
    """Implements hypervisor.base.Guest. Its VMM's life is looked at here, so that a libvirtd that has ended is missed
    only by who wants to change something."""

    def __init__(
        self, record: GuestRecord, run: DomainDir, libvirt: Libvirt, ended: Callable[["LibvirtGuest"], object]
    ) -> None:
        """`ended` is told, once, when its VMM is gone."""
        super().__init__(record, run)
        self._libvirt, self._tell_ended = libvirt, ended
        self.stopped = False  # by us: it is not to go on by itself

    @property
    def name(self) -> str:
        """Of its domain."""
        return self._run.name

    async def size(self) -> Size:
        def look(domain: Domain) -> Size:
            _, _, memory_kib, vcpus, _ = domain.info()
            return Size(vcpus=vcpus, memory_mib=memory_kib >> 10, added_mib=0)

        return await self._libvirt.call("tell the size of the virtual machine", self.name, look)

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

    async def _let_go(self) -> None:
        try:
            await self._libvirt.forget(self.name)
        except (GuestError, Unavailable):
            pass  # a libvirtd that comes back finds that it has ended

    async def _gone(self) -> None:
        for process in [self.record.process, *self._run.processes(CONSOLE)]:  # it reads to the end
            await proc.gone(process.pid, process.start_time)
        self._tell_ended(self)
