"""The driver of kvmtool: implements hypervisor.base.Hypervisor by its `lkvm`, jailed. Experimental: ADR 83."""

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from hypercontainer.errors import HyperError, InvalidInput, NotFound, Unavailable, Unsupported
from hypercontainer.hypervisor.base import Feature, Nic, VmConfig
from hypercontainer.hypervisor.host import jail, limits
from hypercontainer.hypervisor.host.disk import claim, open_disk
from hypercontainer.hypervisor.host.life import born
from hypercontainer.hypervisor.host.reaper import reap
from hypercontainer.hypervisor.host.tap import bring_up, open_tap
from hypercontainer.hypervisor.kvmtool import argv
from hypercontainer.hypervisor.kvmtool.guest import LkvmGuest
from hypercontainer.hypervisor.kvmtool.rundir import VMM, LkvmDir
from hypercontainer.lib import mount, proc, userns
from hypercontainer.lib.tasks import in_thread
from hypercontainer.lib.trace import Trace
from hypercontainer.model.arch import host_name
from hypercontainer.model.record import DiskRecord, GuestRecord
from hypercontainer.model.settings import Settings

HINT = "no package of Debian 12 has it: docs/howto/kvmtool.md says how it is built"
PACKED = "vmlinuz"  # beside the kernel that others start: docs/state.md
DEVICES = {
    Path("/dev/kvm"): "kvmtool emulates nothing: load the kernel module kvm_intel or kvm_amd",
    Path("/dev/vhost-vsock"): "it is how guests are talked to: load the kernel module vhost_vsock",
}


class KvmtoolHypervisor:
    """Boots guests with kvmtool, each jailed."""

    name, product = "kvmtool", "kvmtool"
    features: frozenset[Feature] = frozenset()
    commands: Sequence[str] = ()  # that lkvm is missing, and what to do about it, `version` says
    accelerator: Literal["", "xen"] = ""
    modules: Sequence[str] = ("virtio_blk", "vmw_vsock_virtio_transport")

    def __init__(self, lkvm: str = VMM) -> None:
        self._lkvm, self._version = lkvm, ""

    def check(self, arch: str) -> None:
        if arch != host_name():
            why = f"it runs those of its host, which is of {host_name()}"
            raise Unavailable(f"cannot run guests of architecture {arch} with kvmtool: {why}")
        self._program()

    def lacks(self, arch: str) -> Mapping[Feature, str]:
        return {}

    async def boot(self, config: VmConfig, run_dir: Path, trace: Trace) -> LkvmGuest:
        self.check(config.arch)
        _check(config)
        await self.version()  # or nothing is made
        run = LkvmDir(run_dir)
        lock = run.take(config.name)
        try:
            return LkvmGuest(await self._spawn(config, run, lock, trace), run)
        except BaseException:
            await reap(run)
            raise

    def shape(self, config: VmConfig) -> str:
        taps = [3 + n for n in range(len(config.nics))]
        return " ".join(argv.command(self._program(), config, taps, LkvmDir(Path()).vsock))

    async def attach(self, record: GuestRecord) -> LkvmGuest | None:
        process = record.process
        if record.boot_id != proc.boot_id() or proc.start_time(process.pid) != process.start_time:
            return None
        return LkvmGuest(record, LkvmDir(Path(record.run_dir)))

    async def version(self) -> str:
        for device, why in DEVICES.items():
            if not device.exists():
                raise Unavailable(f"cannot use kvmtool: there is no {device}; {why}")
        if not self._version:
            self._version = await self._asked()
        return self._version

    async def behind(self) -> str:
        return 'experimental: QEMU\'s driver, hypervisor = "qemu", is not (docs/howto/kvmtool.md)'

    async def reap(self, run_dir: Path) -> None:
        if run_dir.is_dir():
            await reap(LkvmDir(run_dir))

    async def _spawn(self, config: VmConfig, run: LkvmDir, lock: int, trace: Trace) -> GuestRecord:
        with ExitStack() as files:
            files.callback(os.close, lock)
            cgroups = limits.begin(run, config.memory_mib, trace)
            with trace.step("files"):
                disks = [_keep(files, open_disk(disk)) for disk in config.disks]
                written = [(fd, disk) for fd, disk in zip(disks, config.disks, strict=True) if not disk.read_only]
                for fd, disk in written:
                    claim(fd, disk)
                mounts = await in_thread(_mounts, config, disks, files)
                taps = [_keep(files, _open_nic(nic, config.uid)) for nic in config.nics]
            lkvm, bound = jail.placed(self._program())
            program = jail.JailedProgram(
                program=VMM,
                command=argv.command(lkvm, config, taps, run.vsock),
                options=jail.vmm_options(
                    run,
                    uid=config.uid,
                    binds={argv.KERNEL: _packed(config), argv.INITRD: config.initrd} | bound,
                    kvm=True,
                    vsock=True,
                    proc=False,
                    home=argv.HOME,
                    largest_file=max([1 << 20, *(os.fstat(fd).st_size for fd, _ in written)]),
                ),
                fds=[*taps, *(fd for fd, _ in written)],  # these for their locks
                mounts=mounts,
                lock=lock,
                cgroups=cgroups,
            )
            with trace.step("vmm"):
                (process,) = await jail.start_all(run, [program])
        return born(self.name, config, run, process, [])

    def _program(self) -> str:
        lkvm = shutil.which(self._lkvm)
        if lkvm is None:
            raise NotFound("program", self._lkvm, HINT)
        return lkvm

    async def _asked(self) -> str:
        """Its version; every one calls itself 3.18.0, so whether it is young enough is asked apart."""
        lkvm = shutil.which(self._lkvm)
        if lkvm is None:
            raise Unavailable(f"cannot use kvmtool: {NotFound('program', self._lkvm, HINT)}")
        try:
            said = await proc.run([lkvm, "version"], timeout_s=10)
            can = await proc.run([lkvm, "run", "--help"], timeout_s=10, check=False)
        except proc.CommandFailed as e:
            raise Unavailable(f"cannot use kvmtool: {e}") from e
        if b"--vsock" not in can.stdout + can.stderr:
            raise Unavailable(f"cannot use kvmtool: {lkvm} is too old: it has no --vsock; {HINT}")
        return said.stdout.decode(errors="replace").split()[-1]


