"""Rules of system calls -> the filter that a kernel runs, by libseccomp (seccomp_rule_add(3)) of this host."""

import ctypes
import errno
import os
import tempfile
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from hypercontainer.errors import InvalidInput, Unavailable

ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
WITH_NUMBER = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")  # an errno, or what a tracer is told
COMPARISONS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
NSYSCALL_NONE = -1  # __NR_SCMP_ERROR: this kernel's library knows no call of that name
MAX_FILTER = 4096 * 8  # BPF_MAXINSNS of struct sock_filter


class Comparison(NamedTuple):
    """Of an argument: `argument` 0 to 5. For SCMP_CMP_MASKED_EQ `value` is the mask, `value_two` what is compared."""

    argument: int
    operator: str
    value: int
    value_two: int = 0


class Rule(NamedTuple):
    """What is done at one of the calls `names`, if all `comparisons` hold. `number`: see WITH_NUMBER; None is EPERM."""

    names: Sequence[str]
    action: str
    number: int | None = None
    comparisons: Sequence[Comparison] = ()


class _Argument(ctypes.Structure):
    """struct scmp_arg_cmp"""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError as e:
        raise Unavailable("cannot make a seccomp filter: libseccomp.so.2 is not here; install libseccomp2") from e
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_arch_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    library.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(_Argument),
    ]
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    return library


def compile(default: str, number: int | None, arches: Sequence[str], rules: Sequence[Rule]) -> bytes:
    """An array of struct sock_filter. `arches` beside this host's are by libseccomp's names, as "x86", lower case.

    A call that the library does not know cannot be made by its name, so rules of it are left out, as runc has it.
    InvalidInput for actions, comparisons and architectures that there are not; Unavailable without libseccomp."""
    library = _library()
    if not (context := library.seccomp_init(_action(default, number))):
        raise InvalidInput(f"cannot make a seccomp filter: the default action {default} is refused")
    try:
        for arch in arches:
            _check(library.seccomp_arch_add(context, _arch(library, arch)), f"add architecture {arch}", errno.EEXIST)
        for rule in rules:
            _add(library, context, rule, default, number)
        with tempfile.TemporaryFile() as file:
            _check(library.seccomp_export_bpf(context, file.fileno()), "write it")
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            return file.read(MAX_FILTER)
    finally:
        library.seccomp_release(context)


def _add(library: ctypes.CDLL, context: int, rule: Rule, default: str, number: int | None) -> None:
    action = _action(rule.action, rule.number)
    if action == _action(default, number):
        return  # which the library refuses to be told
    arguments = (_Argument * len(rule.comparisons))(*(_argument(each) for each in rule.comparisons))
    for name in rule.names:
        call = library.seccomp_syscall_resolve_name(name.encode())
        if call != NSYSCALL_NONE:
            added = library.seccomp_rule_add_array(context, action, call, len(arguments), arguments)
            _check(added, f"have {rule.action} for {name}")


def _argument(comparison: Comparison) -> _Argument:
    if comparison.operator not in COMPARISONS:
        raise InvalidInput(f"cannot make a seccomp filter: there is no comparison {comparison.operator[:40]!r}")
    if not 0 <= comparison.argument <= 5:
        raise InvalidInput(f"cannot make a seccomp filter: a call has no argument {comparison.argument}")
    operator = COMPARISONS[comparison.operator]
    return _Argument(comparison.argument, operator, comparison.value, comparison.value_two)


def _action(name: str, number: int | None) -> int:
    if name not in ACTIONS:
        raise InvalidInput(f"cannot make a seccomp filter: there is no action {name[:40]!r} here")
    data = errno.EPERM if number is None else number
    return ACTIONS[name] | (data & 0xFFFF if name in WITH_NUMBER else 0)


def _arch(library: ctypes.CDLL, name: str) -> int:
    if not (found := int(library.seccomp_arch_resolve_name(name.encode()))):
        raise InvalidInput(f"cannot make a seccomp filter: there is no architecture {name[:40]!r}")
    return found


def _check(result: int, doing: str, *fine: int) -> None:
    if result and -result not in fine:
        raise InvalidInput(f"cannot make a seccomp filter: {doing}: {os.strerror(-result)}")
