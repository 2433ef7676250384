"""The machines that QEMU is for our guests, as data: the usual one of each architecture, and another of x86_64."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypercontainer.errors import InvalidInput, Unavailable


@dataclass(frozen=True, kw_only=True)
class Machine:
    arch: str  # of model/arch.py
    program: str  # QEMU's for that architecture …
    package: str  # … and Debian's package of it
    type: str
    options: str  # of the type
    firmware: str  # "": QEMU hands over to the kernel by itself
    console: str  # what the guest's kernel calls the first serial line
    emulated_cpu: str  # with all that TCG can do well
    native_cpu: str  # under KVM
    # parameter that tells an emulated guest how fast this host's time stamp counter goes, in kHz; "": it reads a clock
    # of QEMU's, whose speed it is told
    clock: str
    bus: str  # of its devices, as QEMU's names of them end: pci, ccw; or device, on a bus of its own each
    root_bus: str  # where a device is plugged that the guest is not told of, by that name of QEMU's; "": it is told
    hot_memory: bool  # a guest may get more memory while it runs
    hot_vcpus: int  # so many processors a guest may get to have while it runs; 0: those that it started with
    page_bits: int  # of a page's size, where a saved state of QEMU's says that: it emulates several; 0: one
    parameters: Sequence[str]  # of the kernel, on this machine
    modules: Sequence[str] = ()  # of the kernel, besides those of all: kernel/modules.py
    unsaved: str = ""  # why no guest can go on from a saved one, in words that follow its type
    memory_step_mib: int = 1  # a guest's memory is a multiple of it
    unplugged: str = ""  # why no network interface can come or go while a guest runs, likewise


Q35 = Machine(
    arch="x86_64",
    program="qemu-system-x86_64",
    package="qemu-system-x86",
    type="q35",
    # without the devices that no guest of ours has a driver loaded for: each costs time to build and to probe
    options="usb=off,smbus=off,sata=off,vmport=off,hpet=off,smm=off,i8042=off",
    # small and quick, and enough to hand over to a PVH kernel: SeaBIOS proper spends a second on option ROMs, emulated
    firmware="bios-microvm.bin",
    console="ttyS0",
    # With erms or fsrm the kernel copies by `rep movsb`, which is emulated byte by byte; without, by `rep movsq`,
    # eight at a time.
    emulated_cpu="max,erms=off,fsrm=off",
    # A guest that runs guests has KVM emulate their hardware for it, which is how guests got out of KVM before. Nothing
    # of ours needs that. Whichever of the two the host does not have is off anyhow.
    native_cpu="host,vmx=off,svm=off",
    clock="tsc_early_khz",
    bus="pci",
    root_bus="pcie.0",
    hot_memory=True,
    # eight possible processors cost a guest 1.2 MiB of per-CPU memory, and a clone nothing that can be measured; 16
    # cost 3.2 MiB and 0.2 s of boot, emulated
    hot_vcpus=8,
    page_bits=0,
    parameters=(
        "reboot=t",  # the end after a panic is a triple fault, which -no-reboot turns into QEMU's end
        "no_timer_check",  # 20 million; and a busy host makes that check fail, which is a panic
        "tsc=reliable",  # no watchdog that wakes an idle guest, and none that a busy host makes bark
    ),
)

VIRT = Machine(
    arch="aarch64",
    program="qemu-system-aarch64",
    package="qemu-system-arm",
    type="virt",
    options="gic-version=3",  # the one that knows more than eight processors
    firmware="",
    console="ttyAMA0",
    # Emulated, each signature of a pointer is a cipher: a boot takes 4.8 s of processor time with them, 1.3 s without.
    # With SVE or SME, programs copy and compare by instructions that are emulated lane by lane.
    emulated_cpu="max,pauth=off,sve=off,sme=off",
    native_cpu="host",
    clock="",
    bus="pci",
    root_bus="pcie.0",
    hot_memory=True,
    hot_vcpus=0,  # this machine of QEMU plugs none
    page_bits=12,
    parameters=(),
)

CCW = Machine(
    arch="s390x",
    program="qemu-system-s390x",
    package="qemu-system-misc",
    type="s390-ccw-virtio",
    options="",
    firmware="",
    console="ttysclp0",
    emulated_cpu="max",
    native_cpu="host",
    clock="",
    bus="ccw",  # channel devices: the kernel is told of each that comes or goes, by a machine check
    root_bus="",
    hot_memory=False,  # QEMU before 10 and kernels before 6.13 have no virtio-mem there
    hot_vcpus=0,
    page_bits=0,
    parameters=(),
    # One that was saved just after it had answered took no word any more, and another one did. Devices leave word of an
    # interrupt in memory, which is saved; the interrupt itself seems not to be.
    unsaved="whose guests may fall silent when they go on from a saved state",
)

PSERIES = Machine(
    arch="ppc64le",
    program="qemu-system-ppc64",
    package="qemu-system-ppc",
    type="pseries",
    options="x-vof=on",  # a firmware that QEMU itself is most of; SLOF, which scans buses, takes 12 s longer, emulated
    firmware="vof.bin",
    console="hvc0",
    emulated_cpu="POWER9",
    native_cpu="host",
    clock="",
    bus="pci",
    root_bus="pci.0",
    hot_memory=False,  # neither this machine nor its kernels have virtio-mem
    hot_vcpus=0,
    page_bits=0,
    parameters=(),
    # of the timer, which each of them waits for, QEMU before 8.2 saves nothing, emulated: it goes off seconds later, or
    # as good as never
    unsaved="whose guests lose their timer when they go on from a saved state",
    memory_step_mib=256,
    # its kernel knows the devices on PCI that its firmware's tree has, and what comes later only if a program in the
    # guest asks the firmware for it and adds it there, which hyperstart does not
    unplugged="whose guests take no PCI device while they run",
)

# The quicker one to boot, without PCI: what asks nothing of who runs. docs/adr/0082-microvm-is-for-boots.md
MICROVM = replace(
    Q35,
    type="microvm",
    options="auto-kernel-cmdline=off,x-option-roms=off",  # ACPI has the devices; nothing is booted from any of them
    bus="device",
    root_bus="",
    hot_memory=False,
    hot_vcpus=0,
    modules=("virtio_mmio",),
    unsaved="of which QEMU has no versions, so that after an update it may take a saved one for something else",
    unplugged="which has the devices that it started with",
)

MACHINES = {machine.arch: machine for machine in (Q35, VIRT, CCW, PSERIES)}
BY_TYPE = {machine.type: machine for machine in (*MACHINES.values(), MICROVM)}


def machine_of(arch: str) -> Machine:
    """The machine for guests of `arch`. Unavailable when there is none."""
    if arch not in MACHINES:
        raise Unavailable(f"cannot run guests of architecture {arch} with QEMU: there are {', '.join(MACHINES)}")
    return MACHINES[arch]


def machine_named(type: str, arch: str) -> Machine:
    """The machine of that type, for guests of `arch`; "" is the usual one. InvalidInput for another's."""
    machine = BY_TYPE.get(type) if type else machine_of(arch)
    if machine is None or machine.arch != arch:
        there = ", ".join(name for name, each in BY_TYPE.items() if each.arch == arch)
        raise InvalidInput(f"cannot make a machine {type!r} of {arch}: there is {there}; see `machine` in config.toml")
    return machine


def machine_in(said: str, arch: str) -> Machine:
    """What a QEMU is for a guest of `arch` that names its machine so, version and all: "pc-q35-7.2"."""
    return next((each for name, each in BY_TYPE.items() if each.arch == arch and name in said), machine_of(arch))
