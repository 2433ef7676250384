"""Guests of kvmtool, on hosts where KVM works and `lkvm` is on the PATH: `make lab-kvm LKVM=…`, or
`ACCELERATOR=kvm pytest tests/vm/test_kvmtool.py`."""

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hypercontainer import vm as vms
from hypercontainer.errors import InUse
from hypercontainer.hypervisor.base import VmConfig
from hypercontainer.hypervisor.kvmtool.driver import KvmtoolHypervisor
from hypercontainer.hypervisor.kvmtool.rundir import LkvmDir
from hypercontainer.lib.trace import Timings
from hypercontainer.model.record import DiskRecord
from hypercontainer.testing.contract import HypervisorContract, folders
from hypercontainer.testing.daemon import PrivateDaemon, Value, private_daemon
from tests.conftest import ACCELERATOR
from tests.vm import everywhere
from tests.vm.conftest import GUEST_S, UID, guest_of, ok
from tests.vm.test_faults import mortal
from tests.vm.test_jail import Process, without_privileges

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(ACCELERATOR != "kvm", reason="needs ACCELERATOR=kvm"),
    pytest.mark.skipif(not shutil.which("lkvm"), reason="needs kvmtool's lkvm on the PATH"),
]


@pytest.fixture
def hypervisor() -> KvmtoolHypervisor:
    return KvmtoolHypervisor()


@pytest.fixture
def config(hypervisor: KvmtoolHypervisor, kernels: Path) -> VmConfig:
    return guest_of(hypervisor, kernels, "kvm")


class TestKvmtool(HypervisorContract):
    pass


async def test_one_that_powers_off_has_not_panicked(
    hypervisor: KvmtoolHypervisor, config: VmConfig, run_dir: Path
) -> None:
    async with vms.booted(hypervisor, config, run_dir) as vm:
        assert (await vm.guest.size()).memory_mib == config.memory_mib
        assert await vm.power_off(grace_s=GUEST_S) == "powered off"


async def test_a_panic_is_told_as_one(hypervisor: KvmtoolHypervisor, config: VmConfig, run_dir: Path) -> None:
    broken = replace(config, kernel_parameters=["rdinit=/nothing", "init=/nothing"])
    guest = await hypervisor.boot(broken, run_dir, Timings())
    try:
        async with asyncio.timeout(GUEST_S):
            assert (await guest.wait()).startswith("guest kernel panic: ")
    finally:
        await guest.kill()


async def test_the_agent_hears_the_hosts_root_alone(
    hypervisor: KvmtoolHypervisor, config: VmConfig, run_dir: Path
) -> None:
    async with vms.booted(hypervisor, config, run_dir) as vm:
        await vm.agent.close()
        with socket.socket(socket.AF_VSOCK) as anybody:
            anybody.settimeout(GUEST_S)
            anybody.connect(LkvmDir(run_dir).vsock)  # from a port that everybody may have
            try:
                assert anybody.recv(1) == b""
            except ConnectionResetError:
                pass
        again = await vms.attach(hypervisor, vm.guest.record, timeout_s=GUEST_S)
        assert again
        await again.agent.ping()
        await again.close()


async def test_a_disk_has_one_writer(
    hypervisor: KvmtoolHypervisor, config: VmConfig, run_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    (tmp_path / "disk").chmod(0o600)
    disk = DiskRecord(target=0, path=str(tmp_path / "disk"), read_only=False)
    both = [replace(config, disks=[disk]), replace(config, disks=[disk], uid=UID + 8)]
    homes = folders(run_dir, "1", "2")
    async with vms.booted(hypervisor, both[0], homes[0]) as vm:
        vmm = Process(vm.guest.record.process.pid)
        without_privileges(vmm, config.uid)
        assert {path.name for path in (vmm.path / "root/dev").iterdir()} == {"kvm", "null", "urandom", "vhost-vsock"}
        with pytest.raises(InUse, match="another machine writes it"):
            await hypervisor.boot(both[1], homes[1], Timings())
        assert list(homes[1].iterdir()) == []
    for folder in homes:
        folder.rmdir()


@pytest.fixture
def daemon(kernels: Path, busybox_archive: Path) -> Iterator[PrivateDaemon]:
    settings: dict[str, Value] = {"hypervisor": "kvmtool", "factory": "direct", "accelerator": "kvm", "memory_mib": 256}
    with private_daemon(kernels, settings | everywhere.SETTINGS) as daemon:
        daemon.folder.chmod(0o711)
        ok(daemon, "load", "-i", str(busybox_archive))
        yield daemon


def test_an_image_runs_and_doctor_proves_it(daemon: PrivateDaemon, tmp_path: Path) -> None:
    reach = "ping -c 1 $(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p') && echo reached; cat; exit 7"
    done = daemon.ctl("run", "--rm", "-i", "busybox", "sh", "-c", reach, stdin=b"said" * 1000)
    assert (done.status, done.out.endswith("reached\n" + "said" * 1000)) == (7, True), done
    checks = ok(daemon, "doctor")
    assert "a guest's agent answered" in checks and "failed" not in checks and "experimental: " in checks
    assert "kvmtool 3.18.0" in ok(daemon, "info")
    refused = daemon.ctl("run", "-v", f"{tmp_path}:/f", "busybox", "true").err
    assert "cannot mount a volume or a folder at /f" in refused and "not with kvmtool" in refused


@everywhere.each
def test_everywhere(daemon: PrivateDaemon, does: everywhere.Does) -> None:
    does(daemon)


def test_a_container_outlives_hyperd(daemon: PrivateDaemon) -> None:
    ok(daemon, "run", "-d", "--name", "web", "busybox", "sh", "-c", "echo begun; sleep 1000")
    ok(daemon, "exec", "web", "sh", "-c", "echo kept >/kept")
    daemon.signal(signal.SIGKILL)
    daemon.start()
    assert ok(daemon, "exec", "web", "cat", "/kept") == "kept"
    assert ok(daemon, "logs", "web") == "begun"
    ok(daemon, "pause", "web")
    ok(daemon, "unpause", "web")
    assert "cannot fork web: not with kvmtool" in daemon.ctl("fork", "web").err
    ok(daemon, "stop", "-t", "0", "web")
    assert ok(daemon, "wait", "web") == "137"
    ok(daemon, "start", "web")
    assert ok(daemon, "exec", "web", "cat", "/kept") == "kept"
    ok(daemon, "rm", "-f", "web")


@pytest.mark.parametrize("step", ["files", "vmm", "agent"])
def test_hyperd_killed_at_a_step_of_a_start_leaves_nothing(daemon: PrivateDaemon, step: str) -> None:
    done = mortal(daemon, "self", step)
    assert done.returncode == -signal.SIGKILL, done.stderr
    daemon.start()
    assert ok(daemon, "ps", "-a", "--format", "{{.State}}") == "created"
    ok(daemon, "start", "mortal")
    ok(daemon, "rm", "-f", "mortal")


def test_a_vmm_that_dies_is_named(daemon: PrivateDaemon) -> None:
    ok(daemon, "run", "-d", "--name", "web", "busybox", "sleep", "1000")
    (pid,) = [int(line) for line in ok(daemon, "inspect", "--format", "{{.Vm.Pid}}", "web").split()]
    os.kill(pid, signal.SIGKILL)
    assert ok(daemon, "wait", "web") != "0"
    ok(daemon, "rm", "-f", "web")
