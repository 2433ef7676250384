"""The drivers, by the names that the settings know them by; each is imported when it is used."""

from importlib import import_module

from hypercontainer.errors import InvalidInput
from hypercontainer.hypervisor.base import Hypervisor

DRIVERS = {"qemu": "hypercontainer.hypervisor.qemu.driver"}  # modules with a function `hypervisor`


def load(name: str) -> Hypervisor:
    """Make the driver called `name`. InvalidInput when there is none."""
    if name not in DRIVERS:
        raise InvalidInput(f"cannot use hypervisor {name!r}: there is {', '.join(DRIVERS)}")
    made: Hypervisor = import_module(DRIVERS[name]).hypervisor()
    return made
