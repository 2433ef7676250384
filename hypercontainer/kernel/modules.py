"""Which kernel modules a guest needs, and in which order they load."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from hypercontainer.errors import InvalidInput
from hypercontainer.kernel.ports import port_of

# Loaded at boot, in this order; what a kernel has built in is left out by itself.
BOOT = (
    "virtio_pci",  # every device of ours sits behind it, but where there is another bus: see ports.py
    "virtio_console",  # the agent's channel: first, so that the host hears from us early
    "virtio_scsi",  # containers' disks
    "sd_mod",  # … as block devices
    "crc32c_generic",  # ext4's and erofs' checksums: libcrc32c asks for it by name and would look for modprobe
    "erofs",  # images
    "ext4",  # scratch disks
    "overlay",  # the one on the other
    "virtio_net",  # the pod's interface
    "virtio_mem",  # memory that is added later
    "virtio_balloon",  # tells the host which memory is free, so that it takes it back
    "virtio_rng",  # entropy: without it the first getrandom() of a container may wait
    "fuse",  # below virtiofs
    "virtiofs",  # bind mounts and volumes
)

# Loaded when the first process begins that may administer the network, for it asks the kernel for them by that: a guest
# has no modprobe, so nobody in it has other modules loaded. What a kernel lacks of them is left out.
NETWORK = ("bridge", "veth", "dummy", "tun")

# What a kernel's command line says to built-in modules, the loader says to the others.
PARAMETERS = {
    "dummy": "numdummies=0",  # else one is there that nobody has asked for
    "scsi_mod": "scan=manual",  # do not ask 256 targets who they are: hyperstart scans the ones it is told of
}


def boot(arch: str) -> tuple[str, ...]:
    """BOOT as it is there, and before what does without it what has checksums by instruction."""
    port = port_of(arch)
    names = [name for name in BOOT if name not in port.without]
    place = names.index("crc32c_generic")
    return (*names[:place], *port.checksums, *names[place:])


class Module(NamedTuple):
    name: str  # underscores, no suffix
    path: Path

    @property
    def line(self) -> str:
        """Its line in /modules/order, see docs/initramfs.md."""
        return f"{self.name}.ko {PARAMETERS.get(self.name, '')}".strip()


class ModuleTree:
    """A folder as depmod leaves it: lib/modules/RELEASE. One that is not there: everything is built in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._whole = not path.exists()
        if self._whole:
            return
        self._needs = {_name(file): (file, deps.split()) for file, deps in _fields(path / "modules.dep", ":")}
        self._builtin = {_name(line) for line in _lines(path / "modules.builtin")}
        self._aliases: dict[str, str] = {}
        for word, rest in _fields(path / "modules.alias", " "):
            if word == "alias" and len(pair := rest.split()) == 2 and "*" not in pair[0]:
                self._aliases.setdefault(_underscored(pair[0]), pair[1])
        self._soft = {
            _underscored(module): wants
            for word, rest in _fields(path / "modules.softdep", " ")
            if word == "softdep"
            for module, _, wants in [rest.partition(" ")]
        }

    def pick(self, names: Iterable[str]) -> list[Module]:
        """Return `names` and what they need, each once, each after what it needs.

        Raises InvalidInput naming the module that the tree has neither as a file nor built in.
        """
        order: dict[str, Module] = {}
        for name in () if self._whole else names:
            if not self._add(name, order):
                raise InvalidInput(f"cannot use kernel modules in {self.path}: there is no module {name}")
        return list(order.values())

    def further(self, names: Iterable[str], loaded: Iterable[Module]) -> list[Module]:
        """Of `names` those that there are, and what they need, as `pick` has them; without those that are `loaded`."""
        there = {module.name: module for module in loaded}
        order = dict(there)
        for name in () if self._whole else names:
            self._add(name, order)
        return [module for name, module in order.items() if name not in there]

    def _add(self, name: str, order: dict[str, Module]) -> bool:
        """Put `name` into `order` after its needs. False if there is no such module."""
        name = _underscored(name)
        if name in order or name in self._builtin:
            return True
        if name not in self._needs:
            alias = self._aliases.get(name)
            return alias is not None and self._add(alias, order)
        file, deps = self._needs[name]
        for dep in reversed(deps):  # depmod writes the nearest first: what all others need is last
            self._add(_name(dep), order)
        for soft in self._before(name):
            self._add(soft, order)  # wanted, not needed: left out where the kernel lacks it
        order[name] = Module(name, self.path / file)
        return True

    def _before(self, name: str) -> Iterator[str]:
        section = "post:"
        for word in self._soft.get(name, "").split():
            if word.endswith(":") and word in ("pre:", "post:"):
                section = word
            elif section == "pre:":
                yield word


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text()
    except FileNotFoundError as e:
        raise InvalidInput(f"cannot use kernel modules in {path.parent}: there is no {path.name}; run depmod") from e
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def _fields(path: Path, separator: str) -> Iterator[tuple[str, str]]:
    for line in _lines(path):
        head, _, rest = line.partition(separator)
        yield head, rest


def _underscored(name: str) -> str:
    return name.replace("-", "_")


def _name(file: str) -> str:
    return _underscored(file.rpartition("/")[2].partition(".ko")[0])
