"""Kernel modules without what only tracing and debugging would use: done once here, not at each boot of each guest.

A module as a distribution ships it keeps the loader busy with things that no guest of ours ever asks for. Emulated,
ext4 alone takes 121 ms to load and 20 ms after this (all of ours: 219 and 65; in millions of guest instructions, the
only thing that can be counted without noise). What is left runs exactly as before.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

MACHINES = MACHINE_X86_64, MACHINE_AARCH64 = 62, 183
RELOCATABLE = 1
SHT_RELA = 4
SHF_ALLOC = 2
R_X86_64_NONE, R_X86_64_PC32, R_X86_64_PLT32 = 0, 2, 4
CALL, NOP5 = 0xE8, bytes.fromhex("0f1f440000")
TRACE_HOOK = b"__fentry__"

SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
RELA = struct.Struct("<QQq")

# The loader looks for these by name, and leaves what it does not find.
HIDDEN = (
    b"__mcount_loc",  # where functions call the function tracer: it would patch each call out, as we do below
    b"_ftrace_events",  # trace events: several files in tracefs for each
    b"_ftrace_eval_map",  # and the names of their constants
    b".orc_unwind_ip",  # sorted for exact stack traces; without it the kernel guesses, and marks that with "?"
    b".BTF",  # types for BPF programs
    b"__patchable_function_entries",  # what __mcount_loc is on ARM: the calls are no-ops there until somebody traces
)


class _Section(NamedTuple):
    at: int  # of its header
    name: int  # place of its name in the file
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int


def slim(module: bytes) -> bytes:
    """Return `module` without those sections and calls; one that is not as we know modules is returned as it is."""
    data = bytearray(module)
    try:
        sections = list(_sections(data))
        if _machine(data) == MACHINE_X86_64:
            _remove_trace_calls(data, sections)
        for section in sections:
            if _name(data, section.name) in HIDDEN:
                _hide(data, section)
    except (struct.error, IndexError, ValueError, OverflowError):
        return module
    return bytes(data)


def _sections(data: bytearray) -> Iterator[_Section]:
    """The section headers of an object file for x86-64 or ARM's 64 bits; ValueError if it is none."""
    (kind,) = struct.unpack_from("<H", data, 16)
    if data[:6] != b"\x7fELF\x02\x01" or kind != RELOCATABLE or _machine(data) not in MACHINES:
        raise ValueError("not a module that we know")
    (table,) = struct.unpack_from("<Q", data, 40)
    count, names = struct.unpack_from("<HH", data, 60)
    strings = SECTION.unpack_from(data, table + names * SECTION.size)[4]
    for n in range(count):
        at = table + n * SECTION.size
        name, kind, flags, _, offset, size, link, info, _, _ = SECTION.unpack_from(data, at)
        yield _Section(at, strings + name, kind, flags, offset, size, link, info)


def _machine(data: bytearray) -> int:
    (machine,) = struct.unpack_from("<H", data, 18)
    return int(machine)


def _name(data: bytearray, at: int) -> bytes:
    return bytes(data[at : data.index(0, at)])


def _hide(data: bytearray, section: _Section) -> None:
    """Under another name, and without the flag that gives it memory and relocations."""
    data[section.name] = ord("~")
    struct.pack_into("<Q", data, section.at + 8, section.flags & ~SHF_ALLOC)


def _remove_trace_calls(data: bytearray, sections: list[_Section]) -> None:
    """Make each function's call of the tracer the no-op that the kernel itself would make of it."""
    for relocations in sections:
        if relocations.kind != SHT_RELA:
            continue
        symbols, code = sections[relocations.link], sections[relocations.info]
        strings = sections[symbols.link]
        hook = _hook(data, symbols, strings)
        if hook is None:
            continue
        for at in range(relocations.offset, relocations.offset + relocations.size, RELA.size):
            place, info, _ = RELA.unpack_from(data, at)
            call = code.offset + place - 1
            if info >> 32 == hook and info & 0xFFFFFFFF in (R_X86_64_PC32, R_X86_64_PLT32) and data[call] == CALL:
                data[call : call + len(NOP5)] = NOP5
                RELA.pack_into(data, at, place, R_X86_64_NONE, 0)


def _hook(data: bytearray, symbols: _Section, strings: _Section) -> int | None:
    """The tracer's number in a symbol table."""
    for number, at in enumerate(range(symbols.offset, symbols.offset + symbols.size, SYMBOL.size)):
        (name,) = struct.unpack_from("<I", data, at)
        if name and _name(data, strings.offset + name) == TRACE_HOOK:
            return number
    return None
