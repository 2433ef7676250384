"""Machines as domains of Debian's libvirtd: the contract of drivers, deaths of libvirtd and of hyperd, and a run."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hypercontainer import vm as vms
from hypercontainer.errors import Denied, InUse, Unavailable
from hypercontainer.hypervisor.base import Nic, VmConfig
from hypercontainer.hypervisor.host import tap
from hypercontainer.hypervisor.libvirt.driver import LibvirtHypervisor
from hypercontainer.kernel.bundle import KernelStore
from hypercontainer.lib.trace import Timings
from hypercontainer.testing.contract import HypervisorContract, tap_name
from hypercontainer.testing.daemon import PrivateDaemon, private_daemon
from tests.conftest import ACCELERATOR
from tests.interop.libvirtd import LIBVIRTD, Libvirtd, libvirtd
from tests.vm import everywhere
from tests.vm.conftest import guest_of, ok, time_passes
from tests.vm.test_faults import mortal

pytest.importorskip("libvirt", reason="libvirt-python is not installed")
pytestmark = [pytest.mark.vm, pytest.mark.docker]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Libvirtd]:
    if os.geteuid() != 0 or not LIBVIRTD.exists():
        pytest.skip("libvirt-daemon is not installed, or we are not root")
    with libvirtd() as daemon:
        yield daemon


@pytest.fixture
def running(daemon: Libvirtd) -> Libvirtd:
    """It is started again when a test has ended it."""
    if daemon.process is None or daemon.process.poll() is not None:
        daemon.start()
    return daemon


@pytest.fixture(scope="module")
def reached(kernels: Path) -> Iterator[Path]:
    """Kernels where a user passes through to them."""
    with tempfile.TemporaryDirectory(prefix="hylv") as home:
        Path(home).chmod(0o711)
        bundle = KernelStore(kernels.parent).get()
        shutil.copytree(bundle.path, Path(home, "kernels", bundle.path.name))
        yield Path(home)


@pytest.fixture
def hypervisor(running: Libvirtd) -> LibvirtHypervisor:
    return LibvirtHypervisor(running.uri)


@pytest.fixture
def config(hypervisor: LibvirtHypervisor, reached: Path) -> VmConfig:
    return guest_of(hypervisor, reached / "kernels", ACCELERATOR)


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A short path, whose user passes through."""
    with tempfile.TemporaryDirectory(prefix="hyv") as home:
        Path(home).chmod(0o711)
        path = Path(home, "v")
        path.mkdir(mode=0o711)
        yield path
        assert list(path.iterdir()) == []


class TestLibvirt(HypervisorContract):
    pass


async def test_a_dead_libvirtd_ends_no_guest_and_the_next_one_finds_it(
    running: Libvirtd, hypervisor: LibvirtHypervisor, config: VmConfig, run_dir: Path
) -> None:
    async with vms.booted(hypervisor, config, run_dir) as vm:
        running.kill()
        await vm.agent.ping()
        with pytest.raises(Unavailable, match="libvirtd"):
            await vm.guest.pause()
        running.start()
        await vm.guest.pause()
        await vm.guest.resume()
        await vm.agent.ping()
        assert (await vm.guest.size()).memory_mib == config.memory_mib
        assert await vm.power_off() == "powered off"


async def test_a_guest_ends_without_a_libvirtd(
    running: Libvirtd, hypervisor: LibvirtHypervisor, config: VmConfig, run_dir: Path
) -> None:
    async with vms.booted(hypervisor, config, run_dir) as vm:
        running.kill()
        assert await vm.power_off() == "powered off"
    other = LibvirtHypervisor(running.uri)
    with pytest.raises(Unavailable, match=rf"^cannot use libvirt: no libvirtd answers at {running.uri[:5]}.*: .* \(is"):
        await other.boot(config, run_dir, Timings())


async def test_a_guest_is_attached_to_and_ended_without_a_libvirtd(
    running: Libvirtd, hypervisor: LibvirtHypervisor, config: VmConfig, run_dir: Path
) -> None:
    async with vms.booted(hypervisor, config, run_dir) as vm:
        await vm.close()
        running.kill()
        again = await vms.attach(LibvirtHypervisor(running.uri), vm.guest.record)
        assert again
        await again.agent.ping()
        await again.close()
        await again.guest.kill()
        assert list(run_dir.iterdir()) == []
        running.start()
        assert await vm.guest.wait() != ""


