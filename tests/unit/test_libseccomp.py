"""Filters, run for real: in a process of their own that says what became of its calls."""

import ctypes
import errno
import os
import struct

import pytest

from hypercontainer.errors import InvalidInput
from hypercontainer.lib import libseccomp
from hypercontainer.lib.libseccomp import Comparison, Rule

SEVENTH = Comparison(6, "SCMP_CMP_EQ", 0)
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2


def under(code: bytes, *calls: tuple[str, ...]) -> list[int]:
    """The errno, or 0, of mkdir and personality calls in a child that runs with the filter."""
    ours, theirs = os.pipe()
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("@HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    pid = os.fork()
    if pid == 0:
        results = []
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program)
        for name, *arguments in calls:
            ctypes.set_errno(0)
            failed = (libc.mkdir(b"/nowhere/x", 0) if name == "mkdir" else libc.personality(int(arguments[0]))) < 0
            results.append(ctypes.get_errno() if failed else 0)
        os.write(theirs, struct.pack(f"{len(results)}i", *results))
        os._exit(0)
    os.close(theirs)
    assert os.waitpid(pid, 0)[1] == 0
    said = os.read(ours, 4096)
    os.close(ours)
    return list(struct.unpack(f"{len(said) // 4}i", said))


def test_a_call_by_its_name_and_by_its_arguments() -> None:
    odd = Comparison(0, "SCMP_CMP_EQ", 0x20000)
    rules = [
        Rule(["mkdir", "mkdirat", "nosuchcall"], "SCMP_ACT_ERRNO", errno.ENOTSUP),
        Rule(["personality"], "SCMP_ACT_ERRNO", None, [odd]),
    ]
    code = libseccomp.compile("SCMP_ACT_ALLOW", None, ["x86", "x32"], rules)
    tell = str(0xFFFFFFFF)
    assert under(code, ("mkdir",), ("personality", str(0x20000)), ("personality", tell)) == [
        errno.ENOTSUP,
        errno.EPERM,
        0,
    ]


def test_a_rule_that_says_what_the_default_says_is_none() -> None:
    code = libseccomp.compile("SCMP_ACT_ALLOW", None, [], [Rule(["mkdir"], "SCMP_ACT_ALLOW")])
    assert under(code, ("mkdir",)) == [errno.ENOENT]


@pytest.mark.parametrize(
    ("why", "arguments"),
    [
        ("no action 'SCMP_NO'", ("SCMP_NO", None, [], [])),
        ("no action 'NO'", ("SCMP_ACT_ALLOW", None, [], [Rule(["read"], "NO")])),
        ("no architecture 'pdp11'", ("SCMP_ACT_ALLOW", None, ["pdp11"], [])),
        ("no argument 6", ("SCMP_ACT_ALLOW", None, [], [Rule(["read"], "SCMP_ACT_ERRNO", 1, [SEVENTH])])),
    ],
)  # fmt: skip
def test_what_there_is_not(why: str, arguments: tuple[str, None, list[str], list[Rule]]) -> None:
    with pytest.raises(InvalidInput, match=why):
        libseccomp.compile(*arguments)
