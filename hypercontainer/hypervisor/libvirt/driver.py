"""The driver of libvirt: implements hypervisor.base.Hypervisor by domains of QEMU's, which libvirtd starts.

What it does not leave to libvirtd: who is told of a guest's end, which is seen at its VMM's process; the console's
reader and virtiofsd, jailed as QEMU's driver has them; the control groups.
"""

import asyncio
import logging
import os
import shutil
import socket
import stat
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Literal

from hypercontainer.errors import (
    Denied,
    GuestError,
    HyperError,
    InUse,
    InvalidInput,
    NotFound,
    Unavailable,
    Unsupported,
)
from hypercontainer.hypervisor.base import Feature, SharedFolder, VmConfig
from hypercontainer.hypervisor.host import jail, limits, tap, tsc, virtiofsd
from hypercontainer.hypervisor.host.disk import open_disk
from hypercontainer.hypervisor.host.life import born
from hypercontainer.hypervisor.host.reaper import reap
from hypercontainer.hypervisor.host.rundir import VIRTIOFSD
from hypercontainer.hypervisor.libvirt import domain
from hypercontainer.hypervisor.libvirt.connection import Libvirt, resume
from hypercontainer.hypervisor.libvirt.guest import LibvirtGuest
from hypercontainer.hypervisor.libvirt.rundir import CONSOLE, VMM, DomainDir
from hypercontainer.hypervisor.qemu.machines import Q35
from hypercontainer.lib import cgroup, proc
from hypercontainer.lib.tasks import in_thread
from hypercontainer.lib.trace import Trace
from hypercontainer.model.record import GuestRecord, ProcessRef
from hypercontainer.model.settings import Settings

log = logging.getLogger(__name__)

MACHINE = Q35
CAT = "/bin/cat"
KVM = Path("/dev/kvm")
CONSOLE_BYTES = 1 << 20  # the largest file that the reader of a console may make, which makes none
ROOM_S = 1.0  # between two looks at which guests stand still for want of room


