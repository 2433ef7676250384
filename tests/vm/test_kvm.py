"""Guests under KVM, on hosts where it works: `make lab-kvm`, or `make vm ACCELERATOR=kvm`."""

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon, private_daemon
from tests.conftest import ACCELERATOR
from tests.vm.conftest import ok
from tests.vm.test_jail import Process, without_privileges

pytestmark = [pytest.mark.vm, pytest.mark.skipif(ACCELERATOR != "kvm", reason="needs ACCELERATOR=kvm")]

PROOF_S = 300.0  # of a guest's boot in the lab
SLEEPER = "sleep 1000"
USUAL = {"/dev/null", "/dev/urandom"}
# Flags of a guest's processor that the host's may lack: what KVM does in its stead, and what makes it a guest's.
LENT = {"hypervisor", "x2apic", "tsc_deadline_timer", "tsc_adjust", "tsc_known_freq", "arch_capabilities"}


@pytest.fixture(scope="module")
def proving(kernels: Path, busybox_archive: Path) -> Iterator[PrivateDaemon]:
    """A hyperd that nobody has told what runs its guests."""
    with private_daemon(kernels, {"accelerator": "auto", "kvm_proof_s": PROOF_S, "memory_mib": 256}) as daemon:
        ok(daemon, "load", "-i", str(busybox_archive))
        yield daemon


def test_kvm_is_proved(proving: PrivateDaemon) -> None:
    assert "Isolation: hardware (kvm: a guest booted under it)\n" in ok(proving, "info")


def test_doctor_boots_a_guest_under_kvm(proving: PrivateDaemon) -> None:
    said = proving.ctl("doctor").out
    assert re.search(r"^ok +isolation: hardware", said, re.MULTILINE), said
    assert re.search(r"^ok +boot: ", said, re.MULTILINE), said


def test_who_asks_sees_that_hardware_separates_it(proving: PrivateDaemon) -> None:
    done = proving.ctl("run", "--rm", "busybox", "echo", "hello")
    assert (done.status, done.out) == (0, "hello\n"), done
    assert "emulated" not in done.err + ok(proving, "info")


def test_a_proof_that_has_no_time_is_none(kernels: Path) -> None:
    with private_daemon(kernels, {"accelerator": "auto", "kvm_proof_s": 0.1, "pool": []}) as daemon:
        said = ok(daemon, "info")
    assert "Isolation: emulated (tcg: no guest boots under /dev/kvm: the guest's agent did not answer" in said


def cpuinfo(text: str) -> dict[str, str]:
    """Of the first processor."""
    lines = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}


def test_a_guests_processors_are_the_hosts(proving: PrivateDaemon) -> None:
    here = cpuinfo(Path("/proc/cpuinfo").read_text())
    said = ok(proving, "run", "--rm", "busybox", "cat", "/proc/cpuinfo")
    there = cpuinfo(said)
    for key in ("vendor_id", "cpu family", "model", "model name", "stepping"):
        assert there[key] == here[key]
    of_guests = {"hypervisor"}
    # what the kernel finds out by itself, and what KVM lends though the processor lacks it
    lent = {
        "x2apic",
        "tsc_deadline_timer",
        "tsc_adjust",
        "arch_capabilities",
        "cpuid",
        "rep_good",
        "nopl",
        "tsc_known_freq",
    }
    more = set(there["flags"].split()) - set(here["flags"].split()) - lent
    assert more <= of_guests, more
    assert "hypervisor" in there["flags"].split()
    assert said.count("processor\t:") == min(len(os.sched_getaffinity(0)), 8)


def test_kvm_is_the_one_device_that_a_jail_has_more(hyper: PrivateDaemon) -> None:
    ok(hyper, "run", "-d", "--name", "one", "busybox", *SLEEPER.split())
    vmm = Process(json.loads(ok(hyper, "inspect", "one"))[0]["Vm"]["Pid"])
    assert {path.name for path in (vmm.path / "root/dev").iterdir()} == {"kvm", "null", "urandom"}
    without_privileges(vmm, uid := int(vmm.word("Uid")))
    assert uid > 0
    files = set(vmm.files())
    assert {"/dev/kvm", "anon_inode:kvm-vm", "anon_inode:kvm-vcpu:0"} <= files
    assert {file for file in files if file.startswith("/dev/")} <= {*USUAL, "/dev/kvm", "/dev/net/tun"}


def test_a_guests_clock_is_the_hosts(hyper: PrivateDaemon) -> None:
    before = time.time()
    there = ok(
        hyper,
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "cat /sys/devices/system/clocksource/*/current_clocksource; date +%s",
    )
    source, seconds = there.split()
    assert source in ("kvm-clock", "tsc")
    assert before - 2 <= int(seconds) <= time.time() + 2


def test_the_clock_goes_on_after_a_suspension(hyper: PrivateDaemon) -> None:
    ok(hyper, "run", "-d", "--name", "one", "busybox", *SLEEPER.split())
    ok(hyper, "suspend", "one")
    ok(hyper, "resume", "one")
    before = time.time()
    assert before - 2 <= int(ok(hyper, "exec", "one", "date", "+%s")) <= time.time() + 2


def test_a_fork_runs_beside_its_original(hyper: PrivateDaemon) -> None:
    ok(hyper, "run", "-d", "--name", "one", "busybox", *SLEEPER.split())
    ok(hyper, "exec", "one", "sh", "-c", "echo kept >/kept")
    other = ok(hyper, "fork", "one")
    assert ok(hyper, "exec", other, "cat", "/kept") == "kept"
    assert ok(hyper, "exec", "one", "cat", "/kept") == "kept"
