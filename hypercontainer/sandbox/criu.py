"""CRIU of this host, in a folder that guests are lent: with all that it runs and loads, for they have no programs."""

import asyncio
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hypercontainer.agent.messages import printable
from hypercontainer.errors import InvalidInput, NotFound
from hypercontainer.lib import files, proc

PROGRAMS = ("criu", "tar", "gzip", "sh")  # the last three are what CRIU keeps a tmpfs by
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What the guest's kernel tells CRIU of sockets by, where it has not that built in.
MODULES = ("nfnetlink", "nf_tables", "unix_diag", "tcp_diag", "udp_diag", "raw_diag", "netlink_diag", "af_packet_diag")
LIST_S = 20.0
DUMP_LOG, RESTORE_LOG = "dump.log", "restore.log"  # where CRIU's log is written
LOG_BYTES, COMPLAINTS = 1 << 20, 3  # of its end, in which the reason is looked for; that are told


class Saved(NamedTuple):
    """Where what was saved is, or is to be, and where CRIU writes its log: mount trees without a place
    (lib.mount.clone), which are the caller's to close. `flags` are CRIU's own."""

    images: int
    work: int
    flags: Sequence[str]


async def prepare(folder: Path, modules: Path) -> None:
    """Have all of it in `folder`, and the kernel's `modules` that it needs. What is there already, and is the same as
    on this host, stays. NotFound where CRIU is not installed."""
    programs = {name: _program(name) for name in PROGRAMS}
    wanted = dict(programs)
    for path in programs.values():
        for library in await _libraries(path):
            wanted[library.name] = library
    names = []
    for name in MODULES:
        for module in _modules(modules, name):
            wanted[module.name] = module
            names.append(module.name)
    order = "".join(f"{name}\n" for name in dict.fromkeys(names))
    with files.telling(f"make {folder}"):
        await asyncio.to_thread(_copy, folder, wanted, order)


def why(work: int, log: str) -> str:
    """The last things that CRIU complained of in its log, for one leads to the next; "" where there is none. The guest
    writes in that folder: what is there may be anything."""
    try:
        fd = os.open(log, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=work)
    except OSError:
        return ""
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return ""
        text = os.pread(fd, LOG_BYTES, max(0, status.st_size - LOG_BYTES)).decode(errors="replace")
    finally:
        os.close(fd)
    found = [line.partition("Error ")[2] for line in text.splitlines() if "Error" in line and "FAILED" not in line]
    return "; ".join(printable(line) for line in found[-COMPLAINTS:])


def _program(name: str) -> Path:
    if found := shutil.which(name, path=PATH):
        return Path(found).resolve()
    raise NotFound("program", name, f"install it on this host: Debian's package {name}")


async def _libraries(program: Path) -> list[Path]:
    """What its loader loads for it, and the loader itself."""
    listed = await proc.run(["ldd", program], timeout_s=LIST_S)
    words = [line.split() for line in listed.stdout.decode().splitlines()]
    return [Path(word) for line in words for word in line if word.startswith("/")]


def _modules(tree: Path, name: str) -> list[Path]:
    """A kernel without a module of that name may have it built in; if not, CRIU says what it lacks."""
    from hypercontainer.kernel.modules import ModuleTree  # here, for who checkpoints nothing

    try:
        return [module.path for module in ModuleTree(tree).pick([name])]
    except InvalidInput:
        return []


def _copy(folder: Path, wanted: dict[str, Path], order: str) -> None:
    folder.mkdir(mode=0o755, exist_ok=True)
    for name, source in wanted.items():
        if not _same(folder / name, source):
            partial = folder / f".{name}"
            shutil.copy2(source, partial)
            partial.chmod(0o755)
            partial.rename(folder / name)
    files.replace(folder / "modules.order", order.encode())


def _same(copy: Path, source: Path) -> bool:
    try:
        found, like = copy.stat(), source.stat()
    except FileNotFoundError:
        return False
    return (found.st_size, found.st_mtime_ns) == (like.st_size, like.st_mtime_ns)