class LibvirtHypervisor:
    """Boots guests as transient domains of the libvirtd at `uri`."""

    name, product = "libvirt", "libvirt"
    features = frozenset({Feature.SHARE})
    commands: Sequence[str] = (MACHINE.program,)
    accelerator: Literal["", "xen"] = ""
    modules: Sequence[str] = ()

    def __init__(self, uri: str, virtiofsd: str = "/usr/lib/qemu/virtiofsd") -> None:
        self._libvirt, self._virtiofsd = Libvirt(uri), virtiofsd
        self._tsc_khz: int | None = None  # measured when a guest first needs it
        self._guests: dict[str, LibvirtGuest] = {}
        self._looking: asyncio.Task[None] | None = None

    def check(self, arch: str) -> None:
        if arch != MACHINE.arch:
            raise Unavailable(f"cannot run guests of architecture {arch} with libvirt: there is {MACHINE.arch}")
        self._emulator()

    def lacks(self, arch: str) -> Mapping[Feature, str]:
        return {}

    async def boot(self, config: VmConfig, run_dir: Path, trace: Trace) -> LibvirtGuest:
        self.check(config.arch)
        _check(config, run_dir)
        await self._libvirt.version()  # or nothing is made
        config = await self._timed(config)
        run = DomainDir(run_dir)
        lock = run.take(config.name)
        try:
            return self._held(await self._spawn(config, run, lock, trace), run)
        except BaseException:
            try:
                await self.reap(run_dir)
            except Unavailable as e:
                log.error("what was begun of %s in %s is left: %s", config.name, run_dir, e)
            raise

    def shape(self, config: VmConfig) -> str:
        return self._describe(config, DomainDir(Path()))

    async def attach(self, record: GuestRecord) -> LibvirtGuest | None:
        """libvirtd need not be there."""
        process = record.process
        if record.boot_id != proc.boot_id() or proc.start_time(process.pid) != process.start_time:
            return None
        return self._held(record, DomainDir(Path(record.run_dir)))

    async def version(self) -> str:
        return await self._libvirt.version()

    async def behind(self) -> str:
        return ""  # the distribution's

    async def reap(self, run_dir: Path) -> None:
        """Unavailable when there may be a domain, and no libvirtd that knows it; everything is as it was then."""
        if not run_dir.is_dir():
            return
        run = DomainDir(run_dir)
        if run.load():  # from then on there may be one
            vmm = run.processes(VMM)[:1]
            for process in vmm:
                proc.kill(process.pid, process.start_time)
                await proc.gone(process.pid, process.start_time)
            try:
                await self._libvirt.forget(run.name)
            except HyperError:
                if not vmm:
                    raise
        await reap(run)

    async def _spawn(self, config: VmConfig, run: DomainDir, lock: int, trace: Trace) -> GuestRecord:
        """Start the processes, and let the guest begin when all of them are where they belong."""
        with ExitStack() as files:
            files.callback(os.close, lock)
            cgroups = limits.begin(run, config.memory_mib, trace)
            with trace.step("files"):
                console = _listen(run.console, config.uid, files)
                disks = _open(config, files)
                helpers = []
                if config.share:
                    program = self._served(config.uid, config.share, run, files, lock, cgroups)
                    helpers = await jail.start_all(run, [program])
            with trace.step("vmm"):
                await self._libvirt.start(self._describe(config, run), disks)
            with trace.step("console"):
                process = await self._kept(config.uid, run, console, files, lock, cgroups)
                for nic in config.nics:
                    if nic.netns:
                        await in_thread(tap.move, nic.tap, nic.netns)
                await self._libvirt.call("start the virtual machine", run.name, resume)
        return born(self.name, config, run, process, helpers)

    async def _kept(
        self, uid: int, run: DomainDir, console: socket.socket, files: ExitStack, lock: int, cgroups: list[Path]
    ) -> ProcessRef:
        """The VMM that has connected to its console, written down and limited, what it says there read from now on."""
        for path in (run.console, run.share):
            path.unlink(missing_ok=True)  # one client each, which is there
        console.setblocking(False)
        try:
            connection = files.enter_context(console.accept()[0])
        except BlockingIOError as e:
            raise GuestError("cannot start the virtual machine: QEMU did not connect to its console") from e
        pid = proc.peer(connection).pid
        process = ProcessRef(pid=pid, start_time=proc.start_time(pid) or 0)
        run.save_vmm(process)
        cgroup.put([str(pid)], cgroups)
        options = jail.vmm_options(run, uid=uid, binds={}, kvm=False, proc=False, largest_file=CONSOLE_BYTES)
        reader = jail.JailedProgram(
            program=CONSOLE,
            command=[CAT],
            options=[*options, "--stdin", str(connection.fileno())],
            fds=[connection.fileno()],
            lock=lock,
            cgroups=cgroups,
        )
        await jail.start_all(run, [reader])
        return process

    def _served(
        self, uid: int, share: SharedFolder, run: DomainDir, files: ExitStack, lock: int, cgroups: list[Path]
    ) -> jail.JailedProgram:
        listener = _listen(run.share, uid, files)
        return jail.JailedProgram(
            program=VIRTIOFSD,
            command=virtiofsd.command(self._virtiofsd, listener.fileno(), share),
            options=jail.share_options(),
            fds=[listener.fileno()],
            lock=lock,
            cgroups=cgroups,
        )

    def _describe(self, config: VmConfig, run: DomainDir) -> str:
        places = domain.Places(
            name=run.name, emulator=self._emulator(), agent=run.agent, console=run.console, share=run.share
        )
        return domain.describe(MACHINE, config, places, gid=vmm_gid(config))

    def _emulator(self) -> str:
        qemu = shutil.which(MACHINE.program)
        if qemu is None:
            raise NotFound("program", MACHINE.program, f"install the package {MACHINE.package}")
        return qemu

    async def _timed(self, config: VmConfig) -> VmConfig:
        """Left to measure how fast this machine's time stamp counter goes, an emulated guest may be far off."""
        if config.accelerator == "kvm":
            return config
        if self._tsc_khz is None:
            self._tsc_khz = await tsc.khz()
        known = (f"{MACHINE.clock}={self._tsc_khz}",) if self._tsc_khz else ()
        return replace(config, kernel_parameters=(*config.kernel_parameters, *known))

    def _held(self, record: GuestRecord, run: DomainDir) -> LibvirtGuest:
        guest = LibvirtGuest(record, run, self._libvirt, self._let_go)
        self._guests[guest.name] = guest
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="look for guests without room")
        return guest

    def _let_go(self, guest: LibvirtGuest) -> None:
        self._guests.pop(guest.name, None)
        if self._looking and not self._guests:
            self._looking.cancel()
            self._looking = None

    async def _look(self) -> None:
        """libvirtd stops a machine when this host's disk has no room for a block of its disks. Have it go on as soon as
        there is some: its guest does not notice. An event would tell of it, but not one of a libvirtd that has ended
        meanwhile."""
        before = ""
        while True:
            await asyncio.sleep(ROOM_S)
            complaint = ""
            try:
                for name in await self._libvirt.lacking_room():
                    if (guest := self._guests.get(name)) and not guest.stopped:
                        await guest.resume()
            except HyperError as e:
                complaint = str(e)
                if complaint != before:
                    log.error("a virtual machine that a full disk has stopped would not go on: %s", e)
            before = complaint


