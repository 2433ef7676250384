"""A running guest's RAM, copied page by page: the file that its VMM has mapped, and what the guest has changed of it.

A clone's RAM is a private mapping of a template's sealed file, with memory of its own where that has holes
(host/memory.c), so most of it can be copied while the guest runs; only the pages that are private to it need the
guest to stand still. A guest that was booted has the whole of its RAM in a file that is its own. Pages that nobody
has touched are never read: reading would give them memory.

Everything is asked of the host's kernel, under /proc. What a VMM that a guest has taken over can do is to lie in its
own pages; what it has of them its cgroup bounds, and what we hold of their list PIECE does.
"""

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hypercontainer.errors import Exhausted, GuestDied, GuestError
from hypercontainer.hypervisor.host.jail import BINARIES
from hypercontainer.lib import files, sparse

HYPER_MEMORY = BINARIES / "hyper-memory.so"
PAGE = os.sysconf("SC_PAGESIZE")
PIECE = 1 << 20  # bytes of a pagemap that are looked at at once: 512 MiB of memory
MAPS_BYTES = 4 << 20  # of a VMM's list of mappings; a usual one has 30 KiB
LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-([sp]) ([0-9a-f]+) \S+ (\d+) +/memfd:.*")
ANONYMOUS = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p 0+ 00:00 0 *")
# Of a page's entry in /proc/PID/pagemap, the uppermost byte: 0x80 is in memory, 0x40 swapped out, 0x20 of the file.
PRIVATE = bytes(bool(byte & 0xC0) and not byte & 0x20 for byte in range(256))


@dataclass(frozen=True)
class Mapping:
    """Addresses `begin` to `end` of a process show its file from `offset` on; changes are its own if `private`."""

    begin: int
    end: int
    offset: int
    private: bool


