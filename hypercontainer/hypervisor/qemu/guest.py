"""A running QEMU: what can be done with it, and how it ended."""

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from hypercontainer.errors import Unsupported
from hypercontainer.hypervisor.base import SLOTS, Nic, Size, VmConfig
from hypercontainer.hypervisor.host import limits as host_limits
from hypercontainer.hypervisor.host.cause import why_ended
from hypercontainer.hypervisor.host.disk import open_within
from hypercontainer.hypervisor.host.life import ProcessGuest
from hypercontainer.hypervisor.host.memory import Ram
from hypercontainer.hypervisor.host.memory import find as find_ram
from hypercontainer.hypervisor.host.rundir import RunDir
from hypercontainer.hypervisor.host.tap import Tap, Taps, open_nic
from hypercontainer.hypervisor.qemu import argv, nics, resize, snapshot
from hypercontainer.hypervisor.qemu.machines import Machine
from hypercontainer.hypervisor.qemu.qmp import Monitor, Refused
from hypercontainer.lib import proc
from hypercontainer.lib.tasks import all_of, in_thread
from hypercontainer.model.record import DiskRecord, GuestRecord

FDSET_BASE = 1000  # of disks plugged later: apart from those of the command line


class QemuGuest(ProcessGuest[RunDir]):
    """Implements hypervisor.base.Guest, and all that it may be able to do besides."""

    def __init__(
        self, record: GuestRecord, run: RunDir, monitor: Monitor, machine: Machine, taps: Taps, held: Mapping[int, Tap]
    ) -> None:
        """`held`: those taps of its interfaces that are open here too, by number."""
        super().__init__(record, run)
        self._monitor, self._machine = monitor, machine
        self._taps, self._held = taps, dict(held)
        self._swapped: set[int] = set()  # targets whose file is the other one

    async def add_disk(self, disk: DiskRecord) -> None:
        if disk.target in SLOTS and (disk.target, argv.NOTHING) in await self._files():
            await self.swap_disk(disk)
            return
        file, node = argv.file_name(disk.target), argv.node_name(disk.target)
        async with AsyncExitStack() as undo:
            await self._open(disk, file)
            undo.push_async_callback(self._close, file)
            await self._monitor.execute("blockdev-add", argv.blockdev(disk, file))
            undo.push_async_callback(self._close, node)
            await self._monitor.execute("device_add", argv.scsi_disk(disk.target))
            undo.pop_all()

    async def swap_disk(self, disk: DiskRecord) -> None:
        swapped = disk.target in self._swapped
        old, new = (argv.file_name(disk.target, other=other) for other in (swapped, not swapped))
        await self._open(disk, new)
        try:
            await self._monitor.execute("blockdev-reopen", {"options": [argv.blockdev(disk, new)]})
        except BaseException:
            await self._close(new)
            raise
        self._swapped ^= {disk.target}
        await self._close(old)

    async def plugged(self) -> set[int]:
        return {target for target, driver in await self._files() if driver != argv.NOTHING}

    async def _files(self) -> list[tuple[int, str]]:
        """Each disk's target, and the driver of the file below it."""
        named = [(argv.target_of(str(node.get("node-name"))), str(node.get("drv"))) for node in await self._nodes()]
        return [(target, driver) for target, driver in named if target is not None]

    async def _nodes(self) -> list[Mapping[str, object]]:
        nodes = await self._monitor.execute("query-named-block-nodes", {"flat": True})
        return [node for node in nodes if isinstance(node, dict)] if isinstance(nodes, list) else []

    async def remove_disk(self, target: int) -> None:
        """As far as a hyperd before us has not come, which was killed meanwhile."""
        try:
            await self._monitor.delete_device(argv.device_id(target))
        except Refused as e:
            if e.reason != "DeviceNotFound":
                raise
        there = {str(node.get("node-name")) for node in await self._nodes()}
        files = (argv.file_name(target), argv.file_name(target, other=True))  # the second: it was swapped
        for name in (argv.node_name(target), *files):
            if name in there:
                await self._close(name)
        self._swapped.discard(target)

    async def _open(self, disk: DiskRecord, node: str) -> None:
        """Have QEMU open the file of `disk` as block node `node`."""
        if not disk.path:
            await self._monitor.execute("blockdev-add", argv.disk_file(disk, node, ""))
            return
        fdset = FDSET_BASE + disk.target
        fd = open_within(disk, proc.largest_file(self.record.process.pid))
        try:
            await self._monitor.add_fd(fd, fdset)
        finally:
            os.close(fd)
        try:
            await self._monitor.execute("blockdev-add", argv.disk_file(disk, node, f"/dev/fdset/{fdset}"))
        finally:
            # from here the node alone keeps the file open; without one, nobody does
            await self._monitor.execute("remove-fd", {"fdset-id": fdset})

    async def _close(self, node: str) -> None:
        await self._monitor.execute("blockdev-del", {"node-name": node})

    async def add_nic(self, nic: Nic) -> None:
        await self._taps.gone(nic.tap)
        fd = open_nic(nic, self.record.uid)
        try:
            await nics.add(self._monitor, self._machine, nic, fd)
            self._held[nic.number] = self._taps.hold(nic.tap, fd)
        finally:
            os.close(fd)

    async def nics(self) -> set[int]:
        return set(await nics.plugged(self._monitor, self._machine))

    async def remove_nic(self, number: int) -> None:
        await nics.remove(self._monitor, self._machine, number)
        if tap := self._held.pop(number, None):
            tap.let_go()
            await tap.gone()

    async def adopt(self, config: VmConfig, run_dir: Path) -> None:
        proc.nice(self.record.process.pid, 0)
        slots = {disk.target for disk in config.disks if disk.target in SLOTS}
        await all_of(*(self.swap_disk(disk) if disk.target in slots else self.add_disk(disk) for disk in config.disks))
        for nic in config.nics:
            if nic.tap:
                await self._held[nic.number].become(nic.tap, nic.netns)
        os.rename(self._run.path, run_dir)
        self._run = self._run.moved(run_dir)
        self.record.run_dir = str(run_dir)

    async def settled(self) -> None:
        for tap in self._held.values():
            await tap.moved()

    async def size(self) -> Size:
        return await resize.size(self._monitor, self._machine)

    async def resize(self, vcpus: int, memory_mib: int) -> Size:
        emulated = self.record.accelerator == "tcg"
        size = await resize.resize(
            self._monitor, self._machine, self._run.groups(), vcpus=vcpus, memory_mib=memory_mib, emulated=emulated
        )
        await in_thread(host_limits.keep, self._run)
        return size

    async def pause(self) -> None:
        await self._monitor.execute("stop")
        self._monitor.stopped = True

    async def resume(self) -> None:
        self._monitor.stopped = False
        await self._monitor.execute("cont")

    async def lacks_room(self) -> bool:
        return await self._monitor.lacks_room()

    async def save(self, state: int) -> None:
        await snapshot.save(self._monitor, state)

    async def copy_memory(self, memory: int) -> None:
        if self._machine.unsaved:  # one that was started when the settings named another machine
            raise Unsupported("copy the virtual machine", f"QEMU's {self._machine.type}, {self._machine.unsaved}")
        ram = await self._ram()
        os.truncate(memory, ram.size)  # of holes: no disk is too full for it
        await in_thread(ram.copy_file, memory)

    async def dump(self, memory: int, state: int) -> None:
        ram = await self._ram()
        await all_of(in_thread(ram.copy_changes, memory), snapshot.dump_devices(self._monitor, self._machine, state))

    async def _ram(self) -> Ram:
        return find_ram(self.record.process.pid, await snapshot.ram_bytes(self._monitor))

    async def _gone(self) -> None:
        await super()._gone()
        await self._monitor.ended(timeout_s=1.0)

    def _why(self) -> str:
        return why_ended(self._run, reason=self._monitor.shutdown_reason, share=self._share_end)

    async def _let_go(self) -> None:
        for tap in self._held.values():
            tap.let_go()
        await self._monitor.close()
