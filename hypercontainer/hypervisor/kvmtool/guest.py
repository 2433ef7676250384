"""A running lkvm: what can be done with it, and how it ended."""

import signal
from pathlib import Path

from hypercontainer.errors import GuestError
from hypercontainer.hypervisor.base import Size
from hypercontainer.hypervisor.host.cause import why_ended
from hypercontainer.hypervisor.host.life import ProcessGuest
from hypercontainer.hypervisor.kvmtool.rundir import LkvmDir
from hypercontainer.lib import proc
from hypercontainer.lib.vsock import Vsock

RESET = "reboot: Restarting system"  # the last word of a guest that was told to power off


class LkvmGuest(ProcessGuest[LkvmDir]):
    """Implements hypervisor.base.Guest. Whoever wants it to stand still stops its process: no lkvm is asked."""

    @property
    def agent_socket(self) -> Vsock:
        return self._run.vsock

    async def size(self) -> Size:
        words = Path(f"/proc/{self.record.process.pid}/cmdline").read_bytes().decode().split("\0")
        vcpus, memory_mib = (int(words[words.index(option) + 1]) for option in ("--cpus", "--mem"))
        return Size(vcpus=vcpus, memory_mib=memory_mib, added_mib=0)

    async def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    async def resume(self) -> None:
        self._signal(signal.SIGCONT)

    async def lacks_room(self) -> bool:
        return False  # lkvm tells the guest that its disk has an error

    def _signal(self, number: int) -> None:
        process = self.record.process
        if not proc.kill(process.pid, process.start_time, number):
            raise GuestError("the virtual machine is gone")

    def _why(self) -> str:
        return why_ended(self._run, off=RESET)
