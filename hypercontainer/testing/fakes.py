"""A hypervisor without machines, for whoever builds on one: what it boots is a FakeAgent on a socket."""

import asyncio
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

from hypercontainer.errors import GuestDied, GuestError, HyperError, InUse, InvalidInput, NotFound, Unavailable
from hypercontainer.hypervisor.base import HOT_NICS, Feature, Limits, Nic, Size, VmConfig
from hypercontainer.lib import proc
from hypercontainer.lib.trace import Trace
from hypercontainer.model.record import DiskRecord, GuestRecord, ProcessRef
from hypercontainer.testing.fake_agent import FakeAgent
from hypercontainer.testing.fake_process import FakeProcess, Refused
from hypercontainer.testing.fake_snapshot import go_on, image

__all__ = ["BareGuest", "FakeAgent", "FakeGuest", "FakeHypervisor", "FakeProcess", "FakeShare", "Refused"]

SOCKET = "agent.sock"
MOST_VCPUS, ROOM_MIB = 8, 16384  # of one that runs
SAVED = b"a guest's devices"  # what a fake one has to say of them


class BareGuest:
    """hypervisor.base.Guest, and no more. `die` ends it as a crash would; `agent` is what its host talks to."""

    def __init__(
        self, record: GuestRecord, config: VmConfig, agent: FakeAgent, moved: Callable[[str, Path], object]
    ) -> None:
        """`moved` is told when its run directory is another one: which it was, which it is."""
        self.record, self.config, self.agent, self._moved = record, config, agent, moved
        self.disks = {disk.target: disk for disk in config.disks}
        self.plugged_nics = {nic.number: nic for nic in config.nics}
        self.fail_nics: HyperError | None = None
        self.vcpus, self.added_mib = config.vcpus, 0
        self.limits = Limits()
        self.groups: list[Path] = []
        self.stuck_mib = 0  # of added memory that it cannot give back
        self.paused = self.stalled = False
        self.starved_s = 0.0  # that it says it has waited for a processor
        self.fail_dump: HyperError | None = None
        self.fail_kill: HyperError | None = None
        self.may_go = asyncio.Event()  # until then what has ended is still there: `kill` waits
        self.may_go.set()
        self.console = ""
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._power = asyncio.create_task(self._power_button())

    async def _power_button(self) -> None:
        await self.agent.powered_off.wait()
        await self.die("powered off")

    @property
    def agent_socket(self) -> Path:
        return Path(self.record.run_dir) / SOCKET

    @property
    def alive(self) -> bool:
        return not self._ended.done()

    def waited_s(self) -> Mapping[int, float]:
        return {1: self.starved_s}

    async def size(self) -> Size:
        memory_mib = self.config.memory_mib + self.added_mib
        return Size(vcpus=self.vcpus, memory_mib=memory_mib, added_mib=self.added_mib)

    async def limit(self, limits: Limits) -> None:
        self.limits = limits

    async def enter(self, groups: Sequence[Path]) -> None:
        self.groups = list(groups)

    async def leave(self, groups: Sequence[Path]) -> None:
        self.groups = [group for group in self.groups if group not in groups]

    async def pause(self) -> None:
        self.paused = True
        self.agent.pause(True)

    async def resume(self) -> None:
        self.paused = False
        self.agent.pause(False)

    async def lacks_room(self) -> bool:
        return self.stalled

    def stall(self, stalled: bool) -> None:
        """The host's disk has no room for what it writes, or has it again."""
        self.stalled = stalled
        self.agent.pause(stalled)

    async def tell_end(self) -> None:
        await self.die("killed by signal 9")

    async def kill(self) -> None:
        await self.die("killed by signal 9")
        await self.may_go.wait()
        if self.fail_kill:
            raise self.fail_kill
        self.agent_socket.unlink(missing_ok=True)
        self._power.cancel()

    async def die(self, cause: str, console: str = "") -> None:
        """End, for the reason in words that `wait` returns; a second death changes nothing."""
        if self.alive:
            self.console += console
            self._ended.set_result(cause)
            await self.agent.close()

    async def wait(self) -> str:
        return await asyncio.shield(self._ended)

    def console_tail(self, size: int = 4096) -> str:
        return self.console[-size:]