async def test_a_tap_is_where_it_is_to_be_and_nobody_elses(
    hypervisor: LibvirtHypervisor, config: VmConfig, run_dir: Path
) -> None:
    nic = Nic(tap=tap_name(1), mac="52:54:00:00:00:01")
    there = Path("/sys/class/net", nic.tap)
    async with vms.booted(hypervisor, replace(config, nics=[nic]), run_dir) as vm:
        assert there.exists()
        await vm.guest.kill()
        assert not there.exists()
    held = tap.open_tap(nic.tap, config.uid)
    try:
        with pytest.raises(InUse, match=nic.tap):
            await hypervisor.boot(replace(config, nics=[nic]), run_dir, Timings())
    finally:
        os.close(held)


async def test_a_folder_that_qemus_user_cannot_pass_is_named(
    hypervisor: LibvirtHypervisor, config: VmConfig, run_dir: Path
) -> None:
    run_dir.parent.chmod(0o700)
    with pytest.raises(
        Denied, match=rf"^cannot boot test: user {config.uid}, .* may not pass through {run_dir.parent} "
    ):
        await hypervisor.boot(config, run_dir, Timings())


@pytest.fixture
def hyper(running: Libvirtd, reached: Path, busybox_archive: Path) -> Iterator[PrivateDaemon]:
    settings = {"hypervisor": "libvirt", "libvirt_uri": running.uri, "factory": "direct", "accelerator": ACCELERATOR}
    with private_daemon(reached / "kernels", {**settings, "memory_mib": 256, **everywhere.SETTINGS}) as daemon:
        daemon.folder.chmod(0o711)
        try:
            ok(daemon, "load", "-i", str(busybox_archive))
            yield daemon
        finally:
            if running.process and running.process.poll() is not None:
                running.start()


def test_an_image_runs_and_doctor_proves_it(hyper: PrivateDaemon, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("shared")
    script = "cat /f/file && ping -c 1 $(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p') && echo reached"
    said = ok(hyper, "run", "--rm", "-v", f"{tmp_path}:/f", "busybox", "sh", "-c", script)
    assert said.startswith("shared") and said.endswith("reached")
    checks = ok(hyper, "doctor")
    assert "a guest's agent answered" in checks and "failed" not in checks
    assert "libvirt 9.0.0 with QEMU" in ok(hyper, "info")
    ok(hyper, "run", "-d", "--name", "web", "busybox", "sleep", "1000")
    assert "cannot fork web: not with libvirt" in hyper.ctl("fork", "web").err


@everywhere.each
def test_everywhere(hyper: PrivateDaemon, does: everywhere.Does) -> None:
    does(hyper)


def test_containers_outlive_hyperd_and_libvirtd(hyper: PrivateDaemon, running: Libvirtd) -> None:
    ok(hyper, "run", "-d", "--name", "web", "busybox", "sh", "-c", "echo begun; sleep 1000")
    hyper.signal(signal.SIGKILL)
    running.kill()
    hyper.start()
    assert ok(hyper, "exec", "web", "echo", "here") == "here"
    assert ok(hyper, "logs", "web") == "begun"
    refused = hyper.ctl("create", "--name", "other", "busybox", "true")
    assert refused.status != 0
    assert "no libvirtd answers at" in refused.err
    running.start()
    ok(hyper, "pause", "web")
    ok(hyper, "unpause", "web")
    assert ok(hyper, "exec", "web", "echo", "still") == "still"
    ok(hyper, "rm", "-f", "web")
    ok(hyper, "create", "--name", "other", "busybox", "true")


@pytest.mark.parametrize("step", ["record", "files", "vmm", "console", "agent"])
def test_hyperd_killed_at_a_step_of_a_start_leaves_no_domain(
    hyper: PrivateDaemon, running: Libvirtd, step: str
) -> None:
    done = mortal(hyper, "self", step)
    assert done.returncode == -signal.SIGKILL, done.stderr
    there = running.domains()
    assert len(there) == (step in ("vmm", "console", "agent"))
    hyper.start()
    assert running.domains() == []
    assert ok(hyper, "ps", "-a", "--format", "{{.State}}") == "created"
    ok(hyper, "start", "mortal")
    ok(hyper, "rm", "-f", "mortal")
    while running.domains():  # who asks is told before its machine has gone
        time_passes()
