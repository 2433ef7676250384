"""The driver of Xen: implements hypervisor.base.Hypervisor by PVH domains that `xl` makes.

A process of xl's waits for a domain's end and ends with it: it is the VMM in our records. Xen's own daemons (xenstored,
xenconsoled) are the host's, and a QEMU that is nothing but the agent's channel is xl's.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from hypercontainer.errors import GuestDied, GuestError, InUse, InvalidInput, Unavailable, Unsupported
from hypercontainer.hypervisor.base import Feature, VmConfig
from hypercontainer.hypervisor.host import jail, limits, tap
from hypercontainer.hypervisor.host.disk import claim, open_disk
from hypercontainer.hypervisor.host.life import born
from hypercontainer.hypervisor.host.reaper import reap
from hypercontainer.hypervisor.xen import domain
from hypercontainer.hypervisor.xen.guest import XenGuest
from hypercontainer.hypervisor.xen.rundir import CONSOLE, DomainDir
from hypercontainer.hypervisor.xen.toolstack import ARCH, Toolstack
from hypercontainer.lib import cgroup, files, loop, proc
from hypercontainer.lib.tasks import in_thread
from hypercontainer.lib.trace import Trace
from hypercontainer.model.record import GuestRecord, ProcessRef
from hypercontainer.model.settings import Settings

CAT = "/bin/cat"
CONSOLE_BYTES = 1 << 20  # the largest file that the reader of a console may make, which makes none
BACKEND = Path("/sys/bus/xen-backend/devices")
OPEN_S, LOOK_S = 30.0, 0.01  # until the kernel must have opened a disk


class XenHypervisor:
    """Boots guests as PVH domains of the Xen below this host, which is its dom0."""

    name, product = "xen", "Xen"
    features = frozenset[Feature]()
    commands: Sequence[str] = ("xl",)
    accelerator: Literal["", "xen"] = "xen"
    modules: Sequence[str] = ("xen_blkfront", "xen_netfront")

    def __init__(self) -> None:
        self._xen = Toolstack()

    def check(self, arch: str) -> None:
        if arch != ARCH:
            raise Unavailable(f"cannot run guests of architecture {arch} with Xen: there is {ARCH}")

    def lacks(self, arch: str) -> Mapping[Feature, str]:
        return {}

    async def boot(self, config: VmConfig, run_dir: Path, trace: Trace) -> XenGuest:
        self.check(config.arch)
        _check(config)
        self._xen.version()  # or nothing is made
        run = DomainDir(run_dir)
        lock = run.take(config.name)
        try:
            return XenGuest(await self._spawn(config, run, lock, trace), run, self._xen)
        except BaseException:
            await self.reap(run_dir)
            raise

    def shape(self, config: VmConfig) -> str:
        devices = {disk.target: disk.path for disk in config.disks}
        return domain.describe(config, "", Path(), devices)

    async def attach(self, record: GuestRecord) -> XenGuest | None:
        process = record.process
        if record.boot_id != proc.boot_id() or proc.start_time(process.pid) != process.start_time:
            return None
        return XenGuest(record, DomainDir(Path(record.run_dir)), self._xen)

    async def version(self) -> str:
        return self._xen.version()

    async def behind(self) -> str:
        return ""  # the distribution's

    async def reap(self, run_dir: Path) -> None:
        if not run_dir.is_dir():
            return
        run = DomainDir(run_dir)
        if run.load():  # from then on there may be a domain
            for process in run.marked():  # an xl that is at it, too
                proc.kill(process.pid, process.start_time)
                await proc.gone(process.pid, process.start_time)
            await self._xen.destroy(run.name)
        await reap(run)

    async def _spawn(self, config: VmConfig, run: DomainDir, lock: int, trace: Trace) -> GuestRecord:
        """Make the domain, and let the guest begin when all of it is where it belongs."""
        with ExitStack() as stack:
            stack.callback(os.close, lock)
            cgroups = limits.begin(run, 0, trace)  # its memory is Xen's, and not this host's
            with trace.step("files"):
                devices = _devices(config, stack)
                text = domain.describe(config, run.name, run.agent, devices)
                files.replace(run.text, text.encode(), durable=False)
            with trace.step("vmm"):
                await self._xen.create(run.name, run.text, lock)
                process = _waiting(run, cgroups)
            with trace.step("console"):
                number = await self._xen.number(run.name)
                await self._connect(config, number, devices)
                await self._read_console(config, run, number, lock, cgroups)
                await self._xen.unpause(run.name)
        return born(self.name, config, run, process, [])

    async def _connect(self, config: VmConfig, number: int, devices: Mapping[int, str]) -> None:
        """Say what is behind the domain's devices, as Xen's scripts would."""
        await self._check_channel(number)
        for disk in config.disks:
            found, device = os.stat(devices[disk.target]).st_rdev, domain.disk_number(disk.target)
            where = f"{os.major(found):x}:{os.minor(found):x}"
            await self._xen.write(f"/local/domain/0/backend/vbd/{number}/{device}/physical-device", where)
            await _opened(f"vbd-{number}-{device}")
        for n, nic in enumerate(config.nics):
            await in_thread(tap.rename, f"vif{number}.{n}", nic.tap)
            if nic.netns:
                await in_thread(tap.move, nic.tap, nic.netns)
            await self._xen.write(f"/local/domain/0/backend/vif/{number}/{n}/hotplug-status", "connected")

    async def _check_channel(self, number: int) -> None:
        """Which number it has depends on a mistake of xl's: see domain.py."""
        path = f"/local/domain/{number}/device/console/{domain.AGENT_CONSOLE}/name"
        if await self._xen.read(path) != domain.AGENT:
            raise GuestError("cannot start the virtual machine: this xl numbers channels in another way than 4.17's")

    async def _read_console(
        self, config: VmConfig, run: DomainDir, number: int, lock: int, cgroups: list[Path]
    ) -> None:
        """Have a jailed process keep what the guest says there, which xenconsoled has at a terminal."""
        path = await self._xen.read(f"/local/domain/{number}/console/tty")
        try:
            terminal = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as e:
            words = f"its console {path} does not open: {e.strerror}; does xenconsoled run?"
            raise GuestError(f"cannot start the virtual machine: {words}") from e
        try:
            options = jail.vmm_options(run, uid=config.uid, binds={}, kvm=False, proc=False, largest_file=CONSOLE_BYTES)
            reader = jail.JailedProgram(
                program=CONSOLE,
                command=[CAT],
                options=[*options, "--stdin", str(terminal)],
                fds=[terminal],
                lock=lock,
                cgroups=cgroups,
            )
            await jail.start_all(run, [reader])
        finally:
            os.close(terminal)


