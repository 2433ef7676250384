"""The QEMU driver: implements hypervisor.base.Hypervisor. See docs/architecture.md, "Processes on the host"."""

import asyncio
import fcntl
import os
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from hypercontainer.errors import GuestDied, GuestError, InvalidInput, NotFound, Unavailable
from hypercontainer.hypervisor.base import Feature, SharedFolder, VmConfig
from hypercontainer.hypervisor.host import jail, limits, tsc, virtiofsd
from hypercontainer.hypervisor.host.cause import why_ended
from hypercontainer.hypervisor.host.disk import open_disk
from hypercontainer.hypervisor.host.life import born
from hypercontainer.hypervisor.host.memory import HYPER_MEMORY
from hypercontainer.hypervisor.host.reaper import reap
from hypercontainer.hypervisor.host.rundir import VIRTIOFSD, RunDir
from hypercontainer.hypervisor.host.tap import Tap, Taps, open_nic
from hypercontainer.hypervisor.qemu import argv, own, snapshot
from hypercontainer.hypervisor.qemu.guest import QemuGuest
from hypercontainer.hypervisor.qemu.machines import Machine, machine_in, machine_named, machine_of
from hypercontainer.hypervisor.qemu.qmp import Monitor
from hypercontainer.hypervisor.qemu.rundir import qemu_run
from hypercontainer.lib import proc
from hypercontainer.lib.trace import Trace
from hypercontainer.model import arch
from hypercontainer.model.arch import ARCHES
from hypercontainer.model.record import GuestRecord, ProcessRef
from hypercontainer.model.settings import Settings

BACKGROUND = 15  # of nice(1): a thirtieth of a processor, where somebody else wants it
MONITOR_S = 20.0  # of a processor; QEMU greets 0.03 s after its start


