"""Network interfaces that come and go while a guest runs, on the machine's root bus.

That bus has no protocol to tell a guest of it, which is told by its agent; nor to ask one, so no guest can keep an
interface that is to go.
"""

from collections.abc import Mapping
from contextlib import suppress

from hypercontainer.errors import GuestError
from hypercontainer.hypervisor.base import HOT_NICS, Nic
from hypercontainer.hypervisor.qemu import argv, bus
from hypercontainer.hypervisor.qemu.machines import Machine
from hypercontainer.hypervisor.qemu.qmp import Monitor, Refused

FD = "tap"  # of a tap that QEMU was given, and has made no use of yet
PLUGGED = ("/machine/peripheral", "/machine/peripheral-anon")  # devices with a name and without


async def add(monitor: Monitor, machine: Machine, nic: Nic, tap: int) -> None:
    """Plug `nic`, with the descriptor of its tap, which remains the caller's."""
    netdev = argv.netdev(nic.number)
    try:
        await monitor.get_fd(tap, FD)
        await monitor.execute("netdev_add", {"type": "tap", "id": netdev, "fd": FD})
        place = await bus.open_root(monitor, machine) | {"id": f"nic{nic.number}"}
        if machine.bus == "pci":
            place["addr"] = f"{_slot(nic.number):#x}"
        await monitor.execute("device_add", argv.nic_device(machine, nic) | place)
    except BaseException:
        await remove(monitor, machine, nic.number)
        raise


def _slot(number: int) -> int:
    return argv.HOT_NIC_SLOT + HOT_NICS.index(number)


async def remove(monitor: Monitor, machine: Machine, number: int) -> None:
    """Take away all that there is of an interface."""
    if device := (await plugged(monitor, machine)).get(number):
        await bus.open_root(monitor, machine)
        await monitor.delete_device(device)
    try:
        await monitor.execute("netdev_del", {"id": argv.netdev(number)})
    except Refused as e:
        if e.reason != "DeviceNotFound":
            raise
    with suppress(Refused):  # mostly there is none: a hyperd before us ended between the two
        await monitor.execute("closefd", {"fdname": FD})


async def plugged(monitor: Monitor, machine: Machine) -> Mapping[int, str]:
    """The number of each interface, and QEMU's path of its device."""
    found = {}
    for folder in PLUGGED:
        for name in await _devices(monitor, machine, folder):
            path = f"{folder}/{name}"
            netdev = await monitor.execute("qom-get", {"path": path, "property": "netdev"})
            if (number := argv.nic_number(str(netdev))) is not None:
                found[number] = path
    return found


async def _devices(monitor: Monitor, machine: Machine, folder: str) -> list[str]:
    children = await monitor.execute("qom-list", {"path": folder})
    if not isinstance(children, list):
        raise GuestError("cannot tell the network interfaces of the guest: QEMU says nonsense")
    return [str(child["name"]) for child in children if child.get("type") == f"child<{argv.NIC}-{machine.bus}>"]
