"""A virtual machine as the XML of a domain of libvirt's. Pure: the same configuration gives the same text.

Disks are named by the group of descriptors that libvirtd is handed for each (`files`), the tap by the name that it is
made with; kernel and initramfs are paths, which the VMM's user has to reach.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from hypercontainer.hypervisor.base import SHARE_TAG, Nic, VmConfig
from hypercontainer.hypervisor.qemu.argv import AGENT_PORT, TRANSLATIONS_MIB, kernel_parameters
from hypercontainer.hypervisor.qemu.machines import Machine
from hypercontainer.model.record import DiskRecord

QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
# Left to libvirtd, a guest that powers off stands still until there is a libvirtd that ends it.
ACTIONS = ("-action", "shutdown=poweroff")

# On the machine's root bus: bridges for devices that come later cost a guest time to look at.
SERIAL_SLOT, DISKS_SLOT, RANDOM_SLOT, SHARE_SLOT, NIC_SLOT, BALLOON_SLOT = 2, 3, 4, 5, 6, 0x1E
MOST_NICS = BALLOON_SLOT - NIC_SLOT

Attributes = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the domain's other ends are on this host. `console` and `share` are sockets that the VMM connects to."""

    name: str  # of the domain
    emulator: str
    agent: Path
    console: Path
    share: Path


def describe(machine: Machine, config: VmConfig, places: Places, *, gid: int) -> str:
    """Return the XML that boots `config` on `machine`, by a VMM of that group."""
    kvm = config.accelerator == "kvm"
    ElementTree.register_namespace("qemu", QEMU)
    domain = ElementTree.Element("domain", type="kvm" if kvm else "qemu")
    _leaf(domain, "name", places.name)
    _leaf(domain, "title", config.name)
    _leaf(domain, "memory", str(config.memory_mib), unit="MiB")
    _leaf(domain, "vcpu", str(config.vcpus))
    backing = _leaf(domain, "memoryBacking")  # that can be shared: virtiofsd reads and writes the guest's pages
    _leaf(backing, "source", type="memfd")
    _leaf(backing, "access", mode="shared")
    _boot(domain, machine, config)
    _features(domain, kvm=kvm)
    _processor(domain, machine, kvm=kvm)
    _leaf(_leaf(domain, "clock", offset="utc"), "timer", name="hpet", present="no")
    for event in ("on_poweroff", "on_reboot", "on_crash"):
        _leaf(domain, event, "destroy")
    _devices(domain, config, places)
    # files that the VMM is handed stay whose they are: a disk of an image is many guests'
    label = _leaf(domain, "seclabel", type="static", model="dac", relabel="no")
    _leaf(label, "label", f"+{config.uid}:+{gid}")
    command = _leaf(domain, f"{{{QEMU}}}commandline")
    for word in ACTIONS:
        _leaf(command, f"{{{QEMU}}}arg", value=word)
    ElementTree.indent(domain)
    return ElementTree.tostring(domain, encoding="unicode") + "\n"


def group(disk: DiskRecord) -> str:
    """What the descriptors of a disk are called."""
    return f"disk{disk.target}"


def _boot(domain: ElementTree.Element, machine: Machine, config: VmConfig) -> None:
    os = _leaf(domain, "os")
    _leaf(os, "type", "hvm", arch=machine.arch, machine=machine.type)
    _leaf(os, "loader", machine.firmware, type="rom")
    _leaf(os, "kernel", str(config.kernel))
    _leaf(os, "initrd", str(config.initrd))
    _leaf(os, "cmdline", " ".join(kernel_parameters(machine, config)))


def _features(domain: ElementTree.Element, *, kvm: bool) -> None:
    features = _leaf(domain, "features")
    _leaf(features, "acpi")
    _leaf(features, "apic")
    _leaf(features, "vmport", state="off")
    _leaf(features, "smm", state="off")
    if not kvm:
        _leaf(_leaf(features, "tcg"), "tb-cache", str(TRANSLATIONS_MIB), unit="MiB")


