"""Memory on demand: a guest may use much, takes what it uses, and gives back what it frees."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon, private_daemon
from tests.vm.conftest import ok

MUCH_MIB = 400
WAIT_S = 120
DRIVER = "/sys/bus/virtio/drivers/virtio_balloon"


@pytest.fixture(scope="module", params=["direct", "template"])
def roomy(request: pytest.FixtureRequest, kernels: Path, busybox_archive: Path) -> Iterator[PrivateDaemon]:
    """A hyperd of 2 GiB guests, which are booted, or cloned."""
    with private_daemon(kernels, {"factory": request.param, "memory_mib": 2048}) as daemon:
        ok(daemon, "load", "-i", str(busybox_archive))
        yield daemon


def resident_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(map(int, re.findall(r"^Pss: +(\d+)", text, re.MULTILINE))) / 1024


def falls(pid: int, below_mib: float) -> None:
    deadline = time.monotonic() + WAIT_S
    while (now := resident_mib(pid)) > below_mib:
        assert time.monotonic() < deadline, f"{now} MiB, of which {now - below_mib} should have gone back"
        time.sleep(0.1)


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with a folder"])
def test_what_is_freed_goes_back_to_the_host(roomy: PrivateDaemon, tmp_path: Path, shared: bool) -> None:
    """A third of the kernel's memory may stay in blocks that something else sits on."""
    volume = ("-v", f"{tmp_path}:/data") if shared else ()
    ok(roomy, "run", "-d", "--name", "big", "--shm-size", f"{MUCH_MIB + 100}m", *volume, "busybox", "sleep", "10000")
    try:
        pid = int(ok(roomy, "inspect", "--format", "{{.Vm.Pid}}", "big"))
        before = resident_mib(pid)
        fill = f"tr '\\0' x < /dev/zero | dd of=/dev/shm/file bs=1M count={MUCH_MIB} iflag=fullblock 2> /dev/null"
        ok(roomy, "exec", "big", "sh", "-c", fill)
        assert resident_mib(pid) > before + MUCH_MIB * 0.8  # of what it had before it may have lost some meanwhile
        # the guest looks every few seconds whether its kernel is to tell the host of free memory
        ok(roomy, "exec", "big", "sh", "-c", f"until ls {DRIVER} | grep -q ^virtio; do sleep 0.1; done")
        ok(roomy, "exec", "big", "rm", "/dev/shm/file")
        falls(pid, before + MUCH_MIB * 0.3)
        ok(roomy, "exec", "big", "sh", "-c", fill)  # and it is there again
        assert ok(roomy, "exec", "big", "sh", "-c", "tr -d x < /dev/shm/file | wc -c") == "0"
    finally:
        roomy.ctl("rm", "-f", "big")


def test_no_kernel_takes_a_free_page_for_zeros(roomy: PrivateDaemon) -> None:
    """A page that a clone gave back has its template's bytes."""
    ask = "grep -o init_on_free=. /proc/cmdline; dmesg | grep -o 'heap free:[a-z]*'"
    assert ok(roomy, "run", "--rm", "--privileged", "busybox", "sh", "-c", ask).split("\n") == [
        "init_on_free=0",
        "heap free:off",
    ]


def test_a_guest_that_used_little_tells_its_host_nothing(roomy: PrivateDaemon) -> None:
    """Its kernel would go through all of its free pages for that."""
    assert ok(roomy, "run", "--rm", "busybox", "sh", "-c", f"ls {DRIVER} | grep -c ^virtio || true") == "0"
    used = "free -m | awk '/^Mem/{print $2}'"
    assert 1900 < int(ok(roomy, "run", "--rm", "busybox", "sh", "-c", used)) < 2048
