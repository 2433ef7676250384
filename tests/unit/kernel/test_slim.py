"""Modules without tracing: on an object file that a compiler made as it makes a module's."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.kernel.slim import HIDDEN, NOP5, SHF_ALLOC, _name, _sections, slim
from tests import zig

SOURCE = r"""
static int counter __attribute__((used, section("__mcount_loc"))) = 1;
static int event __attribute__((used, section("_ftrace_events"))) = 2;
static int kept __attribute__((used, section("__ksymtab_strings"))) = 3;
int helper(int x);
int first(int x) { return helper(x) + 1; }
int second(int x) { return helper(first(x)) * 2; }
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("module")
    (folder / "m.c").write_text(SOURCE)
    zig.cc("-c", "-O1", "-pg", "-mfentry", "-fno-sanitize=all", folder / "m.c", "-o", folder / "m.o", arch="x86_64")
    return (folder / "m.o").read_bytes()


def sections(data: bytes) -> dict[bytes, int]:
    """Names and flags."""
    return {_name(bytearray(data), section.name): section.flags for section in _sections(bytearray(data))}


def test_what_only_tracers_use_is_hidden_from_the_loader(module: bytes) -> None:
    before, after = sections(module), sections(slim(module))
    assert {b"__mcount_loc", b"_ftrace_events"} <= set(before)
    assert not set(HIDDEN) & set(after)
    assert after[b"~_mcount_loc"] & SHF_ALLOC == 0
    assert after[b"__ksymtab_strings"] == before[b"__ksymtab_strings"]


def test_calls_of_the_tracer_become_no_ops_and_other_calls_stay(module: bytes) -> None:
    slimmed = slim(module)
    assert len(slimmed) == len(module)
    assert slimmed.count(NOP5) == module.count(NOP5) + 2  # two functions
    assert slimmed.count(b"\xe8\0\0\0\0") == module.count(b"\xe8\0\0\0\0") - 2


def test_again_changes_nothing(module: bytes) -> None:
    assert slim(slim(module)) == slim(module)


def test_of_arms_modules_sections_alone_are_hidden(module: bytes) -> None:
    data = bytearray(module)
    struct.pack_into("<H", data, 18, 183)
    slimmed = slim(bytes(data))
    assert not set(HIDDEN) & set(sections(slimmed))
    assert slimmed.count(NOP5) == module.count(NOP5)  # those are x86's instructions


@pytest.mark.parametrize("machine", [21, 22])  # ppc64, s390
def test_a_module_of_another_machine_is_left_alone(module: bytes, machine: int) -> None:
    data = bytearray(module)
    struct.pack_into("<H", data, 18, machine)
    assert slim(bytes(data)) == bytes(data)


@given(st.data())
def test_damage_never_raises(module: bytes, data: st.DataObject) -> None:
    damaged = bytearray(module)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    assert len(slim(cut)) == len(cut)


def test_a_place_beyond_all_files_is_no_place(module: bytes) -> None:
    damaged = module[:40] + b"\xff" * 8 + module[48:]
    assert slim(damaged) == damaged
