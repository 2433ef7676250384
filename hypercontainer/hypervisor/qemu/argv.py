"""A virtual machine as QEMU's command line. Pure: the same configuration on the same machine gives the same words.

Files are named by descriptor (`Descriptors`), which the caller has open; only firmware, kernel and initramfs are
paths, those that `jail.py` puts into the VMM's root.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypercontainer.hypervisor.base import SHARE_TAG, Nic, VmConfig
from hypercontainer.hypervisor.host.parameters import PARAMETERS
from hypercontainer.hypervisor.qemu.machines import Machine
from hypercontainer.model.record import DiskRecord

AGENT_PORT = "hyper.agent"
KERNEL = "/boot/vmlinux"
INITRD = "/boot/initrd"
LIBRARY = "/hyper-memory.so"  # what a clone's QEMU gives memory back with: host/memory.c

# What an empty disk seems to have: more than any file that it is to get (ext4's limit). The guest sees its size once.
SLOT_BYTES = 16 << 40
NOTHING = "null-co"  # QEMU's driver of what is behind it
NIC = "virtio-net"
DISK_BUS, DISK_BUS_OBJECT = "s.0", "/machine/peripheral/s/virtio-backend/s.0"

# A guest may get so much more memory while it runs. It takes nothing until it comes, but KVM keeps some bytes for each
# page of it.
HOT_MEMORY_MIB = 16384
TRANSLATIONS_MIB = 64  # of code, emulating: without a limit it grows to a quarter of the host's memory. translations.py
BLOCK_MIB = 4  # a guest with the kernel's usual page blocks adds and gives back so much at once
# On the PCI bus. What has none here is beside the others, at the places that guests saved before have it at.
BALLOON_SLOT = 0x1E
HOT_NIC_SLOT = 0x10  # of the first of HOT_NICS
ROOM = "room"  # the device behind which that memory is

# QEMU's own seccomp filter. It has opened what it needs; what is denied here it never does for us.
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


@dataclass(frozen=True, kw_only=True)
class Descriptors:
    """Open files that QEMU inherits. `qmp` and `agent` are listening sockets, `share` is connected."""

    qmp: int
    agent: int
    disks: Sequence[int | None] = ()  # in the order of VmConfig.disks; None of one without a file
    taps: Sequence[int] = ()  # in the order of VmConfig.nics
    share: int | None = None
    memory: int | None = None

    def all(self) -> list[int]:
        optional = [fd for fd in (*self.disks, *self.taps, self.share, self.memory) if fd is not None]
        return [self.qmp, self.agent, *optional]

    def with_share(self, share: int) -> "Descriptors":
        return replace(self, share=share)


def command(qemu: str, machine: Machine, config: VmConfig, fds: Descriptors) -> list[str]:
    """Return the argv that boots `config` with `fds` on `machine`, by the program `qemu`."""
    nics = _nics(machine, config, fds)
    return [
        qemu,
        *("-name", f"guest={_escaped(config.name)}"),
        *("-nodefaults", "-no-user-config", "-no-reboot"),
        *("-display", "none"),
        *("-sandbox", SANDBOX),
        *("-machine", ",".join(word for word in (machine.type, "memory-backend=ram", machine.options) if word)),
        # else their devices are as virtio was before its version 1, which has no shared folders
        *(("-global", "virtio-mmio.force-legacy=off") if machine.bus == "device" else ()),
        *_processor(machine, config),
        *_memory(machine, config, fds),
        *(("-bios", machine.firmware) if machine.firmware else ()),
        *_boot(machine, config),
        *("-chardev", f"socket,id=qmp,fd={fds.qmp},server=on,wait=off"),
        *("-mon", "chardev=qmp,mode=control"),
        *("-chardev", "stdio,id=console,signal=off"),  # its keeper reads that
        *("-serial", "chardev:console"),
        *("-device", f"virtio-serial-{machine.bus},max_ports=2"),  # port 0 is reserved for a console
        *("-chardev", f"socket,id=agent,fd={fds.agent},server=on,wait=off"),
        *("-device", f"virtserialport,chardev=agent,name={AGENT_PORT}"),
        *("-object", "rng-random,id=rng,filename=/dev/urandom"),
        *("-device", f"virtio-rng-{machine.bus},rng=rng"),
        *("-device", f"virtio-scsi-{machine.bus},id=s,num_queues=1"),
        *_balloons(machine),
        *_disks(config, fds),
        *(word for words in nics[:1] for word in words),
        *_share(machine, config, fds),
        *(word for words in nics[1:] for word in words),
    ]


def kernel_parameters(machine: Machine, config: VmConfig) -> list[str]:
    return [f"console={machine.console}", *machine.parameters, *PARAMETERS, *config.kernel_parameters]


def _memory(machine: Machine, config: VmConfig, fds: Descriptors) -> list[str]:
    if not machine.hot_memory:
        return ["-m", f"{config.memory_mib}M", "-object", _ram(config, fds)]
    return [
        *("-m", f"{config.memory_mib}M,maxmem={config.memory_mib + HOT_MEMORY_MIB}M"),
        *("-object", _ram(config, fds)),
        # each guest's own, a clone's too: a template has nothing in it. Shared mappings take no room that is not used,
        # whatever the host thinks of overcommitment
        *("-object", f"memory-backend-memfd,id=hot,share=on,size={HOT_MEMORY_MIB}M"),
    ]


def _balloons(machine: Machine) -> list[str]:
    """What more memory comes by, and what tells the host which is free."""
    words = ["-device", f"virtio-mem-{machine.bus},id={ROOM},memdev=hot,block-size={BLOCK_MIB}M,requested-size=0"]
    place = f"addr={BALLOON_SLOT:x}," if machine.bus == "pci" else ""
    balloon = ["-device", f"virtio-balloon-{machine.bus},{place}free-page-reporting=on"]
    return [*(words if machine.hot_memory else []), *balloon]


def _ram(config: VmConfig, fds: Descriptors) -> str:
    size = f"size={config.memory_mib}M"
    if fds.memory is None:  # one that can be shared: virtiofsd reads and writes the guest's pages
        return f"memory-backend-memfd,id=ram,share=on,{size}"
    # QEMU takes no descriptor here, and insists on opening for writing what it maps copy on write
    share = "off" if config.origin and not config.share else "on"
    return f"memory-backend-file,id=ram,share={share},{size},mem-path=/proc/self/fd/{fds.memory}"


def _boot(machine: Machine, config: VmConfig) -> list[str]:
    if config.origin:
        return ["-incoming", "defer"]  # the kernel is in memory
    return ["-kernel", KERNEL, "-initrd", INITRD, "-append", " ".join(kernel_parameters(machine, config))]


def blockdev(disk: DiskRecord, file: str) -> dict[str, object]:
    """The block node of `disk` over the node `file` of `disk_file`.

    A raw format node has no reason but that the file below one can be another later, by blockdev-reopen."""
    node: dict[str, object] = {
        "driver": "raw",
        "node-name": node_name(disk.target),
        "read-only": disk.read_only,
        "file": file,
    }
    # what the guest deletes is given back to the host
    return node if disk.read_only else node | {"discard": "unmap"}


def disk_file(disk: DiskRecord, name: str, filename: str) -> dict[str, object]:
    """The block node `name` of the file of `disk`, already open as `filename` ("/dev/fdset/N")."""
    if not disk.path:
        nothing = {"driver": NOTHING, "size": SLOT_BYTES, "read-zeroes": True}
        return nothing | {"node-name": name, "read-only": disk.read_only}
    node: dict[str, object] = {
        "driver": "host_device" if disk.device else "file",
        "node-name": name,
        "filename": filename,
        "read-only": disk.read_only,
        "auto-read-only": False,
    }
    node["locking"] = "on"  # a writable file is one guest's alone, and any number of them read what nobody writes
    return node if disk.read_only else node | {"discard": "unmap"}


def scsi_disk(target: int) -> dict[str, object]:
    """The device that shows block node `target` to the guest: SCSI target `target`, LUN 0."""
    return {
        "driver": "scsi-hd",
        "id": device_id(target),
        "drive": node_name(target),
        "bus": DISK_BUS,
        "channel": 0,
        "scsi-id": target,
        "lun": 0,
    }


def device_id(target: int) -> str:
    return f"disk{target}"


def node_name(target: int) -> str:
    return f"node{target}"


def target_of(file: str) -> int | None:
    """Of the node that `file_name` names so; None if that does not."""
    number = file.removeprefix("file").removeprefix("swap")
    return int(number) if number.isdigit() and file in (f"file{number}", f"swap{number}") else None


def file_name(target: int, *, other: bool = False) -> str:
    """Of the node below that; `other` is the one that takes its place when the file is swapped."""
    return f"{'swap' if other else 'file'}{target}"


def _processor(machine: Machine, config: VmConfig) -> list[str]:
    smp = f"{config.vcpus},maxcpus={max(config.vcpus, machine.hot_vcpus)}"
    if config.accelerator == "kvm":
        return ["-accel", "kvm", "-cpu", machine.native_cpu, "-smp", smp]
    return ["-accel", f"tcg,tb-size={TRANSLATIONS_MIB}", "-cpu", machine.emulated_cpu, "-smp", smp]


def _disks(config: VmConfig, fds: Descriptors) -> list[str]:
    words: list[str] = []
    for n, (disk, fd) in enumerate(zip(config.disks, fds.disks, strict=True)):
        if fd is not None:
            words += ["-add-fd", f"fd={fd},set={n}"]
        file = file_name(disk.target)
        words += ["-blockdev", _properties(disk_file(disk, file, f"/dev/fdset/{n}"))]
        words += ["-blockdev", _properties(blockdev(disk, file))]
        words += ["-device", _device(scsi_disk(disk.target))]
    return words


def _nics(machine: Machine, config: VmConfig, fds: Descriptors) -> list[list[str]]:
    return [
        ["-netdev", f"tap,id={netdev(nic.number)},fd={tap}", "-device", _device(nic_device(machine, nic))]
        for nic, tap in zip(config.nics, fds.taps, strict=True)
    ]


def netdev(number: int) -> str:
    """What a network interface of that number is at the host's end."""
    return f"net{number}" if number else "net"


