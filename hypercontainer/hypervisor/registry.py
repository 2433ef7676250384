"""The drivers, by the names that the settings know them by; each is imported when it is used."""

from importlib import import_module

from hypercontainer.errors import InvalidInput
from hypercontainer.hypervisor.base import Hypervisor
from hypercontainer.model.settings import Settings

# modules with a function `hypervisor`
DRIVERS = {
    "qemu": "hypercontainer.hypervisor.qemu.driver",
    "libvirt": "hypercontainer.hypervisor.libvirt.driver",
    "kvmtool": "hypercontainer.hypervisor.kvmtool.driver",
    "xen": "hypercontainer.hypervisor.xen.driver",
}


def load(settings: Settings) -> Hypervisor:
    """Make the driver that `settings.hypervisor` names. InvalidInput when there is none."""
    name = settings.hypervisor
    if name not in DRIVERS:
        raise InvalidInput(f"cannot use hypervisor {name!r}: there is {', '.join(DRIVERS)}")
    made: Hypervisor = import_module(DRIVERS[name]).hypervisor(settings)
    return made