def hypervisor(settings: Settings) -> LibvirtHypervisor:
    """For the registry. InvalidInput for what libvirtd chooses itself."""
    if settings.qemu:
        raise InvalidInput("cannot use `qemu` of config.toml with libvirt: its machines are run by the distribution's")
    return LibvirtHypervisor(settings.libvirt_uri)


def _check(config: VmConfig, run_dir: Path) -> None:
    if config.accelerator not in ("kvm", "tcg"):
        raise InvalidInput(f"invalid accelerator {config.accelerator!r}: use kvm or tcg")
    if config.uid <= 0:
        raise InvalidInput(f"cannot run a VMM as user {config.uid}")
    if config.memory_mib < 64 or config.vcpus < 1:
        raise InvalidInput(f"cannot boot {config.name} with {config.vcpus} CPUs and {config.memory_mib} MiB of memory")
    if len(config.nics) > domain.MOST_NICS:
        raise Unsupported(f"boot {config.name} with more than {domain.MOST_NICS} network interfaces", "libvirt")
    for nic in config.nics:
        if nic.macvtap:
            raise Unsupported(f"have {config.name} at a macvtap", "libvirt")
        if not nic.netns and Path("/sys/class/net", nic.tap).exists():
            raise InUse(f"cannot make tap device {nic.tap}: there is one", "tap device", nic.tap)
    for disk in config.disks:
        if disk.device:  # libvirt takes open files for files alone
            raise Unsupported(f"have the block device {disk.path} in {config.name}", "libvirt")
    for path in (config.kernel, config.initrd, run_dir / "console.sock"):
        _check_reached(config, path)
    vmm_gid(config)


def _check_reached(config: VmConfig, path: Path) -> None:
    """QEMU opens it as the user that it runs as."""
    for folder in path.resolve().parents:
        if not folder.stat().st_mode & stat.S_IXOTH:
            why = f"user {config.uid}, whom its QEMU runs as, may not pass through {folder} (chmod o+x)"
            raise Denied(f"cannot boot {config.name}: {why}")


def _open(config: VmConfig, files: ExitStack) -> dict[str, int]:
    """Its disks by the names of their groups; their closing is left to `files`."""
    opened = {}
    for disk in config.disks:
        opened[domain.group(disk)] = fd = open_disk(disk)
        files.callback(os.close, fd)
    return opened


def vmm_gid(config: VmConfig, kvm: Path = KVM) -> int:
    """Return the group of a guest's VMM: its user's own, or that of `kvm`, which libvirtd hands no QEMU. Denied where
    neither may open that."""
    if config.accelerator != "kvm":
        return config.uid
    there = kvm.stat()
    if there.st_mode & 0o006 == 0o006:
        return config.uid
    if there.st_mode & 0o060 == 0o060 and there.st_gid:
        return there.st_gid
    why = f"user {config.uid}, whom its QEMU runs as, may not open {kvm} (chgrp kvm {kvm} && chmod 660 {kvm})"
    raise Denied(f"cannot boot {config.name}: {why}")


def _listen(path: Path, uid: int, files: ExitStack) -> socket.socket:
    """For a connection of that user."""
    server = files.enter_context(socket.socket(socket.AF_UNIX))
    server.bind(str(path))
    path.chmod(0o600)
    os.chown(path, uid, uid)
    server.listen(1)
    return server