class FakeGuest(BareGuest):
    """A guest that can do all that any can."""

    async def add_disk(self, disk: DiskRecord) -> None:
        if disk.target in self.disks and self.disks[disk.target].path:
            raise GuestDied(f"cannot plug disk {disk.target}: there is one")
        self.disks[disk.target] = disk

    async def plugged(self) -> set[int]:
        return {target for target, disk in self.disks.items() if disk.path}

    async def swap_disk(self, disk: DiskRecord) -> None:
        self._check(disk)
        self.disks[disk.target] = disk

    async def adopt(self, config: VmConfig, run_dir: Path) -> None:
        for disk in config.disks:
            self._check(disk)
        self.disks |= {disk.target: disk for disk in config.disks}
        os.rename(self.record.run_dir, run_dir)
        self._moved(self.record.run_dir, run_dir)
        self.config, self.record.run_dir = config, str(run_dir)

    async def settled(self) -> None:
        """It has no taps."""

    @staticmethod
    def _check(disk: DiskRecord) -> None:
        if disk.path and not Path(disk.path).exists():
            raise NotFound("disk file", disk.path)

    async def remove_disk(self, target: int) -> None:
        self.disks.pop(target, None)

    async def add_nic(self, nic: Nic) -> None:
        if self.fail_nics:
            raise self.fail_nics
        if nic.number not in HOT_NICS or nic.number in self.plugged_nics:
            raise GuestError(f"cannot plug network interface {nic.number}")
        if nic.tap in {other.tap for other in self.plugged_nics.values()}:
            words = f"cannot make tap device {nic.tap}: another virtual machine has it"
            raise InUse(words, "tap device", nic.tap)
        self.plugged_nics[nic.number] = nic

    async def nics(self) -> set[int]:
        return set(self.plugged_nics)

    async def remove_nic(self, number: int) -> None:
        self.plugged_nics.pop(number, None)

    async def resize(self, vcpus: int, memory_mib: int) -> Size:
        if vcpus > MOST_VCPUS:
            raise InvalidInput(f"cannot give a running virtual machine {vcpus} vCPUs: {MOST_VCPUS} at most")
        added_mib = memory_mib - self.config.memory_mib
        if added_mib > ROOM_MIB:
            raise InvalidInput(f"cannot give a running virtual machine {memory_mib} MiB of memory")
        self.vcpus = max(self.vcpus, vcpus)
        self.added_mib = max(added_mib, min(self.stuck_mib, self.added_mib), 0)
        return await self.size()

    async def save(self, state: int) -> None:
        await self.pause()
        os.write(state, SAVED)

    async def copy_memory(self, memory: int) -> None:
        os.truncate(memory, self.config.memory_mib << 20)

    async def dump(self, memory: int, state: int) -> None:
        assert self.paused
        if self.fail_dump:
            raise self.fail_dump
        os.pwrite(memory, image(self.agent), 0)
        os.write(state, SAVED)


class FakeShare:
    """factory.base.Share without a mount."""

    def __init__(self, dir: Path) -> None:
        self.dir, self.root = dir, dir / "tree"

    def prepare(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, source: Path, read_only: bool) -> None:
        shutil.copytree(source, self.root / name)

    def remove(self, name: str) -> None:
        shutil.rmtree(self.root / name)

    def become(self, root: Path) -> None:
        self.dir.rename(root.parent)

    def clear(self) -> None:
        shutil.rmtree(self.dir, ignore_errors=True)


