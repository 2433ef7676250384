"""The processor architectures of guests, each under the name that its kernel has for itself (`uname -m`)."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from hypercontainer.errors import InvalidInput, Unavailable


@dataclass(frozen=True, kw_only=True)
class Arch:
    """What the rest of us must know of an architecture. `name` is also the folder of its hyperstart."""

    name: str
    docker: str  # an image index's words: architecture …
    variant: str  # … and variant
    older: tuple[str, ...] = ()  # what an image index calls those whose programs its kernel runs too
    abis: Mapping[str, int]  # whose programs its kernel runs: name in model/syscalls.py, number in the kernel's audit
    page_bytes: int  # of the kernels that we boot
    big_endian: bool = False
    large_file: int  # O_LARGEFILE, which each open of a 64-bit program has
    clone_flags: int = 0  # which argument of `clone` they are


ARCHES = {
    arch.name: arch
    for arch in (
        Arch(
            name="x86_64",
            docker="amd64",
            variant="",
            older=("386",),
            abis={"x86_64": 0xC000003E, "i386": 0x40000003},
            page_bytes=4096,
            large_file=0o100000,
        ),
        Arch(
            name="aarch64",
            docker="arm64",
            variant="v8",
            abis={"aarch64": 0xC00000B7},
            page_bytes=4096,
            large_file=0o400000,
        ),
        Arch(
            name="s390x",
            docker="s390x",
            variant="",
            abis={"s390x": 0x80000016},
            page_bytes=4096,
            large_file=0o100000,
            big_endian=True,
            clone_flags=1,  # the stack is the first one
        ),
        Arch(
            name="ppc64le",
            docker="ppc64le",
            variant="",
            abis={"ppc64le": 0xC0000015},
            page_bytes=65536,
            large_file=0o200000,
        ),
    )
}

# Those that QEMU has a machine for and that nobody boots here, by docker's word, and why.
ABSENT = {"riscv64": "Debian 12 has no kernel package of it"}


def named(word: str) -> Arch:
    """By its own name or docker's. InvalidInput for what is neither."""
    for arch in ARCHES.values():
        if word in (arch.name, arch.docker):
            return arch
    there = ", ".join(arch.docker for arch in ARCHES.values())
    if word in ABSENT:
        raise InvalidInput(f"there are no virtual machines of {word}, for {ABSENT[word]}: use {there}")
    raise InvalidInput(f"unknown architecture {word[:40]!r}: use {there}")


def of_image(architecture: str) -> Arch:
    """Whose guests run an image that says so of itself; one that says nothing, this host's. InvalidInput if none do."""
    if not architecture:
        return host()
    for arch in ARCHES.values():
        if architecture in (arch.docker, arch.name, *arch.older):
            return arch
    there = ", ".join(arch.docker for arch in ARCHES.values())
    why = f"{ABSENT[architecture]}, and " if architecture in ABSENT else ""
    raise InvalidInput(f"cannot run an image for {architecture[:40]}: {why}there are virtual machines of {there}")


def host_name() -> str:
    """Of this machine's architecture, if we know it or not."""
    return os.uname().machine


def host() -> Arch:
    """The architecture of this machine, and so of guests that nobody wants another one for. Unavailable when the table
    has none of its name."""
    name = host_name()
    if name not in ARCHES:
        raise Unavailable(f"cannot run guests on a machine of architecture {name}: there are {', '.join(ARCHES)}")
    return ARCHES[name]
