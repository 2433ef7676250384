"""The machine's root bus. PCI's takes no device while the machine runs: it has no protocol to tell a guest. That of
channel devices takes any, and tells."""

from hypercontainer.hypervisor.qemu import argv
from hypercontainer.hypervisor.qemu.machines import Machine
from hypercontainer.hypervisor.qemu.qmp import Monitor


async def open_root(monitor: Monitor, machine: Machine) -> dict[str, object]:
    """Have the root bus take devices and let go of them at once, and on PCI tell nobody. Again changes nothing. What
    says of a device that it is to be there.

    QEMU asks the handler of hot-plug that a bus has, and that one has none. The bus of the disks can be one: it lets
    come what comes, and asks nobody whether something may go."""
    if not machine.root_bus:
        return {}
    handler = {"path": machine.root_bus, "property": "hotplug-handler", "value": argv.DISK_BUS_OBJECT}
    await monitor.execute("qom-set", handler)
    return {"bus": machine.root_bus}
