"""A virtual machine as the text that `xl create` reads (xl.cfg(5)). Pure: the same configuration gives the same text.

Disks are named by block devices, a loop device where a disk is a file; kernel and initramfs are paths.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hypercontainer.errors import InvalidInput, Unsupported
from hypercontainer.hypervisor.base import Nic, VmConfig
from hypercontainer.hypervisor.host.parameters import PARAMETERS
from hypercontainer.model.record import DiskRecord

AGENT = "hyper.agent"  # the name of the channel that is the agent's …
AGENT_CONSOLE = 1  # … and its number among the guest's consoles, of which 0 is the kernel's
MOST_DISKS = 26  # that have one letter: see docs/wire.md
OLD_DISKS = 16  # that have numbers of 16 bits
MOST_NICS = 8

# Xen runs a script where a device comes, which finds out what the device is and where it leads. We know: we write that
# to xenstore ourselves, while the machine stands still, and there is no script of Xen's to go wrong in between.
SCRIPT = "/bin/true"
ENDS = ("poweroff", "reboot", "watchdog", "crash", "soft_reset")


def parameters(config: VmConfig) -> list[str]:
    """Of the kernel."""
    return [
        "console=hvc0",
        f"{AGENT}=hvc{AGENT_CONSOLE}",
        "hyper.disks=xvd",
        *PARAMETERS,
        *config.kernel_parameters,
    ]


def describe(config: VmConfig, name: str, agent: Path, devices: Mapping[int, str]) -> str:
    """Return the text that boots `config` as a domain of that name, with its agent behind the socket `agent`, its disks
    behind these block devices, by the disks' numbers."""
    values = {
        "name": _text(name),
        "type": _text("pvh"),
        "kernel": _text(str(config.kernel)),
        "ramdisk": _text(str(config.initrd)),
        "cmdline": _text(" ".join(parameters(config))),
        "memory": str(config.memory_mib),
        "vcpus": str(config.vcpus),
        "disk": _list([_disk(disk, devices[disk.target]) for disk in config.disks]),
        "vif": _list([_nic(nic) for nic in config.nics]),
        "channel": _list(_channels(agent)),
        **{f"on_{end}": _text("destroy") for end in ENDS},
    }
    return "".join(f"{key} = {value}\n" for key, value in values.items())


def disk_number(target: int) -> int:
    """The number that disk `target`, xvda for 0, has in xenstore: the Linux device's of old, or Xen's own."""
    return 202 << 8 | target << 4 if target < OLD_DISKS else 1 << 28 | target << 8


def check(config: VmConfig) -> None:
    """Unsupported for more devices than it can have."""
    if len(config.nics) > MOST_NICS:
        raise Unsupported(f"boot {config.name} with more than {MOST_NICS} network interfaces", "Xen")
    if any(disk.target >= MOST_DISKS for disk in config.disks):
        raise Unsupported(f"boot {config.name} with more than {MOST_DISKS} disks", "Xen")


def _channels(agent: Path) -> list[str]:
    """xl 4.17 gives the first channel the number of the kernel's console, and then does not make it: the second is the
    first that there is."""
    return ["connection=pty,name=none", f"connection=socket,path={_word(str(agent))},name={AGENT}"]


def _disk(disk: DiskRecord, device: str) -> str:
    letter = chr(ord("a") + disk.target)
    access = "ro" if disk.read_only else "rw"
    return f"format=raw,vdev=xvd{letter},access={access},backendtype=phy,script={SCRIPT},target={device}"


def _nic(nic: Nic) -> str:
    return f"mac={nic.mac},script={SCRIPT}"


def _list(items: Sequence[str]) -> str:
    return f"[{', '.join(map(_text, items))}]"


def _text(text: str) -> str:
    """In quotes, within which xl knows no escapes."""
    if '"' in text or not text.isprintable():
        raise InvalidInput(f"cannot tell Xen of {text!r}: its toolstack takes no quotes and no control characters")
    return f'"{text}"'


def _word(text: str) -> str:
    """One of several between commas."""
    if "," in text:
        raise InvalidInput(f"cannot tell Xen of {text}: its toolstack takes no comma in a path")
    return text