@dataclass(frozen=True)
class Ram:
    """Where the RAM of the VMM with this pid is."""

    pid: int
    inode: int
    size: int
    mappings: list[Mapping]

    def copy_file(self, target: int) -> None:
        """Of a clone: write the file behind it, which never changes, to the file `target`, holes as holes. Blocks."""
        if self.mappings[0].private:  # else it changes, and `copy_changes` copies it all
            self._copy_file(target)

    def copy_changes(self, target: int) -> None:
        """The guest stands still and `copy_file` was done: write what is missing. Blocks."""
        if not self.mappings[0].private:
            self._copy_file(target)
            return
        with telling("read the guest's memory"):
            memory = os.open(f"/proc/{self.pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
            try:
                for mapping in self.mappings:
                    for begin, end in private_pages(self.pid, mapping):
                        sparse.copy_range(memory, begin, target, mapping.offset + begin - mapping.begin, end - begin)
            finally:
                os.close(memory)

    def _copy_file(self, target: int) -> None:
        with telling("read the guest's memory"):
            source = self._open_file()
            try:
                for begin, end in sparse.data(source, self.size):
                    sparse.copy_range(source, begin, target, begin, end - begin)
            finally:
                os.close(source)

    def is_whole(self) -> bool:
        """Whether its file is of that size: memory of others may be mapped right behind a smaller one."""
        try:
            os.close(self._open_file())
        except GuestError:
            return False
        return True

    def used(self) -> bool:
        """Whether there is anything in its file."""
        with telling("find the guest's memory"):
            fd = self._open_file()
            try:
                return os.fstat(fd).st_blocks > 0
            finally:
                os.close(fd)

    def _open_file(self) -> int:
        """The file, by any descriptor that the VMM has of it."""
        for name in os.listdir(f"/proc/{self.pid}/fd"):
            path = f"/proc/{self.pid}/fd/{name}"
            try:
                if os.stat(path).st_ino != self.inode or not os.readlink(path).startswith("/memfd:"):
                    continue
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:
                continue  # closed meanwhile
            status = os.fstat(fd)
            if status.st_ino == self.inode and stat.S_ISREG(status.st_mode) and status.st_size == self.size:
                return fd
            os.close(fd)
        raise GuestError("cannot read the guest's memory: its VMM has no file of it open")


def find(pid: int, size: int) -> Ram:
    """The RAM of the VMM `pid`, whose size is known to be `size` bytes. GuestError when there is no such mapping.

    Room for memory that may be added can be of that size too: there is nothing in it, or the guest is not copied."""
    with telling("find the guest's memory"), open(f"/proc/{pid}/maps") as f:
        text = f.read(MAPS_BYTES)
    found = [ram for ram in parse(pid, text, size) if ram.is_whole()]
    if len(found) > 1:
        found = [ram for ram in found if ram.used()]
    if len(found) != 1:
        raise GuestError(f"cannot find the guest's memory: its VMM maps {len(found)} files of {size >> 20} MiB")
    return found[0]


def parse(pid: int, maps: str, size: int) -> list[Ram]:
    """All that may be it, of the text of /proc/PID/maps."""
    found: dict[int, list[Mapping]] = {}
    own: list[tuple[int, int]] = []
    for line in maps.splitlines():
        if m := LINE.fullmatch(line):
            begin, end, offset = (int(m[n], 16) for n in (1, 2, 4))
            found.setdefault(int(m[5]), []).append(Mapping(begin, end, offset, private=m[3] == "p"))
        elif m := ANONYMOUS.fullmatch(line):
            own.append((int(m[1], 16), int(m[2], 16)))
    rams = [Ram(pid, inode, size, _with_holes(mappings, own, size)) for inode, mappings in found.items()]
    return [ram for ram in rams if _whole(ram.mappings, size)]


def _with_holes(mappings: list[Mapping], own: list[tuple[int, int]], size: int) -> list[Mapping]:
    """The mappings of a clone's file, and the memory of no file in the places of its holes."""
    bases = {mapping.begin - mapping.offset for mapping in mappings}
    if len(bases) != 1 or not all(mapping.private for mapping in mappings):
        return mappings
    [base] = bases
    clipped = [(max(begin, base), min(end, base + size)) for begin, end in own]
    holes = [Mapping(begin, end, begin - base, private=True) for begin, end in clipped if begin < end]
    return sorted([*mappings, *holes], key=lambda mapping: mapping.offset)


def _whole(mappings: list[Mapping], size: int) -> bool:
    """Each byte of the file is mapped once, in one way."""
    end = 0
    for mapping in sorted(mappings, key=lambda m: m.offset):
        if mapping.offset != end or mapping.private != mappings[0].private:
            return False
        end += mapping.end - mapping.begin
    return end == size


def private_pages(pid: int, mapping: Mapping) -> Iterator[tuple[int, int]]:
    """Runs of addresses whose pages are no longer the file's."""
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as f:
        f.seek(mapping.begin // PAGE * 8)
        begin = mapping.begin
        while begin < mapping.end:
            entries = _read(f.read, min(PIECE, (mapping.end - begin) // PAGE * 8))
            for run in re.finditer(b"\x01+", entries[7::8].translate(PRIVATE)):
                yield begin + run.start() * PAGE, begin + run.end() * PAGE
            begin += len(entries) // 8 * PAGE


def _read(read: Callable[[int], bytes | None], size: int) -> bytes:
    """`size` bytes of a file that gives less at once; ESRCH when they are not there any more."""
    pieces = []
    while size:
        if not (piece := read(size)):
            raise OSError(errno.ESRCH, "it is shorter than it was")
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


@contextmanager
def telling(what: str) -> Iterator[None]:
    """An OSError of the block in our words."""
    try:
        yield
    except OSError as e:
        if e.errno in files.FULL:
            raise Exhausted(f"cannot keep the guest's memory: {e.strerror}") from e
        if e.errno in (errno.ESRCH, errno.ENOENT):
            raise GuestDied(f"cannot {what}: its VMM has ended") from e
        raise GuestError(f"cannot {what}: {e.strerror}") from e
