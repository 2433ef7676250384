"""A QEMU of our own runs guests, jailed, and is not taken for the distribution's. Collected when `make qemu` has built
one. (The whole suite on it: pytest tests/vm --qemu PATH.)"""

import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from hypercontainer.hypervisor.qemu.driver import QemuHypervisor
from hypercontainer.hypervisor.qemu.guest import QemuGuest
from hypercontainer.hypervisor.qemu.machines import Q35
from hypercontainer.hypervisor.qemu.own import SUFFIX
from hypercontainer.testing.daemon import PrivateDaemon, private_daemon
from tests.conftest import QEMU
from tests.unit.hypervisor.test_argv import FDS, a_config, lines
from tests.vm.conftest import ok

pytestmark = pytest.mark.vm

DEVICE = re.compile(r'^name "([^"]+)"', re.MULTILINE)
OTHERS = {"usb-tablet", "e1000", "virtio-gpu-pci", "intel-hda", "virtio-9p-pci", "vfio-pci", "pvpanic", "tpm-crb"}


@pytest.fixture(scope="module")
def daemon(kernels: Path, busybox_archive: Path) -> Iterator[PrivateDaemon]:
    with private_daemon(kernels, {"accelerator": "tcg", "memory_mib": 256, "qemu": str(QEMU)}) as daemon:
        ok(daemon, "load", "-i", str(busybox_archive))
        yield daemon


@pytest.fixture
def driver() -> QemuHypervisor:
    return QemuHypervisor(str(QEMU))


def devices(program: str) -> set[str]:
    said = subprocess.run([program, "-device", "help"], capture_output=True, check=True, text=True, timeout=60)
    return set(DEVICE.findall(said.stdout))


def test_it_has_what_the_command_line_names_and_not_what_the_distribution_s_has_besides() -> None:
    whole = shutil.which(Q35.program)
    assert whole
    ours, theirs = devices(str(QEMU)), devices(whole)
    assert set(re.findall(r"^-device ([\w-]+)", lines(a_config(), FDS), re.MULTILINE)) <= ours
    assert ours < theirs
    assert theirs >= OTHERS and not OTHERS & ours


def test_it_runs_containers_from_the_pool(daemon: PrivateDaemon) -> None:
    for _ in range(3):
        assert ok(daemon, "run", "--rm", "busybox", "echo", "hello") == "hello"
    assert "cannot clone" not in daemon.log()


async def test_the_jail_shows_it_itself_and_nothing_beside_it(
    booted: Callable[..., AbstractAsyncContextManager[QemuGuest]],
) -> None:
    async with booted() as guest:
        seen = Path(f"/proc/{guest.record.process.pid}")
        assert (seen / "exe").readlink() == Path("/", QEMU.name)
        assert (seen / "exe").stat().st_ino == QEMU.stat().st_ino
        assert {path.name for path in (seen / "root").iterdir()} >= {"usr", QEMU.name}
        assert not (seen / "root" / QEMU.parent.relative_to("/")).exists()


def test_who_asks_is_told_which_it_is(daemon: PrivateDaemon) -> None:
    assert ok(daemon, "info", "--format", "{{.Hypervisor.Version}}").endswith(SUFFIX)
    assert f"ok       {QEMU}: {QEMU}\n" in daemon.ctl("doctor").out


def test_the_distribution_s_does_not_go_on_with_what_it_has_saved(daemon: PrivateDaemon) -> None:
    ok(daemon, "run", "-d", "--name", "kept", "busybox", "sleep", "1000")
    ok(daemon, "suspend", "kept")
    daemon.signal(signal.SIGTERM)
    text = daemon.config.read_text()
    try:
        daemon.config.write_text(text.replace(f'qemu = "{QEMU}"\n', ""))
        daemon.start()
        refused = daemon.ctl("resume", "kept")
        assert refused.status == 1
        assert re.search(r"by QEMU (\S+)-hyper, and this is QEMU \1; only the same version can go on", refused.err)
        daemon.signal(signal.SIGTERM)
    finally:
        daemon.config.write_text(text)
    daemon.start()
    ok(daemon, "resume", "kept")
    assert ok(daemon, "exec", "kept", "echo", "here") == "here"
    ok(daemon, "rm", "-f", "kept")
