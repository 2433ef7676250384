"""No architecture is meant by accident: the words of the first host's are where architectures are told apart."""

import re
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
WORDS = re.compile(rb"x86|amd64|i[36]86|\bq35\b|ttyS0|linux-gnu\b(?!\*)")

# What says of each architecture what is another thing there. Documents and tests may name what they like.
TABLES = {
    "debian-packages.txt",
    "debian-packages-arch.txt",
    "host/jail/filter.c",  # the kernel's numbers of architectures, for those that it is compiled for
    "host/tsc.c",  # a counter that others have not
    "hypercontainer/hypervisor/qemu/machines.py",
    "hypercontainer/hypervisor/xen/toolstack.py",  # whose dom0 is known
    "hypercontainer/images/legacy.py",  # archives of before there were others
    "hypercontainer/images/platform.py",  # what images call them, and people
    "hypercontainer/kernel/fragments/base.config",  # kernels that are built here are for such hosts
    "hypercontainer/kernel/fragments/machine.config",
    "hypercontainer/kernel/ports.py",
    "hypercontainer/kernel/slim.py",
    "hypercontainer/kernel/vmlinuz.py",
    "hypercontainer/lib/libseccomp.py",  # its names of them
    "hypercontainer/model/arch.py",
    "hypercontainer/model/seccomp.py",  # a bit of one's numbers of system calls
    "hypercontainer/model/signals.py",  # whose numbers are the same
    "hypercontainer/model/syscalls.py",
    "tools/lab.py",  # a host whose KVM is AMD's
}
CODE = ("Makefile", "bench/", "debian-packages", "guest/", "hatch_build.py", "host/", "hypercontainer/", "tools/")
NONE = ("guest/tests/corpus/", "tools/clients/", "bench/targets.md", "hypercontainer/kernel/fragments/README.md")


def files() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, check=True).stdout
    names = listed.decode().split("\0")
    return [name for name in names if name.startswith(CODE) and not name.startswith(NONE)]


def test_none_is_meant_but_in_the_tables() -> None:
    found = {
        f"{name}:{n}: {line.decode(errors='replace').strip()}"
        for name in files()
        if name not in TABLES
        for n, line in enumerate((CHECKOUT / name).read_bytes().splitlines(), 1)
        if WORDS.search(line)
    }
    assert not found, "\n".join(sorted(found))


def test_the_tables_are_all_needed() -> None:
    there = set(files())
    assert {name for name in TABLES if name not in there or not WORDS.search((CHECKOUT / name).read_bytes())} == set()
