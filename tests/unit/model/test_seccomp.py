"""The filter: every number on every architecture by an interpreter of BPF, and the kernel's own word for the rest."""

import errno
import json
import struct
import subprocess
import sys

import pytest

from hypercontainer.model import capabilities, seccomp
from hypercontainer.model.arch import ARCHES
from hypercontainer.model.syscalls import numbers

DEFAULT = capabilities.resolve([], [])
ADMIN = capabilities.resolve(["SYS_ADMIN"], [])
AUDIT = {abi: number for one in ARCHES.values() for abi, number in one.abis.items()}
PERM, NOSYS = errno.EPERM, errno.ENOSYS


BIG = {number for one in ARCHES.values() if one.big_endian for number in one.abis.values()}


def run(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """What the kernel would answer: 0 = allowed, else an errno. The program must end, and reads only what there is."""
    order = ">" if arch in BIG else "<"
    data = struct.pack(f"{order}IIQ6Q", number, arch, 0, *arguments, *[0] * (6 - len(arguments)))
    code = list(struct.iter_unpack(f"{order}HBBI", program))
    at = accumulator = 0
    while True:
        op, jt, jf, k = code[at]
        at += 1
        match op:
            case seccomp.LOAD:
                [accumulator] = struct.unpack_from(f"{order}I", data, k)
            case seccomp.JUMP:
                at += k
            case seccomp.JUMP_EQUAL:
                at += jt if accumulator == k else jf
            case seccomp.JUMP_GREATER_EQUAL:
                at += jt if accumulator >= k else jf
            case seccomp.JUMP_ANY_BIT:
                at += jt if accumulator & k else jf
            case seccomp.RETURN:
                return 0 if k == seccomp.ALLOW else k & 0xFFFF


@pytest.mark.parametrize(("arch", "abi"), [(one.name, abi) for one in ARCHES.values() for abi in one.abis])
@pytest.mark.parametrize("granted", [DEFAULT, [], list(capabilities.ALL)])
def test_every_number_fares_as_the_lists_say(arch: str, abi: str, granted: list[str]) -> None:
    program = seccomp.compile(granted, arch)
    allowed = set(seccomp.ALLOWED.split())
    for capability in granted:
        allowed |= set(seccomp.GRANTED.get(capability, "").split())
    by_number = {number: name for name, number in numbers(abi).items()}
    for number in range(max(by_number) + 1):
        name = by_number.get(number, "")
        if name in ("clone", "personality", "socket"):
            continue
        expected = 0 if name in allowed else NOSYS if name == "clone3" else PERM
        assert run(program, AUDIT[abi], number) == expected, name
    for number in (max(by_number) + 1, 1000, seccomp.X32 - 1):
        assert run(program, AUDIT[abi], number) == NOSYS


@pytest.mark.parametrize("number", [0x40000000, 0x40000001, 0x40000208, 0xFFFFFFFF])
def test_x32_is_refused(number: int) -> None:
    assert run(seccomp.compile(DEFAULT, "x86_64"), AUDIT["x86_64"], number) == PERM


@pytest.mark.parametrize("arch", [0, 0xC00000B7, 0x40000028, 0xFFFFFFFF])
def test_other_architectures_are_refused(arch: int) -> None:
    assert run(seccomp.compile(DEFAULT, "x86_64"), arch, 0) == PERM


@pytest.mark.parametrize(("arch", "abi"), [(one.name, abi) for one in ARCHES.values() for abi in one.abis])
def test_arguments(arch: str, abi: str) -> None:
    program = seccomp.compile(DEFAULT, arch)

    def call(name: str, argument: int) -> int:
        before = [0] * ARCHES[arch].clone_flags if name == "clone" else []
        return run(program, AUDIT[abi], numbers(abi)[name], *before, argument)

    assert call("clone", 0x1200011) == 0  # fork
    assert call("clone", 0x3D0F00) == 0  # a thread
    for bit in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert call("clone", bit | 17) == PERM
    assert [call("socket", family) for family in (1, 2, 10, 16, 17, 38, 40)] == [0, 0, 0, 0, 0, 0, PERM]
    assert call("socket", 1 << 32 | 40) == PERM  # the kernel takes an int
    assert [call("personality", p) for p in seccomp.PERSONALITIES] == [0] * 5
    assert [call("personality", p) for p in (1, 0x40000, 0x400000, 0xFFFFFFFE)] == [PERM] * 4


@pytest.mark.parametrize("arch", list(ARCHES))
def test_it_stays_small(arch: str) -> None:
    for granted in (DEFAULT, list(capabilities.ALL), []):
        assert len(seccomp.compile(granted, arch)) // 8 < 600


def test_capabilities_in_any_order_are_one_filter() -> None:
    assert seccomp.compile(DEFAULT, "x86_64") is seccomp.compile(list(reversed(DEFAULT)), "x86_64")


LOAD_AND_TRY = """
import ctypes, json, mmap, sys
program, calls = bytes.fromhex(sys.argv[1]), json.loads(sys.argv[2])
libc = ctypes.CDLL(None, use_errno=True)
# int 0x80: how a 32-bit program calls. mov eax, edi; push rbx; mov ebx, esi; int 0x80; pop rbx; ret
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex("89f8" "53" "89f3" "cd80" "5b" "c3"))
old = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_uint)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))
def call(abi, number, argument):
    if abi == "i386":
        return max(0, -old(number, argument))
    ctypes.set_errno(0)
    libc.syscall(ctypes.c_long(number), ctypes.c_ulong(argument), 0, 0, 0, 0)
    return ctypes.get_errno()
if program:
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # no_new_privs
    filter = Program(len(program) // 8, program)
    assert libc.prctl(22, 2, ctypes.byref(filter), 0, 0) == 0, ctypes.get_errno()
print(json.dumps([call(*c) for c in calls]))
"""


def attempt(program: bytes, calls: list[tuple[str, int, int]]) -> list[int]:
    """The errnos that a real kernel gives a process under the filter."""
    argv = [sys.executable, "-c", LOAD_AND_TRY, program.hex(), json.dumps(calls)]
    result = subprocess.run(argv, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    answers: list[int] = json.loads(result.stdout)
    return answers


X86 = numbers("x86_64")
CALLS = {
    ("getpid", 0): 0,
    ("clone3", 0): NOSYS,
    ("unshare", 0x40000000): PERM,
    ("clone", 0x10000011): PERM,
    ("io_uring_setup", 1): PERM,
    ("keyctl", 0): PERM,
    ("personality", 0xFFFFFFFF): 0,
    ("personality", 0x400000): PERM,
    ("socket", 40): PERM,
    ("mount", 0): PERM,
    ("reboot", 0): PERM,
    ("bpf", 0): PERM,
}


@pytest.mark.skipif(sys.platform != "linux" or struct.calcsize("P") != 8, reason="x86_64 Linux")
def test_the_kernel_agrees() -> None:
    calls = [("x86_64", X86[name], argument) for name, argument in CALLS]
    calls += [("x86_64", 1000, 0), ("x86_64", 0x40000000 | 39, 0)]
    assert attempt(seccomp.compile(DEFAULT, "x86_64"), calls) == [*CALLS.values(), NOSYS, PERM]
    # With the capability, the calls come: they fail for reasons of their own.
    [mount, unshare] = attempt(seccomp.compile(ADMIN, "x86_64"), [("x86_64", X86[n], 0) for n in ("mount", "unshare")])
    assert (mount, unshare) == (errno.EFAULT, 0)


def test_the_kernel_agrees_on_32_bit_programs() -> None:
    old = numbers("i386")
    try:
        attempt(b"", [("i386", old["getpid"], 0)])
    except AssertionError:
        pytest.skip("this kernel runs no 32-bit programs")
    calls = [(old["getpid"], 0), (old["reboot"], 0), (old["personality"], 0x400000), (old["socket"], 40), (1000, 0)]
    answers = attempt(seccomp.compile(DEFAULT, "x86_64"), [("i386", *call) for call in calls])
    assert answers == [0, PERM, PERM, PERM, NOSYS]


def test_a_whole_program_runs_under_it() -> None:
    program = LOAD_AND_TRY.replace("print(", "0 and print(") + (
        "import os, socket, subprocess, threading\n"
        "t = threading.Thread(target=os.getpid); t.start(); t.join()\n"
        "socket.create_server(('127.0.0.1', 0)).close()\n"
        "print(subprocess.check_output(['sh', '-c', 'ls / >/dev/null; (echo fine) | cat'], text=True))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, seccomp.compile(DEFAULT, "x86_64").hex(), "[]"], capture_output=True, text=True
    )
    assert (result.stdout.strip(), result.returncode) == ("fine", 0), result.stderr