def _processor(domain: ElementTree.Element, machine: Machine, *, kvm: bool) -> None:
    model = machine.native_cpu if kvm else machine.emulated_cpu
    cpu = _leaf(domain, "cpu", mode="host-passthrough") if kvm else _leaf(domain, "cpu", mode="maximum", check="none")
    for without in model.split(",")[1:]:
        _leaf(cpu, "feature", policy="disable", name=without.removesuffix("=off"))


def _devices(domain: ElementTree.Element, config: VmConfig, places: Places) -> None:
    devices = _leaf(domain, "devices")
    _leaf(devices, "emulator", places.emulator)
    _leaf(devices, "controller", type="usb", model="none")
    ports = _leaf(devices, "controller", type="virtio-serial", index="0", ports="2")  # port 0 is for a console
    _slot(ports, SERIAL_SLOT)
    bus = _leaf(devices, "controller", type="scsi", index="0", model="virtio-scsi")
    _leaf(bus, "driver", queues="1")
    _slot(bus, DISKS_SLOT)
    for n, disk in enumerate(config.disks):
        _disk(devices, disk, n)
    for n, nic in enumerate(config.nics):
        _nic(devices, nic, n)
    if config.share:
        share = _leaf(devices, "filesystem", type="mount")
        _leaf(share, "driver", type="virtiofs")
        _leaf(share, "source", socket=str(places.share))
        _leaf(share, "target", dir=SHARE_TAG)
        _slot(share, SHARE_SLOT)
    serial = _leaf(devices, "serial", type="unix")
    _leaf(serial, "source", mode="connect", path=str(places.console))
    _leaf(serial, "target", type="isa-serial", port="0")
    channel = _leaf(devices, "channel", type="unix")
    _leaf(channel, "source", mode="bind", path=str(places.agent))
    _leaf(channel, "target", type="virtio", name=AGENT_PORT)
    random = _leaf(devices, "rng", model="virtio")
    _leaf(random, "backend", "/dev/urandom", model="random")
    _slot(random, RANDOM_SLOT)
    balloon = _leaf(devices, "memballoon", model="virtio", freePageReporting="on")
    _slot(balloon, BALLOON_SLOT)


def _disk(devices: ElementTree.Element, disk: DiskRecord, number: int) -> None:
    element = _leaf(devices, "disk", type="file", device="disk")
    driver = {"name": "qemu", "type": "raw"}
    _leaf(element, "driver", **(driver if disk.read_only else driver | {"discard": "unmap"}))
    _leaf(element, "source", file=disk.path, fdgroup=group(disk))
    _leaf(element, "target", dev=_device(number), bus="scsi")
    if disk.read_only:
        _leaf(element, "readonly")
    _leaf(element, "address", type="drive", controller="0", bus="0", target=str(disk.target), unit="0")


def _device(number: int) -> str:
    """A name that libvirt tells it by, and nobody else: "sda", …, "sdaa"."""
    letters = ""
    while number >= 0:
        letters = chr(ord("a") + number % 26) + letters
        number = number // 26 - 1
    return f"sd{letters}"


def _nic(devices: ElementTree.Element, nic: Nic, number: int) -> None:
    element = _leaf(devices, "interface", type="ethernet")
    _leaf(element, "mac", address=nic.mac)
    _leaf(element, "target", dev=nic.tap)
    _leaf(element, "model", type="virtio")
    _leaf(element, "driver", name="qemu")
    _leaf(element, "rom", enabled="no")
    _slot(element, NIC_SLOT + number)


def _slot(element: ElementTree.Element, slot: int) -> None:
    _leaf(element, "address", type="pci", domain="0x0000", bus="0x00", slot=f"{slot:#04x}", function="0x0")


def _leaf(parent: ElementTree.Element, tag: str, text: str | None = None, **attributes: str) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, tag, attributes)
    element.text = text
    return element