class FakeHypervisor:
    """hypervisor.base.Hypervisor. It outlives the engine under test, as machines do: keep it, make a new engine.

    `make_agent` gives the agent of each guest that is booted; `fail` makes the next boots die with those words,
    `fail_clones` those that go on from a snapshot. Without `features` its guests are bare.
    """

    name, product = "fake", "Fake"
    commands: Sequence[str] = ()
    accelerator: Literal["", "xen"] = ""
    modules: Sequence[str] = ()

    def __init__(
        self, make_agent: Callable[[], FakeAgent] = FakeAgent, features: frozenset[Feature] = frozenset(Feature)
    ) -> None:
        self.make_agent, self.features = make_agent, features
        self._guest = FakeGuest if features else cast("type[FakeGuest]", BareGuest)  # whoever asks for more fails
        self.fail = self.fail_clones = ""
        self.program = "0"  # of the VMM: another one has other shapes
        self.without: set[str] = set()  # architectures that it cannot run here
        self.lacking: dict[str, dict[Feature, str]] = {}  # by architecture
        self.missing = ""  # why it can run nothing at all
        self.old = ""  # why it should be another one
        self.booted: list[VmConfig] = []
        self.guests: dict[str, FakeGuest] = {}  # by run_dir, dead ones too until they are reaped

    def check(self, arch: str) -> None:
        if arch in self.without:
            raise NotFound("program", f"fake-{arch}", f"install the package fake-{arch}")

    def lacks(self, arch: str) -> Mapping[Feature, str]:
        return self.lacking.get(arch, {})

    async def boot(self, config: VmConfig, run_dir: Path, trace: Trace) -> FakeGuest:
        if config.origin and config.origin.complete:
            await config.origin.complete()
        with trace.step("vmm"):
            if why := self.fail or (config.origin and self.fail_clones):
                raise GuestDied(f"the virtual machine ended: {why}")
            if config.origin and os.pread(config.origin.state, 100, 0) != SAVED:
                raise GuestDied("the virtual machine ended: its snapshot is no snapshot")
            if missing := [disk.path for disk in config.disks if disk.path and not Path(disk.path).exists()]:
                raise NotFound("disk file", missing[0])
            if config.share and not config.share.folder.is_dir():
                raise NotFound("shared folder", str(config.share.folder))
            self.booted.append(config)
            pid = os.getpid()
            record = GuestRecord(
                driver=self.name,
                arch=config.arch,
                process=ProcessRef(pid=pid, start_time=proc.start_time(pid) or 0),
                run_dir=str(run_dir),
                accelerator="tcg",
                boot_id=proc.boot_id(),
                uid=config.uid,
            )
            self.guests[str(run_dir)] = guest = self._guest(record, config, self.make_agent(), self._moved)
            if config.origin:
                go_on(guest.agent, os.pread(config.origin.memory, 1 << 20, 0))
            serving = asyncio.ensure_future(guest.agent.serve(guest.agent_socket))
            try:
                await asyncio.shield(serving)
            except BaseException:
                await serving
                await self.reap(run_dir)
                raise
        return guest

    def _moved(self, old: str, new: Path) -> None:
        self.guests[str(new)] = self.guests.pop(old)

    def shape(self, config: VmConfig) -> str:
        booted = () if config.origin else (config.kernel, config.initrd)
        words = (self.program, config.arch, *booted, config.vcpus, config.memory_mib, config.accelerator)
        return " ".join(map(str, (*words, config.nics, config.disks, config.share)))

    async def attach(self, record: GuestRecord) -> FakeGuest | None:
        guest = self.guests.get(record.run_dir)
        return guest if guest and guest.alive else None

    async def version(self) -> str:
        if self.missing:
            raise Unavailable(self.missing)
        return "0"

    async def behind(self) -> str:
        return self.old

    async def reap(self, run_dir: Path) -> None:
        if guest := self.guests.pop(str(run_dir), None):
            await guest.kill()
        for path in run_dir.iterdir() if run_dir.exists() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    @property
    def alive(self) -> list[FakeGuest]:
        """For the fixture that asserts that nothing is left."""
        return [guest for guest in self.guests.values() if guest.alive]
