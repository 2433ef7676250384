"""Guests of Xen, on a dom0: `make lab-xen`."""

import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hypercontainer import vm as vms
from hypercontainer.hypervisor.base import Nic, VmConfig
from hypercontainer.hypervisor.xen.driver import XenHypervisor
from hypercontainer.testing.contract import HypervisorContract, tap_name
from hypercontainer.testing.daemon import PrivateDaemon, Value, private_daemon
from tests.conftest import CHECKOUT
from tests.vm import everywhere
from tests.vm.conftest import GUEST_S, guest_of, ok, time_passes

CAPABILITIES = Path("/proc/xen/capabilities")
LOOKS = 200
SETTINGS: dict[str, Value] = {"hypervisor": "xen", "factory": "direct", "memory_mib": 128, **everywhere.SETTINGS}
DOM0 = CAPABILITIES.exists() and "control_d" in CAPABILITIES.read_text()
pytestmark = [pytest.mark.vm, pytest.mark.skipif(not DOM0, reason="needs a dom0 of Xen")]


def told(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=GUEST_S).stdout


def domains() -> list[str]:
    return [line.split()[0] for line in told("xl", "list").splitlines()[2:]]  # below a header and dom0


def there() -> dict[str, object]:
    """What there is of guests on this host."""
    return {
        "domains": domains(),
        "backends": [line for line in told("xenstore-ls", "-f").splitlines() if "/backend/v" in line],
        "loops": told("losetup", "--list", "--noheadings"),
        "interfaces": [path.name for path in Path("/sys/class/net").glob("vif*")],
        "logs": [path.name for path in Path("/var/log/xen").glob("*-hyper-*")],
        "programs": [
            path.parent.name
            for path in Path("/proc").glob("[0-9]*/comm")
            if path.read_text().startswith(("xl\n", "xen-qemu", "qemu-system"))
        ],
    }


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Who asks is told before its machine has gone, and a kernel takes devices down late."""
    before = there()
    yield
    for _ in range(LOOKS):
        if (after := there()) == before:
            return
        time_passes()
    assert after == before


@pytest.fixture
def hypervisor() -> XenHypervisor:
    return XenHypervisor()


@pytest.fixture
def config(hypervisor: XenHypervisor, kernels: Path) -> VmConfig:
    return guest_of(hypervisor, kernels, "xen")


@pytest.fixture(scope="module")
def hyper(kernels: Path, busybox_archive: Path) -> Iterator[PrivateDaemon]:
    with private_daemon(kernels, SETTINGS) as daemon:
        ok(daemon, "load", "-i", str(busybox_archive))
        yield daemon


def test_an_image_runs_with_its_output_status_and_network(hyper: PrivateDaemon) -> None:
    script = "id -u; ping -c 1 $(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p') >&2 && echo reached; exit 7"
    status, out, err = hyper.ctl("run", "--rm", "busybox", "sh", "-c", script)
    assert (status, out) == (7, "0\nreached\n"), err
    assert "1 packets received" in err


def test_an_installed_wheel_runs_an_image(kernels: Path, busybox_archive: Path, tmp_path: Path) -> None:
    """With the packages of this checkout's environment, for a lab has no network."""
    wheels = list((CHECKOUT / ".cache/lab/bin").glob("hypercontainer-*.whl"))
    if not wheels:
        pytest.skip("there is no wheel: `make lab-xen` takes one along")
    prefix = tmp_path / "installed"
    told(sys.executable, "-m", "venv", "--without-pip", str(prefix))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(prefix)]
    told(*pip, "install", "-q", "--no-deps", "--no-index", str(*wheels))
    [site] = prefix.glob("lib/python3*/site-packages")
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if "hypercontainer" not in package.name and not (site / package.name).exists():
            (site / package.name).symlink_to(package)
    told(str(prefix / "bin/python"), "-I", "-c", f"import hypercontainer as h; assert h.__file__.startswith('{site}')")
    with private_daemon(kernels, SETTINGS, prefix / "bin") as daemon:
        ok(daemon, "load", "-i", str(busybox_archive))
        assert ok(daemon, "run", "--rm", "busybox", "echo", "hello") == "hello"


def test_doctor_and_info_say_what_runs_guests(hyper: PrivateDaemon) -> None:
    said = ok(hyper, "doctor")
    assert "a guest's agent answered" in said and "failed" not in said
    assert "Isolation: hardware (xen: Xen 4.17" in ok(hyper, "info")


def test_containers_outlive_hyperd(hyper: PrivateDaemon) -> None:
    ok(hyper, "run", "-d", "--name", "web", "busybox", "sh", "-c", "echo begun; sleep 1000")
    hyper.signal(signal.SIGKILL)
    hyper.start()
    assert ok(hyper, "exec", "web", "echo", "here") == "here"
    assert ok(hyper, "logs", "web") == "begun"
    ok(hyper, "rm", "-f", "web")


def test_much_output_is_whole(hyper: PrivateDaemon) -> None:
    script = "head -c 150000 /dev/zero | tr '\\0' x"
    assert ok(hyper, "run", "--rm", "busybox", "sh", "-c", script) == "x" * 150000


def test_what_it_cannot_is_refused(hyper: PrivateDaemon) -> None:
    ok(hyper, "create", "--name", "web", "busybox", "true")
    assert "not with Xen" in hyper.ctl("create", "-v", "/tmp:/f", "busybox", "true").err
    assert "not with Xen" in hyper.ctl("fork", "web").err
    ok(hyper, "rm", "web")


@everywhere.each
def test_everywhere(hyper: PrivateDaemon, does: everywhere.Does) -> None:
    does(hyper)


class TestXen(HypervisorContract):
    pass


async def test_an_xl_that_was_killed_ends_its_domain(
    hypervisor: XenHypervisor, config: VmConfig, run_dir: Path
) -> None:
    async with vms.booted(hypervisor, config, run_dir) as vm:
        os.kill(vm.guest.record.process.pid, signal.SIGKILL)
        assert await vm.guest.wait() == "the VMM is gone"
        assert domains() == []


async def test_an_interface_has_its_name_and_goes_with_its_guest(
    hypervisor: XenHypervisor, config: VmConfig, run_dir: Path
) -> None:
    nic = Nic(tap=tap_name(1), mac="52:54:00:00:00:01")
    interface = Path("/sys/class/net", nic.tap)
    async with vms.booted(hypervisor, replace(config, nics=[nic]), run_dir) as vm:
        assert interface.exists()
        await vm.guest.kill()
        assert not interface.exists()
