"""What is another thing on each architecture of a kernel that guests boot."""

from dataclasses import dataclass

from hypercontainer.errors import Unavailable


@dataclass(frozen=True, kw_only=True)
class Port:
    arch: str  # of model/arch.py
    debian: str  # Debian's name of the architecture …
    flavour: str  # … and of its generic kernel there: linux-image-FLAVOUR
    checksums: tuple[str, ...] = ()  # modules that know ext4's and erofs' checksums by instruction
    without: tuple[str, ...] = ()  # of modules.py's BOOT, what guests there have no device for

    @property
    def package(self) -> str:
        """Debian's, which is the newest of that flavour."""
        return f"linux-image-{self.flavour}"


PORTS = {
    port.arch: port
    for port in (
        Port(arch="x86_64", debian="amd64", flavour="amd64", checksums=("crc32c_intel",)),
        Port(arch="aarch64", debian="arm64", flavour="arm64"),  # its kernel itself has them
        # devices are on a bus that each such kernel has built in
        Port(arch="s390x", debian="s390x", flavour="s390x", without=("virtio_pci", "virtio_mem")),
        Port(
            arch="ppc64le",
            debian="ppc64el",
            flavour="powerpc64le",
            checksums=("crc32c_vpmsum",),
            without=("virtio_mem",),
        ),
    )
}


def port_of(arch: str) -> Port:
    """Unavailable when there is none."""
    if arch not in PORTS:
        raise Unavailable(f"there is no kernel for guests of architecture {arch}: there are {', '.join(PORTS)}")
    return PORTS[arch]
