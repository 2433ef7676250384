"""A running lkvm: what can be done with it, and how it ended."""

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from hypercontainer.errors import GuestError
from hypercontainer.hypervisor.base import Limits, Size
from hypercontainer.hypervisor.host import limits as host_limits
from hypercontainer.hypervisor.host.cause import cause, text
from hypercontainer.hypervisor.host.life import Life
from hypercontainer.hypervisor.host.reaper import reap
from hypercontainer.hypervisor.kvmtool.rundir import VMM, LkvmDir
from hypercontainer.lib import cgroup, proc
from hypercontainer.lib.tasks import in_thread
from hypercontainer.lib.vsock import Vsock
from hypercontainer.model.record import GuestRecord

CONSOLE = f"{VMM}.out"
CAUSE_BYTES = 16384  # of the console are searched for a panic
RESET = "reboot: Restarting system"  # the last word of a guest that was told to power off


class LkvmGuest:
    """Implements hypervisor.base.Guest. Whoever wants it to stand still stops its process: no lkvm is asked."""

    def __init__(self, record: GuestRecord, run: LkvmDir) -> None:
        self._life, self._run = Life(record, run), run
        self._last_words = ""  # its console, kept when the files go

    @property
    def record(self) -> GuestRecord:
        return self._life.record

    @property
    def agent_socket(self) -> Vsock:
        return self._run.vsock

    def waited_s(self) -> Mapping[int, float]:
        return proc.waited_s(self.record.process.pid)

    async def size(self) -> Size:
        words = Path(f"/proc/{self.record.process.pid}/cmdline").read_bytes().decode().split("\0")
        vcpus, memory_mib = (int(words[words.index(option) + 1]) for option in ("--cpus", "--mem"))
        return Size(vcpus=vcpus, memory_mib=memory_mib, added_mib=0)

    async def limit(self, limits: Limits) -> None:
        await in_thread(host_limits.hold, self._run, limits)

    async def enter(self, groups: Sequence[Path]) -> None:
        await in_thread(host_limits.enter, self._run, groups)

    async def leave(self, groups: Sequence[Path]) -> None:
        await in_thread(host_limits.leave, self._run, groups)

    async def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    async def resume(self) -> None:
        self._signal(signal.SIGCONT)

    async def lacks_room(self) -> bool:
        return False  # lkvm tells the guest that its disk has an error

    async def tell_end(self) -> None:
        self._life.end()

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
        return (self._last_words or text(self._run.read_tail(CONSOLE, size)))[-size:]

    def _signal(self, number: int) -> None:
        process = self.record.process
        if not proc.kill(process.pid, process.start_time, number):
            raise GuestError("the virtual machine is gone")

    async def _settle(self) -> None:
        """Wait for the end, and read what was said of it while it can be read."""
        if self._last_words:
            return
        keeper = self._run.processes(VMM)[:1]  # it writes the status
        for process in [self.record.process, *keeper]:
            await proc.gone(process.pid, process.start_time)
        self._life.cause = self._life.cause or why_ended(self._run)
        self._last_words = text(self._run.read_tail(CONSOLE, CAUSE_BYTES)) or "\n"


def why_ended(run: LkvmDir) -> str:
    """Why the lkvm of `run` ended, its processes gone and its files still there."""
    known = run.load()
    return cause(
        vmm=VMM,
        status=run.status(VMM),
        console=text(run.read_tail(CONSOLE, CAUSE_BYTES)),
        log=text(run.read_tail(f"{VMM}.log", CAUSE_BYTES)),
        out_of_memory=cgroup.out_of_memory(known.groups() if known else []),
        off=RESET,
    )
