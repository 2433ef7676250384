"""Snapshots: a guest's devices and CPUs as a migration stream in a file, its memory in another.

A guest that was booted to be saved has its memory mapped shared: its file is the memory, and the stream leaves it out
(x-ignore-shared). Of any other guest the memory is copied (host/memory.py), and the stream is that of QEMU's own device
state, made what those who load expect. Both are the same to them: they map the memory's file copy on write.
"""

import os
import struct

from hypercontainer.errors import GuestError, WrongState
from hypercontainer.hypervisor.qemu import argv, bus
from hypercontainer.hypervisor.qemu.machines import Machine
from hypercontainer.hypervisor.qemu.qmp import Monitor
from hypercontainer.lib import files, sparse

SAVE_S = 30.0  # 0.03 s, on a machine that has time for it
LOAD_S = 60.0  # 0.02 s, likewise; many may be started at once
FD = "state"
FDSET = 900  # apart from those of disks
RAM_MAX = 1 << 40  # bytes
STATE_MAX = 64 << 20  # bytes of devices' state: 0.2 MB
IGNORE_SHARED = "x-ignore-shared"

# The stream's own words: QEMU, docs/devel/migration, "Stream structure"
MAGIC = b"QEVM" + struct.pack(">I", 3)
CONFIGURATION, SUBSECTION, DESCRIPTION = b"\x07", b"\x05", b"\x06"


async def save(monitor: Monitor, state: int) -> None:
    """Stop the guest for good and write its state to the file `state`."""
    await monitor.execute("stop")
    await _leave_memory_out(monitor)
    await monitor.get_fd(state, FD)
    await monitor.migrate("migrate", f"fd:{FD}", timeout_s=SAVE_S)


async def load(monitor: Monitor, state: int) -> None:
    """Let a QEMU that was started to wait for it go on from `state`; the guest runs when this returns."""
    await _leave_memory_out(monitor)
    # QEMU would tell the network where this machine is now, by the address of its NIC: the snapshot's
    await monitor.execute("migrate-set-parameters", {"announce-rounds": 0})
    own = os.open(f"/proc/self/fd/{state}", os.O_RDONLY | os.O_CLOEXEC)  # with a read position of its own
    try:
        await monitor.get_fd(own, FD)
    finally:
        os.close(own)
    await monitor.migrate("migrate-incoming", f"fd:{FD}", timeout_s=LOAD_S)
    await monitor.execute("cont")  # it was stopped when it was saved, and still is


async def plug_share(monitor: Monitor, machine: Machine) -> None:
    """Give the device of its shared folder to a guest that goes on from a snapshot: QEMU can neither save nor load
    where there is one. The guest is not told, it has to look."""
    place = await bus.open_root(monitor, machine)
    await monitor.execute("device_add", argv.share_device(machine) | place)


async def ram_bytes(monitor: Monitor) -> int:
    """Of a guest that can be dumped. WrongState for one that has grown since its start: the copies would not."""
    summary = await monitor.execute("query-memory-size-summary")
    if not isinstance(summary, dict) or not isinstance(size := summary.get("base-memory"), int):
        raise GuestError("cannot tell the size of the guest's memory: QEMU does not say")
    if summary.get("plugged-memory"):
        why = "memory was added to it; stop and start the container first"
        raise WrongState("copy", "the virtual machine", "larger than at its start", why)
    if not 0 < size <= RAM_MAX:
        raise GuestError(f"cannot copy a guest's memory of {size} bytes")
    return size


async def dump_devices(monitor: Monitor, machine: Machine, state: int) -> None:
    """Write all that a paused guest is but its memory to the empty file `state`, for `load`. It stays paused.

    For that QEMU has a command of Xen's, which any accelerator may use: no migration, so nothing follows from it for
    the guest."""
    raw = os.memfd_create("device state", os.MFD_CLOEXEC)  # what it takes counts as the VMM's memory: it writes it
    try:
        size = await _written(monitor, raw)
        if size > STATE_MAX:
            raise GuestError(f"cannot keep the state of the guest's devices: QEMU says that it is {size} bytes")
        stream = _stream(os.pread(raw, size, 0), await machine_type(monitor), machine.page_bits)
    finally:
        os.close(raw)
    with files.telling("keep the state of the guest's devices", GuestError):
        sparse.write(state, stream, 0)


async def _written(monitor: Monitor, raw: int) -> int:
    """Have QEMU write its devices' state to the file `raw`; its size."""
    ours = os.open(f"/proc/self/fd/{raw}", os.O_WRONLY | os.O_CLOEXEC)  # QEMU shares its position
    try:
        await monitor.add_fd(ours, FDSET)
        try:
            file = {"filename": f"/dev/fdset/{FDSET}", "live": False}
            await monitor.execute("xen-save-devices-state", file, timeout_s=SAVE_S)
        finally:
            await monitor.execute("remove-fd", {"fdset-id": FDSET})
        return os.lseek(ours, 0, os.SEEK_CUR)
    finally:
        os.close(ours)


async def machine_type(monitor: Monitor) -> str:
    """What QEMU calls its machine, version and all: "virt-7.2"."""
    kind = await monitor.execute("qom-get", {"path": "/machine", "property": "type"})
    name = str(kind).removesuffix("-machine")
    if not 0 < len(name) < 100:
        raise GuestError("cannot tell the guest's machine type: QEMU does not say")
    return name


def _stream(devices: bytes, machine: str, page_bits: int) -> bytes:
    """What `devices` lacks to be a migration stream: the configuration after the header, a description at the end."""
    if not devices.startswith(MAGIC):
        raise GuestError("cannot use the devices' state: it is in another format than this version knows")
    section = _counted(">I", machine)
    if page_bits:
        section += SUBSECTION + _counted(">B", "configuration/target-page-bits") + struct.pack(">II", 1, page_bits)
    section += SUBSECTION + _counted(">B", "configuration/capabilities")
    section += struct.pack(">II", 1, 1) + _counted(">B", IGNORE_SHARED)  # version 1: one capability
    return b"".join((MAGIC, CONFIGURATION, section, devices[len(MAGIC) :], DESCRIPTION, bytes(4)))


def _counted(length: str, text: str) -> bytes:
    return struct.pack(length, len(text)) + text.encode()


async def _leave_memory_out(monitor: Monitor) -> None:
    wanted = [{"capability": name, "state": True} for name in (IGNORE_SHARED, "events")]
    await monitor.execute("migrate-set-capabilities", {"capabilities": wanted})