class QemuHypervisor:
    """Boots guests with QEMU, each jailed."""

    name, product = "qemu", "QEMU"
    features = frozenset(Feature)
    accelerator: Literal["", "xen"] = ""

    def __init__(
        self,
        qemu: str = "",
        virtiofsd: str = "/usr/lib/qemu/virtiofsd",
        machine: Machine | None = None,
    ) -> None:
        """`machine`: for guests of this host's architecture, unless another is given; `qemu`: its program, likewise."""
        self._machine = machine or machine_of(arch.host().name)
        self.modules: Sequence[str] = self._machine.modules
        self._version = ""
        self._tsc_khz: int | None = None  # measured when a guest first needs it
        self._taps = Taps()
        self._qemu, self._virtiofsd = qemu or self._machine.program, virtiofsd
        self.commands: Sequence[str] = (self._qemu,)

    def check(self, arch: str) -> None:
        self._program(self._machine_of(arch))

    def lacks(self, arch: str) -> Mapping[Feature, str]:
        machine = self._machine_of(arch)
        lacks: dict[Feature, str] = {}
        if not machine.hot_memory and not machine.hot_vcpus:
            lacks[Feature.RESIZE] = f"{machine.type}, which has the memory and the processors that it started with"
        if machine.unsaved:
            lacks |= dict.fromkeys((Feature.SNAPSHOT, Feature.COPY), f"{machine.type}, {machine.unsaved}")
        if machine.unplugged:
            lacks[Feature.NICS] = f"{machine.type}, {machine.unplugged}"
        if ARCHES[arch].big_endian != (sys.byteorder == "big"):
            lacks[Feature.SHARE] = f"{machine.type}, whose byte order is not virtiofsd's"
        if ARCHES[arch].large_file == os.O_DIRECTORY:  # FUSE has flags as who opens a file says them
            lacks[Feature.SHARE] = (
                f"{machine.type}, whose kernel opens files with the flag that is virtiofsd's of folders"
            )
        return lacks

    async def boot(self, config: VmConfig, run_dir: Path, trace: Trace) -> QemuGuest:
        run = qemu_run(run_dir)
        _check(config, self._machine_of(config.arch))
        config = await self._timed(config)
        lock = run.take(config.name)
        taps: dict[int, Tap] = {}
        monitor = None
        try:
            record, taps = await self._spawn(config, run, lock, trace)
            with trace.step("monitor"):
                monitor = await _greeted(run, record)
            if config.origin:
                if config.origin.complete:
                    with trace.step("snapshot"):
                        await config.origin.complete()
                with trace.step("clone"):
                    await _loaded(run, monitor, self._machine_of(config.arch), config)
            return QemuGuest(record, run, monitor, self._machine_of(config.arch), self._taps, taps)
        except BaseException:
            for tap in taps.values():
                tap.let_go()
            if monitor:
                await monitor.close()
            await reap(run)
            raise

    def shape(self, config: VmConfig) -> str:
        machine = self._machine_of(config.arch)
        qemu = self._program(machine)
        taps = [6 + n for n in range(len(config.nics))]
        fds = argv.Descriptors(qmp=3, agent=4, memory=5, taps=taps, disks=[None] * len(config.disks))
        words = argv.command(qemu, machine, config, fds)
        files = [] if config.origin else [Path(qemu), config.kernel, config.initrd]
        return " ".join([*words, *(_identity(path) for path in files)])

    async def attach(self, record: GuestRecord) -> QemuGuest | None:
        """GuestSilent when the VMM lives but its monitor does not answer."""
        if record.boot_id != proc.boot_id() or not _lives(record.process):
            return None
        run = qemu_run(Path(record.run_dir))
        try:
            monitor = await _monitor(run, record)
            monitor.go_on()  # if a hyperd before us did not come to it
            # the settings may name another by now
            machine = machine_in(await snapshot.machine_type(monitor), record.arch)
            return QemuGuest(record, run, monitor, machine, self._taps, {})
        except GuestError:
            if _lives(record.process):
                raise
            return None

    async def version(self) -> str:
        if not self._version:
            self._version = own.version(await self._says())
        return self._version

    async def behind(self) -> str:
        return await own.behind(await self._says(), self._machine.package)

    async def reap(self, run_dir: Path) -> None:
        if run_dir.is_dir():
            await reap(qemu_run(run_dir))

    async def _spawn(
        self, config: VmConfig, run: RunDir, lock: int, trace: Trace
    ) -> tuple[GuestRecord, dict[int, Tap]]:
        """Start the processes. Of the files that they inherit the taps alone stay open here: their end is QEMU's."""
        with ExitStack() as files:
            files.callback(os.close, lock)
            cgroups = limits.begin(run, config.memory_mib, trace)
            with trace.step("files"):
                for nic in config.nics:
                    await self._taps.gone(nic.tap)
                fds = _open(config, run, files)
                starts = []
                if config.share:
                    listener, fds = _with_share(run, fds, files)
                    starts = [self._start_share(config, config.share, listener, fds, lock, cgroups)]
            with trace.step("vmm"):
                starts = [self._start(config, run, fds, lock, cgroups), *starts]
                process, *helpers = await jail.start_all(run, starts)
            taps = {n.number: self._taps.hold(n.tap, fd) for n, fd in zip(config.nics, fds.taps, strict=True)}
        if config.background:
            proc.nice(process.pid, BACKGROUND)
        return born(self.name, config, run, process, helpers), taps

    async def _timed(self, config: VmConfig) -> VmConfig:
        """An emulated guest reads this machine's time stamp counter. Left to measure how fast that goes, it was wrong
        by a factor of 16 on a busy machine, and nothing corrects it later."""
        clock = self._machine_of(config.arch).clock
        if config.accelerator == "kvm" or config.origin or not clock:
            return config
        if self._tsc_khz is None:
            self._tsc_khz = await tsc.khz()
        known = (f"{clock}={self._tsc_khz}",) if self._tsc_khz else ()
        return replace(config, kernel_parameters=(*config.kernel_parameters, *known))

    def _start(
        self, config: VmConfig, run: RunDir, fds: argv.Descriptors, lock: int, cgroups: list[Path]
    ) -> jail.JailedProgram:
        if config.origin:
            binds = {argv.LIBRARY: HYPER_MEMORY}
        else:
            binds = {argv.KERNEL: config.kernel, argv.INITRD: config.initrd}
        machine = self._machine_of(config.arch)
        qemu, bound = jail.placed(self._program(machine))
        kvm, memory = config.accelerator == "kvm", fds.memory is not None
        return jail.JailedProgram(
            program=run.vmm,
            command=argv.command(qemu, machine, config, fds),
            options=jail.vmm_options(
                run,
                uid=config.uid,
                binds=binds | bound,
                kvm=kvm,
                proc=memory,
                largest_file=_largest_file(config, fds),
                preload=argv.LIBRARY if config.origin else "",
            ),
            fds=fds.all(),
            lock=lock,
            cgroups=cgroups,
        )

    def _start_share(
        self,
        config: VmConfig,
        share: SharedFolder,
        listener: int,
        fds: argv.Descriptors,
        lock: int,
        cgroups: list[Path],
    ) -> jail.JailedProgram:
        return jail.JailedProgram(
            program=VIRTIOFSD,
            command=virtiofsd.command(self._virtiofsd, listener, share),
            options=jail.share_options(),
            fds=[listener],
            lock=lock,
            cgroups=cgroups,
            # a clone's memory, filled before virtiofsd runs, while QEMU starts
            copy=(config.origin.memory, fds.memory) if config.origin and fds.memory is not None else None,
        )

    def _machine_of(self, arch: str) -> Machine:
        return self._machine if arch == self._machine.arch else machine_of(arch)

    def _program(self, machine: Machine) -> str:
        name = self._qemu if machine is self._machine else machine.program
        qemu = shutil.which(name)
        if qemu is None and name != machine.program:
            raise NotFound("program", name, "`qemu` in config.toml says so; docs/howto/qemu.md says how it is built")
        if qemu is None:
            raise NotFound("program", name, f"install the package {machine.package}")
        return qemu

    async def _says(self) -> str:
        """What it says of its version."""
        try:
            said = await proc.run([self._qemu, "--version"], timeout_s=10)
        except proc.CommandFailed as e:
            raise Unavailable(f"cannot run {self._qemu}: {e.stderr}") from e
        return said.stdout.decode(errors="replace")