def nic_number(netdev: str) -> int | None:
    """Of the interface that has this end; None if it is none of ours."""
    number = netdev.removeprefix("net")
    return int(number or 0) if netdev.startswith("net") and (number.isdigit() or not number) else None


def nic_device(machine: Machine, nic: Nic) -> dict[str, object]:
    """The guest's end of it."""
    rom = {"romfile": ""} if machine.bus == "pci" else {}  # no boot from the network, so none to load and run
    return {
        "driver": f"{NIC}-{machine.bus}",
        "netdev": netdev(nic.number),
        "mac": nic.mac,
        **rom,
        # A clone, which is to announce nothing, is left without the timer for it, and QEMU 7.2 dereferences that when
        # the guest resets the device: at each power-off
        "guest_announce": False,
    }


def _share(machine: Machine, config: VmConfig, fds: Descriptors) -> list[str]:
    if fds.share is None:
        return []
    words = ["-chardev", f"socket,id=share,fd={fds.share}"]
    if config.origin:  # plugged when it is there: QEMU loads no state where there is a device of this kind
        return words
    return [*words, "-device", _device(share_device(machine))]


def share_device(machine: Machine) -> dict[str, object]:
    """The virtiofs device behind the character device "share"."""
    return {"driver": f"vhost-user-fs-{machine.bus}", "id": "fs", "chardev": "share", "tag": SHARE_TAG}


def _properties(values: dict[str, object]) -> str:
    """QEMU's key=value,…"""
    return ",".join(f"{key}={_word(value)}" for key, value in values.items())


def _device(values: dict[str, object]) -> str:
    """The same, whose first one needs no key."""
    (_, driver), *rest = values.items()
    return f"{driver},{_properties(dict(rest))}"


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return _escaped(str(value))


def _escaped(text: str) -> str:
    """A comma ends an option's value unless it is doubled."""
    return text.replace(",", ",,")
