"""A running QEMU: what can be done with it, and how it ended."""

import asyncio
import os
from pathlib import Path

from hypercontainer.errors import GuestError
from hypercontainer.hypervisor.qemu import argv, cgroup, snapshot
from hypercontainer.hypervisor.qemu.cause import cause, text
from hypercontainer.hypervisor.qemu.disk import open_disk
from hypercontainer.hypervisor.qemu.qmp import Monitor
from hypercontainer.hypervisor.qemu.reaper import reap
from hypercontainer.hypervisor.qemu.rundir import RunDir
from hypercontainer.lib import proc
from hypercontainer.model.record import DiskRecord, GuestRecord

FDSET_BASE = 1000  # of disks plugged later: apart from those of the command line
CONSOLE = "qemu.out"
CAUSE_BYTES = 16384  # of the console are searched for a panic


class QemuGuest:
    """Implements hypervisor.base.Guest."""

    def __init__(self, record: GuestRecord, run: RunDir, monitor: Monitor) -> None:
        self._record, self._run, self._monitor = record, run, monitor
        self._ending = asyncio.Lock()
        self._cause = ""  # set once the VMM is gone
        self._last_words = b""  # its console, kept when the files go

    @property
    def record(self) -> GuestRecord:
        return self._record

    @property
    def agent_socket(self) -> Path:
        return self._run.agent

    async def add_disk(self, disk: DiskRecord) -> None:
        fdset = FDSET_BASE + disk.target
        fd = open_disk(disk)
        try:
            await self._monitor.add_fd(fd, fdset)
        finally:
            os.close(fd)
        try:
            file = argv.disk_file(disk, f"/dev/fdset/{fdset}")
            await self._monitor.execute("blockdev-add", argv.blockdev(disk, file))
        finally:
            # from here the node alone keeps the file open; without one, nobody does
            await self._monitor.execute("remove-fd", {"fdset-id": fdset})
        try:
            await self._monitor.execute("device_add", argv.scsi_disk(disk.target))
        except GuestError:
            await self._monitor.execute("blockdev-del", {"node-name": argv.node_name(disk.target)})
            raise

    async def remove_disk(self, target: int) -> None:
        await self._monitor.delete_device(argv.device_id(target))
        await self._monitor.execute("blockdev-del", {"node-name": argv.node_name(target)})

    async def pause(self) -> None:
        await self._monitor.execute("stop")

    async def resume(self) -> None:
        await self._monitor.execute("cont")

    async def save(self, state: int) -> None:
        await snapshot.save(self._monitor, state)

    async def kill(self) -> None:
        process = self._record.process
        async with self._ending:
            if proc.kill(process.pid, process.start_time) and not self._cause:
                self._cause = "killed"
            await self._settle()
            await self._monitor.close()
            await reap(self._run)

    async def wait(self) -> str:
        process = self._record.process
        await proc.gone(process.pid, process.start_time)
        async with self._ending:
            await self._settle()
        return self._cause

    def console_tail(self, size: int = 4096) -> str:
        return text(self._last_words[-size:] or self._run.read_tail(CONSOLE, size))

    async def _settle(self) -> None:
        """Wait for the end, and read what was said of it while it can be read."""
        if self._last_words:
            return
        for process in [self._record.process, *self._run.processes("qemu")]:  # the keeper too: it writes the status
            await proc.gone(process.pid, process.start_time)
        await self._monitor.ended(timeout_s=1.0)
        self._cause = self._cause or why_ended(self._run, self._monitor.shutdown_reason)
        self._last_words = self._run.read_tail(CONSOLE, CAUSE_BYTES) or b"\n"


def why_ended(run: RunDir, reason: str = "") -> str:
    """Why the VMM of `run` ended, its processes gone and its files still there. `reason` is of QMP's SHUTDOWN event."""
    known = run.load()
    return cause(
        status=run.status("qemu"),
        reason=reason,
        console=text(run.read_tail(CONSOLE, CAUSE_BYTES)),
        log=text(run.read_tail("qemu.log", CAUSE_BYTES)),
        out_of_memory=cgroup.out_of_memory([Path(folder) for folder in known.cgroups] if known else []),
    )
