"""hyper-memory.so in a process of its own: what is no failure to a QEMU whose guest is a clone, and what stays one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hypercontainer.hypervisor.host import memory
from hypercontainer.hypervisor.host.memory import HYPER_MEMORY

SCRIPT = """
import ctypes, errno, fcntl, json, os
HOLE, PAGE = 3, 4096
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate64.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong)

def file(seals):
    fd = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.write(fd, b"x" * 2 * PAGE)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd

def told(fd, mode, offset, length):
    code = 0 if libc.fallocate64(fd, mode, offset, length) == 0 else ctypes.get_errno()
    return errno.errorcode.get(code, 0)

sealed, open_ = file(fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK), file(0)
said = {
    "sealed": told(sealed, HOLE, 0, PAGE),
    "open": told(open_, HOLE, 0, PAGE),
    "grown": told(sealed, 0, 0, 4 * PAGE),
    "absurd": told(sealed, HOLE, 0, 0),
    "none": told(1000, HOLE, 0, PAGE),
}
said["bytes"] = [os.pread(fd, 2 * PAGE, 0).count(b"x") // PAGE for fd in (sealed, open_)]
print(json.dumps(said))
"""


def test_a_hole_in_a_sealed_file_is_refused_without_a_failure() -> None:
    argv = [sys.executable, "-I", "-S", "-c", SCRIPT]
    done = subprocess.run(argv, env={"LD_PRELOAD": str(HYPER_MEMORY)}, capture_output=True, timeout=60, check=True)
    assert json.loads(done.stdout) == {
        "sealed": 0,
        "open": 0,
        "grown": "EPERM",
        "absurd": "EINVAL",
        "none": "EBADF",
        "bytes": [2, 1],
    }
    assert done.stderr == b""


MAPPING = """
import ctypes, fcntl, json, mmap, os, sys
MIB, SIZE = 1 << 20, 16 << 20
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap64.restype = ctypes.c_void_p
libc.mmap64.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_longlong)
fd = os.memfd_create("template memory", os.MFD_ALLOW_SEALING)
os.ftruncate(fd, SIZE)
os.pwrite(fd, b"a" * MIB, MIB // 2)
os.pwrite(fd, b"b" * 4096, 9 * MIB)
blocks = os.stat(fd).st_blocks
if sys.argv[1] == "sealed":
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
at = libc.mmap64(None, SIZE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE, fd, 0)
ram = (ctypes.c_char * SIZE).from_address(at)
said = {"seen": [ram[place * MIB] for place in (1, 5, 9, 15)] == [b"a", bytes(1), b"b", bytes(1)]}
for place, length in ((4, MIB), (12, MIB), (9, 4096)):
    ctypes.memset(at + place * MIB, ord("x"), length)
said["grew"] = os.stat(fd).st_blocks > blocks
said["file"] = os.pread(fd, 1, 4 * MIB) == bytes(1) and os.pread(fd, 1, 9 * MIB) == b"b"
print(json.dumps(said), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["sealed", "open"])
def test_what_is_written_into_a_hole_is_paid_once(kind: str, tmp_path: Path) -> None:
    """The kernel fills a hole of the file behind a private mapping when somebody writes there, and copies it then."""
    argv = [sys.executable, "-I", "-S", "-c", MAPPING, kind]
    env = {"LD_PRELOAD": str(HYPER_MEMORY)}
    with subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        said = json.loads(process.stdout.readline())
        assert said == {"seen": True, "grew": kind == "open", "file": True}
        target = tmp_path / "copy"
        with open(target, "w+b") as copy:  # of what a fork takes along
            copy.truncate(16 << 20)
            ram = memory.find(process.pid, 16 << 20)
            ram.copy_file(copy.fileno())
            ram.copy_changes(copy.fileno())
        process.stdin.close()
    whole = target.read_bytes()
    assert [chr(whole[place << 20]) for place in (1, 4, 5, 9, 10, 12, 15)] == ["a", "x", "\0", "x", "\0", "x", "\0"]
    assert target.stat().st_blocks * 512 < 6 << 20
