"""A process's mappings of memory files, found and copied: of this process, which plays the VMM."""

import ctypes
import itertools
import mmap
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.errors import GuestDied, GuestError
from hypercontainer.hypervisor.host import memory
from hypercontainer.hypervisor.host.memory import PAGE, Mapping, parse
from hypercontainer.lib import sparse

PAGES = 64
SIZE = PAGES * PAGE
BEGIN = 0x7F0000000000


@pytest.fixture
def file() -> Iterator[int]:
    fd = os.memfd_create("guest")
    os.truncate(fd, SIZE)
    yield fd
    os.close(fd)


@pytest.fixture
def target() -> Iterator[int]:
    fd = os.memfd_create("copy")
    os.truncate(fd, SIZE)
    yield fd
    os.close(fd)


def put(fd: int, page: int, text: bytes) -> None:
    os.pwrite(fd, text, page * PAGE)


def page(fd: int, number: int) -> bytes:
    return os.pread(fd, PAGE, number * PAGE).rstrip(b"\0")


def test_a_clones_memory_is_its_file_and_what_it_changed(file: int, target: int) -> None:
    put(file, 1, b"template")
    put(file, 2, b"template")
    with mmap.mmap(file, SIZE, flags=mmap.MAP_PRIVATE) as ram:
        ram[2 * PAGE] = ord("T")
        ram[9 * PAGE : 9 * PAGE + 3] = b"own"
        ram[PAGES * PAGE - 1] = 1
        taken = os.fstat(file).st_blocks
        found = memory.find(os.getpid(), SIZE)
        found.copy_file(target)
        assert page(target, 2) == b"template"
        found.copy_changes(target)
    assert [page(target, n) for n in (0, 1, 2, 9)] == [b"", b"template", b"Template", b"own"]
    assert os.pread(target, 1, SIZE - 1) == b"\x01"
    assert [begin // PAGE for begin, _ in sparse.data(target, SIZE)] == [1, 9, PAGES - 1]
    assert os.fstat(file).st_blocks == taken  # looking at it gave it no memory


def test_memory_that_is_shared_is_its_file(file: int, target: int) -> None:
    with mmap.mmap(file, SIZE) as ram:
        ram[3 * PAGE : 3 * PAGE + 3] = b"now"
        found = memory.find(os.getpid(), SIZE)
        found.copy_file(target)
        assert page(target, 3) == b""  # it changes still
        found.copy_changes(target)
    assert page(target, 3) == b"now"


def test_what_the_host_swaps_or_drops_is_not_lost(file: int, target: int) -> None:
    with mmap.mmap(file, SIZE, flags=mmap.MAP_PRIVATE) as ram:
        ram[5 * PAGE : 5 * PAGE + 3] = b"own"
        address = ctypes.addressof(ctypes.c_char.from_buffer(ram))
        ctypes.CDLL(None).madvise(ctypes.c_void_p(address), ctypes.c_size_t(SIZE), 21)  # MADV_PAGEOUT
        memory.find(os.getpid(), SIZE).copy_changes(target)
    assert page(target, 5) == b"own"


def test_another_size_is_not_found(file: int) -> None:
    with (
        mmap.mmap(file, SIZE, flags=mmap.MAP_PRIVATE),
        pytest.raises(GuestError, match="cannot find the guest's memory"),
    ):
        memory.find(os.getpid(), SIZE + PAGE)


def test_room_of_the_same_size_is_not_taken_for_it(file: int, target: int) -> None:
    put(file, 1, b"template")
    rooms = [os.memfd_create("room") for _ in range(2)]  # mapped before it and after it: above and below
    for room in rooms:
        os.truncate(room, SIZE)
    with (
        mmap.mmap(rooms[0], SIZE),
        mmap.mmap(file, SIZE, flags=mmap.MAP_PRIVATE) as ram,
        mmap.mmap(rooms[1], SIZE),
    ):
        ram[0] = 1
        found = memory.find(os.getpid(), SIZE)
        found.copy_file(target)
        assert page(target, 1) == b"template"
        put(rooms[0], 1, b"other")
        with pytest.raises(GuestError, match="maps 2 files"):
            memory.find(os.getpid(), SIZE)
    for room in rooms:
        os.close(room)


def test_a_list_of_pages_is_read_in_pieces(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "PIECE", 24)  # three pages
    with mmap.mmap(file, SIZE, flags=mmap.MAP_PRIVATE) as ram:
        for number in (1, 2, 3, 63):
            ram[number * PAGE] = 1
        begin = ctypes.addressof(ctypes.c_char.from_buffer(ram))
        mapping = Mapping(begin, begin + SIZE, 0, private=True)
        runs = [((a - begin) // PAGE, (b - begin) // PAGE) for a, b in memory.private_pages(os.getpid(), mapping)]
    assert runs == [(1, 3), (3, 4), (63, 64)]
    with pytest.raises(ProcessLookupError):
        memory._read(lambda size: b"", 8)


def test_a_vmm_that_has_gone_is_told() -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(GuestDied):
        memory.find(child, SIZE)


def line(begin: int, end: int, offset: int, *, kind: str = "p", inode: int = 7) -> str:
    return f"{begin:x}-{end:x} rw-{kind} {offset:08x} 00:01 {inode}    /memfd:template memory (deleted)"


cuts = st.sets(st.integers(1, PAGES - 1), max_size=8)


@given(cuts, st.randoms(use_true_random=False))
def test_it_may_be_mapped_in_pieces(cuts: set[int], random: object) -> None:
    edges = [0, *sorted(cuts), PAGES]
    pieces = [line(BEGIN + 2 * a * PAGE, BEGIN + (a + b) * PAGE, a * PAGE) for a, b in itertools.pairwise(edges)]
    random.shuffle(pieces)  # type: ignore[attr-defined]
    (found,) = parse(1, "\n".join(pieces), SIZE)
    assert sum(m.end - m.begin for m in found.mappings) == SIZE
    if len(pieces) > 1:
        assert parse(1, "\n".join(pieces[1:]), SIZE) == []
        assert parse(1, "\n".join([*pieces, pieces[0]]), SIZE) == []
        assert parse(1, "\n".join([pieces[0].replace("rw-p", "rw-s"), *pieces[1:]]), SIZE) == []


@given(st.text(max_size=400) | st.lists(st.from_regex(memory.LINE, fullmatch=True), max_size=5).map("\n".join))
def test_whatever_stands_there_it_is_all_of_the_memory_or_nothing(text: str) -> None:
    for found in parse(1, text, SIZE):
        assert sum(m.end - m.begin for m in found.mappings) == SIZE


def test_private_pages_of_a_mapping_end_with_it(file: int) -> None:
    with mmap.mmap(file, SIZE, flags=mmap.MAP_PRIVATE) as ram:
        ram[0] = ram[SIZE - 1] = 1
        begin = ctypes.addressof(ctypes.c_char.from_buffer(ram))
        mapping = Mapping(begin, begin + SIZE, 0, private=True)
        assert list(memory.private_pages(os.getpid(), mapping)) == [
            (begin, begin + PAGE),
            (begin + SIZE - PAGE, begin + SIZE),
        ]