def hypervisor(settings: Settings) -> KvmtoolHypervisor:
    """For the registry. InvalidInput for what it can never do."""
    if settings.qemu:
        raise InvalidInput("cannot use `qemu` of config.toml with kvmtool: it is no QEMU")
    if settings.accelerator == "tcg":
        raise InvalidInput('cannot use `accelerator = "tcg"` with kvmtool: it emulates nothing')
    return KvmtoolHypervisor()


def _check(config: VmConfig) -> None:
    if config.accelerator != "kvm":
        why = "kvmtool emulates nothing, and KVM does not work here: `hyperctl doctor` says why"
        raise Unavailable(f"cannot boot {config.name}: {why}")
    if config.uid <= 0:
        raise InvalidInput(f"cannot run a VMM as user {config.uid}")
    if config.memory_mib < 64 or config.vcpus < 1:
        raise InvalidInput(f"cannot boot {config.name} with {config.vcpus} CPUs and {config.memory_mib} MiB of memory")
    if len(" ".join(argv.kernel_parameters(config)).encode()) > argv.MOST_PARAMETERS:
        raise Unsupported(f"tell the kernel of {config.name} more than {argv.MOST_PARAMETERS} bytes", "kvmtool")
    if [disk.target for disk in config.disks] != list(range(len(config.disks))):
        raise Unsupported(f"leave numbers out among the disks of {config.name}", "kvmtool")
    if len(config.disks) > argv.MOST_DISKS:
        raise Unsupported(f"boot {config.name} with more than {argv.MOST_DISKS} disks", "kvmtool")
    for disk in config.disks:
        if disk.device:
            raise Unsupported(f"have the block device {disk.path} in {config.name}", "kvmtool")
    if any(nic.macvtap for nic in config.nics):
        raise Unsupported(f"have {config.name} at a macvtap", "kvmtool")
    _packed(config)


def _packed(config: VmConfig) -> Path:
    kernel = config.kernel.with_name(PACKED)
    if not kernel.exists():
        hint = f"kvmtool starts no ELF file; with Debian's kernel: remove {kernel.parent}, then `hyperctl kernel fetch`"
        raise NotFound("kernel", str(kernel), hint)
    return kernel


def _keep(files: ExitStack, fd: int) -> int:
    files.callback(os.close, fd)
    return fd


def _open_nic(nic: Nic, uid: int) -> int:
    """For lkvm, whose threads of an interface end at the first error: they wait for frames, and send at any time."""
    fd = open_tap(nic.tap, uid, nic.netns)
    try:
        os.set_blocking(fd, True)
        bring_up(nic.tap, nic.netns)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _mounts(config: VmConfig, disks: Sequence[int], files: ExitStack) -> dict[str, int]:
    """Each disk's file as a mount of its own, where it is its VMM's: lkvm opens it by a path, as a user that owns no
    file of ours. The closing of what is returned, by place, is left to `files`."""
    return {
        argv.place(disk): _keep(files, _lent(disk, fd, config.uid))
        for disk, fd in zip(config.disks, disks, strict=True)
    }


def _lent(disk: DiskRecord, fd: int, uid: int) -> int:
    owner = os.fstat(fd)
    try:
        users = userns.opened([(owner.st_uid, uid, 1)], [(owner.st_gid, uid, 1)])
        try:
            attributes = mount.NOSUID | mount.NODEV | mount.NOEXEC | (mount.RDONLY if disk.read_only else 0)
            tree = mount.clone(fd, attributes=attributes, recursive=False)
            try:
                mount.map_ids(tree, users, recursive=False)
            except BaseException:
                os.close(tree)
                raise
        finally:
            os.close(users)
    except OSError as e:
        why = "the file system that it is on maps no ids" if e.errno == errno.EINVAL else e.strerror
        raise HyperError(f"cannot lend disk {disk.path} to its virtual machine: {why}") from e
    return tree
