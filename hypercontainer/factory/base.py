"""What a factory is: it gives a running guest for a configuration, one way or another. See docs/howto/templates.md."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

from hypercontainer.hypervisor.base import SLOTS, SNAPSHOT_MAC, Hypervisor, Nic, VmConfig
from hypercontainer.lib.trace import Trace
from hypercontainer.model.record import DiskRecord
from hypercontainer.vm import Vm

# What is behind SLOTS in a guest that is nobody's yet.
EMPTY = [DiskRecord(target=target, path="", read_only=not target) for target in SLOTS]


class Roots(NamedTuple):
    """What containers have below `/` that guests rehearse with: the program, on disks and in a folder."""

    disks: Sequence[DiskRecord]  # at SLOTS, an image and a scratch
    folder: Path


# Make an empty scratch disk of the usual size for who waits under that name, and say where it is.
NewScratch = Callable[[str], Awaitable[Path]]

RehearsalRoots = Callable[[str, Path], Awaitable[Roots]]  # for an architecture, in a folder that is thrown away


class Share(Protocol):
    """The folder that a guest which waits serves, with nothing in it but what it rehearses with: storage/share.py."""

    @property
    def root(self) -> Path:
        """What is served."""

    def prepare(self) -> object:
        """Make it. Again = no change."""

    def add(self, name: str, source: Path, read_only: bool) -> None:
        """Show a folder."""

    def remove(self, name: str) -> None:
        """Show it no more."""

    def become(self, root: Path) -> None:
        """Be the one with that root, of which nothing is there yet. Nothing is here from then on."""

    def clear(self) -> None:
        """Take it away. Safe any number of times."""


@dataclass(frozen=True, kw_only=True)
class PoolSpec:
    """A pool that is wanted: `cache` guests of the shape of `config` shall wait, made from a template or booted. Its
    `share` says what is promised to those that have one; where it is nobody knows before."""

    config: VmConfig
    template: bool
    cache: int


@dataclass(frozen=True, kw_only=True)
class TemplateInfo:
    """A template that waits for guests of its shape."""

    kernel: Path
    arch: str
    vcpus: int
    memory_mib: int
    network: bool
    tenant: str
    accelerator: str
    created_ns: int
    size: int  # bytes of memory that it takes
    clones: int  # guests that came from it


@dataclass(frozen=True, kw_only=True)
class PoolInfo:
    """What became of a pool that is wanted."""

    arch: str
    vcpus: int
    memory_mib: int
    share: bool  # they are for pods with folders
    network: bool  # with an interface
    tenant: str
    wanted: int
    waiting: int  # guests that run and are nobody's
    taken: int  # guests that became somebody's
    poisoned: int  # guests that died, or did not answer, and were thrown away
    reason: str  # why fewer wait than are wanted; "" if all do


class Factory(Protocol):
    """Guests that were asked for in the same words are the same, whichever factory they come from."""

    async def boot(self, config: VmConfig, run_dir: Path, trace: Trace) -> Vm:
        """A guest whose agent answers, in which nothing runs: as `vm.boot`, with the same errors. Nothing is left of
        one that failed. Its user may be another than the one asked for: its record tells."""

    async def init(self, specs: Sequence[PoolSpec]) -> None:
        """Have these pools, and no others. Returns when what can be made for them has been; the reasons for what cannot
        are in the log. Pools are filled again in the background until `close`."""

    def templates(self) -> Sequence[TemplateInfo]:
        """The templates, that used last at the end."""

    def pools(self) -> Sequence[PoolInfo]:
        """The pools of `init`, in their order."""

    def troubles(self) -> Sequence[str]:
        """What failed when it was last tried, and why, each in a line. It is tried again."""

    async def clear(self) -> None:
        """Let go of all templates and of what waits, and of the pools. Guests that are somebody's stay; a later guest
        has its template made anew."""

    async def close(self) -> None:
        """Let go of all of it, and of what is being made. Again is harmless."""


def size(vcpus: int, memory_mib: int) -> str:
    """In words, for a person."""
    return f"VM of {vcpus} CPU{'s' if vcpus > 1 else ''} and {memory_mib} MiB"


class Shape(NamedTuple):
    """Guests of the same may come from one template, and wait for one another's pods: alike, and of one tenant."""

    tenant: str
    machine: str


def shape(hypervisor: Hypervisor, config: VmConfig) -> Shape:
    """Of the guest that `config` could come from."""
    return Shape(config.tenant, hypervisor.shape(anonymous_config(config)))


def anonymous_config(config: VmConfig) -> VmConfig:
    """The guest that `config`, and each other of its shape, could come from: without what is theirs alone."""
    nics = [Nic(number=nic.number, tap="", mac=SNAPSHOT_MAC) for nic in config.nics]
    return replace(
        config, name="nobody", uid=0, disks=EMPTY, new_scratch=False, nics=nics, share=None, background=False
    )