def hypervisor(settings: Settings) -> QemuHypervisor:
    """For the registry."""
    return QemuHypervisor(settings.qemu, machine=machine_named(settings.machine, arch.host_name()))


def _identity(path: Path) -> str:
    """Of the file that has this name now: an upgrade gives it to another one."""
    found = path.stat()
    return f"{path}:{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"


def _largest_file(config: VmConfig, fds: argv.Descriptors) -> int:
    """What the largest file may have, in bytes, that this QEMU writes: its disks, and those in memory that it makes."""
    writable = [fd for disk, fd in zip(config.disks, fds.disks, strict=True) if fd is not None and not disk.read_only]
    sizes = [os.fstat(fd).st_size for fd in writable]
    return max(*sizes, config.disk_mib << 20, config.memory_mib << 20, argv.HOT_MEMORY_MIB << 20)


def _check(config: VmConfig, machine: Machine) -> None:
    if config.accelerator not in ("kvm", "tcg"):
        raise InvalidInput(f"invalid accelerator {config.accelerator!r}: use kvm or tcg")
    if config.uid <= 0:
        raise InvalidInput(f"cannot run a VMM as user {config.uid}")
    if config.memory_mib < 64 or config.vcpus < 1:
        raise InvalidInput(f"cannot boot {config.name} with {config.vcpus} CPUs and {config.memory_mib} MiB of memory")
    if config.memory_mib % (step := machine.memory_step_mib):
        why = f"QEMU's {machine.type} takes multiples of {step} MiB"
        raise InvalidInput(f"cannot boot {config.name} with {config.memory_mib} MiB of memory: {why}")


def _open(config: VmConfig, run: RunDir, files: ExitStack) -> argv.Descriptors:
    """Open all that QEMU inherits, and leave its closing to `files`."""

    def listen(path: Path) -> int:
        server = files.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(str(path))
        path.chmod(0o600)
        server.listen(1)
        return server.fileno()

    def keep(fd: int) -> int:
        files.callback(os.close, fd)
        return fd

    return argv.Descriptors(
        qmp=listen(run.monitor),
        agent=listen(run.agent),
        disks=tuple(keep(open_disk(disk)) if disk.path else None for disk in config.disks),
        taps=[keep(open_nic(nic, config.uid)) for nic in config.nics],
        memory=keep(_own_memory(config)) if config.origin and config.share else _given_memory(config),
    )


def _given_memory(config: VmConfig) -> int | None:
    return config.origin.memory if config.origin else config.memory


def _own_memory(config: VmConfig) -> int:
    """For what a guest's other processes write to as well, which no mapping is that copies on write. Still empty."""
    fd = os.memfd_create("guest memory", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(fd, config.memory_mib << 20)
    # a VMM that cuts it short would end virtiofsd
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


def _with_share(run: RunDir, fds: argv.Descriptors, files: ExitStack) -> tuple[int, argv.Descriptors]:
    """virtiofsd's end of a connection, and `fds` with QEMU's."""
    listener, connection = virtiofsd.channel(run)
    for end in (listener, connection):
        files.enter_context(end)
    return listener.fileno(), fds.with_share(connection.fileno())


async def _monitor(run: RunDir, record: GuestRecord) -> Monitor:
    return await Monitor.connect(run.monitor, timeout_s=MONITOR_S, waited=partial(proc.waited_s, record.process.pid))


async def _greeted(run: RunDir, record: GuestRecord) -> Monitor:
    """Connect to the monitor of a QEMU that was just started, or say why that ended."""
    try:
        return await _monitor(run, record)
    except GuestError as e:
        raise await _its_end(run) from e


async def _loaded(run: RunDir, monitor: Monitor, machine: Machine, config: VmConfig) -> None:
    """Let a QEMU that waits for it go on from a snapshot; if it cannot, close `monitor` and say why it ended."""
    assert config.origin  # noqa: S101
    try:
        await snapshot.load(monitor, config.origin.state)
        if config.share:
            await snapshot.plug_share(monitor, machine)
    except BaseException as e:
        await monitor.ended(timeout_s=1.0 if isinstance(e, GuestError) else 0.0)  # it ends by itself, and says why
        alive = monitor.connected
        await monitor.close()
        if alive or not isinstance(e, GuestError):
            raise
        raise await _its_end(run) from e


async def _its_end(run: RunDir) -> GuestDied:
    """Of a QEMU that has hung up: the keeper has written it down when it is gone itself."""
    async with asyncio.timeout(MONITOR_S):
        for process in run.processes(run.vmm):
            await proc.gone(process.pid, process.start_time)
    return GuestDied(f"cannot start the virtual machine: {why_ended(run)}")


def _lives(process: ProcessRef) -> bool:
    return proc.start_time(process.pid) == process.start_time
