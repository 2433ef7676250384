"""A virtual machine as kvmtool's command line. Pure: the same configuration gives the same words.

Files are paths that the driver puts into lkvm's root (`host/jail.py`); a tap is named by its descriptor.
"""

from collections.abc import Sequence

from hypercontainer.hypervisor.base import VmConfig
from hypercontainer.hypervisor.host.parameters import PARAMETERS
from hypercontainer.lib.vsock import Vsock
from hypercontainer.model.record import DiskRecord

NAME = "guest"  # of its socket, in a folder of its own
KERNEL = "/boot/vmlinuz"
INITRD = "/boot/initrd"
HOME = "/home"
MOST_DISKS = 4  # MAX_DISK_IMAGES of kvmtool
MOST_PARAMETERS = 1500  # bytes: lkvm cuts the kernel's command line off at 2048, its own words included
AGENT_PORT = 1  # VSOCK_PORT of hyperstart

# lkvm says of itself where the console is, reboot=k and noacpi: so nothing powers the machine off.
GUEST = ("hyper.agent=vsock", "hyper.disks=vd", "hyper.off=reboot")


def command(lkvm: str, config: VmConfig, taps: Sequence[int], agent: Vsock) -> list[str]:
    """Return the argv that boots `config`, by the program `lkvm`, its interfaces at `taps`."""
    return [
        *(lkvm, "run", "--name", NAME),
        *("--cpus", str(config.vcpus), "--mem", str(config.memory_mib)),
        *("--kernel", KERNEL, "--initrd", INITRD, "--params", " ".join(kernel_parameters(config))),
        *("--console", "serial"),  # its stdout, for stdin is none
        "--rng",
        *("--vsock", str(agent.cid)),
        *(word for disk in config.disks for word in ("--disk", place(disk) + (",ro" if disk.read_only else ""))),
        *_networks(config, taps),
    ]


def kernel_parameters(config: VmConfig) -> list[str]:
    return [*PARAMETERS, *GUEST, *config.kernel_parameters]


def place(disk: DiskRecord) -> str:
    """Where lkvm finds it."""
    return f"/disks/{disk.target}"


def _networks(config: VmConfig, taps: Sequence[int]) -> list[str]:
    if not config.nics:
        return ["--network", "mode=none"]  # else it has a network of lkvm's own
    words: list[str] = []
    for nic, tap in zip(config.nics, taps, strict=True):
        # An interface by descriptor is taken as it is only where its name looks like a macvtap's path.
        words += ["--network", f"mode=tap,tapif=/{nic.tap},fd={tap},guest_mac={nic.mac}"]
    return words