def hypervisor(settings: Settings) -> XenHypervisor:
    """For the registry. InvalidInput for what Xen is not asked."""
    if settings.qemu:
        raise InvalidInput("cannot use `qemu` of config.toml with Xen: its machines need none")
    if settings.accelerator != "auto":
        raise InvalidInput(f"cannot use accelerator = {settings.accelerator!r} with Xen: it is the accelerator")
    return XenHypervisor()


def _check(config: VmConfig) -> None:
    if config.accelerator != "xen":
        raise InvalidInput(f"invalid accelerator {config.accelerator!r}: with Xen there is xen")
    if config.uid <= 0:
        raise InvalidInput(f"cannot run a VMM as user {config.uid}")
    if config.memory_mib < 64 or config.vcpus < 1:
        raise InvalidInput(f"cannot boot {config.name} with {config.vcpus} CPUs and {config.memory_mib} MiB of memory")
    if config.share:
        raise Unsupported(f"share a folder with {config.name}", "Xen")
    domain.check(config)
    for nic in config.nics:
        if nic.macvtap:
            raise Unsupported(f"have {config.name} at a macvtap", "Xen")
        if not nic.netns and Path("/sys/class/net", nic.tap).exists():
            raise InUse(f"cannot make interface {nic.tap}: there is one", "network interface", nic.tap)


def _devices(config: VmConfig, stack: ExitStack) -> dict[int, str]:
    """Block devices of its disks by their numbers. A loop device is there as long as `stack` or the domain is."""
    found = {}
    for disk in config.disks:
        file = open_disk(disk)
        if disk.device:
            stack.callback(os.close, file)
            found[disk.target] = os.path.realpath(disk.path)
            continue
        try:
            if not disk.read_only:
                claim(file, disk)  # the loop device has the file open, and so the lock, from now on
            found[disk.target], device = loop.attach(file, read_only=disk.read_only)
        finally:
            os.close(file)
        stack.callback(os.close, device)
    return found


async def _opened(device: str) -> None:
    """Wait until the kernel has that backend's disk open. GuestError."""
    try:
        async with asyncio.timeout(OPEN_S):
            while not (BACKEND / device / "physical_device").exists():  # noqa: ASYNC110  sysfs tells nobody
                await asyncio.sleep(LOOK_S)
    except TimeoutError as e:
        why = f"the kernel did not open {device} within {OPEN_S:g} s: its log (dmesg) says why"
        raise GuestError(f"cannot start the virtual machine: {why}") from e


def _waiting(run: DomainDir, cgroups: list[Path]) -> ProcessRef:
    """The process of xl's that waits for the domain's end, written down; all that runs for it is limited from now."""
    there = run.marked()
    cgroup.put([str(process.pid) for process in there], cgroups)
    for process in there:
        if _program(process.pid) == "xl":
            run.save_vmm(process)
            return process
    raise GuestDied(f"cannot start the virtual machine: xl does not wait for it: {run.log()[-500:]}")


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
