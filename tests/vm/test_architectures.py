"""Guests of other architectures than this host's: of those that `make setup-arch` has made ready."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.hypervisor.base import Feature
from hypercontainer.hypervisor.qemu.driver import QemuHypervisor
from hypercontainer.hypervisor.qemu.machines import MACHINES
from hypercontainer.kernel.bundle import KernelStore
from hypercontainer.model.arch import ARCHES, host_name
from hypercontainer.testing.busybox import write_archive
from hypercontainer.testing.daemon import PrivateDaemon, Value, private_daemon
from tests.conftest import CHECKOUT, KERNELS
from tests.vm import everywhere

BUSYBOX = CHECKOUT / ".cache/arch"


def ready(arch: str) -> bool:
    kernels = [bundle.arch for bundle in KernelStore(KERNELS.parent).list()]
    hyperstart = CHECKOUT / "hypercontainer/_bin" / arch / "hyperstart"
    there = hyperstart.exists() and (BUSYBOX / arch / "bin/busybox").exists() and arch in kernels
    return there and shutil.which(MACHINES[arch].program) is not None


OTHERS = [arch for arch in MACHINES if arch != host_name() and ready(arch)]

pytestmark = [pytest.mark.vm, pytest.mark.skipif(not OTHERS, reason="none is ready: run `make setup-arch`")]


@pytest.fixture(scope="module", params=OTHERS)
def arch(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def platform(arch: str) -> str:
    return f"linux/{ARCHES[arch].docker}"


@pytest.fixture(scope="module")
def daemon(
    arch: str, kernels: Path, busybox_archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrivateDaemon]:
    """A hyperd with busybox for this host and for that architecture, of which one guest waits."""
    word = ARCHES[arch].docker
    archive = tmp_path_factory.mktemp("arch") / "busybox.tar"
    write_archive(archive, busybox=BUSYBOX / arch / "bin/busybox", architecture=word)
    settings: dict[str, Value] = {"accelerator": "tcg", "memory_mib": 256, "pool": [{"arch": word}]}
    with private_daemon(kernels, settings | everywhere.SETTINGS) as daemon:
        for path in (busybox_archive, archive):
            assert daemon.ctl("load", "-i", str(path)).status == 0
        assert daemon.ctl("factory", "init").status == 0
        yield daemon


def out(daemon: PrivateDaemon, *words: str) -> str:
    done = daemon.ctl(*words)
    assert done.status == 0, done
    return done.out.strip()


@pytest.mark.parametrize("factory", ["direct", "template", "cache"])
def test_an_image_runs_on_its_architecture(daemon: PrivateDaemon, arch: str, platform: str, factory: str) -> None:
    said = out(daemon, "run", "--rm", "--factory", factory, "--platform", platform, "busybox", "uname", "-m")
    assert said == arch
    assert out(daemon, "run", "--rm", "--factory", factory, "busybox", "uname", "-m") == host_name()


def test_both_are_told_apart(daemon: PrivateDaemon, arch: str, platform: str) -> None:
    rows = out(daemon, "images", "--format", "{{.Repository}} {{.Platform}}").splitlines()
    assert f"busybox {platform}" in rows and len(rows) == 2
    assert f"{platform} (emulated)" in out(daemon, "info")
    c = out(daemon, "run", "-d", "--platform", platform, "busybox", "sleep", "1000")
    assert out(daemon, "inspect", "-f", "{{.Architecture}} {{.Isolation.Level}}", c) == f"{arch} emulated"
    assert out(daemon, "exec", c, "uname", "-m") == arch
    out(daemon, "rm", "-f", c)


def test_doctor_boots_one(daemon: PrivateDaemon, platform: str) -> None:
    assert f"ok       boot of {platform}: a guest's agent answered after" in out(daemon, "doctor")


def test_one_more_container_joins_a_pod_that_runs(daemon: PrivateDaemon, arch: str, platform: str) -> None:
    c = out(daemon, "run", "-d", "--platform", platform, "busybox", "sleep", "1000")
    for _ in range(2):  # its disks come, and go
        joined = ("--platform", platform, "--network", f"container:{c}", "busybox", "sh", "-c", "touch /mine; uname -m")
        assert out(daemon, "run", "--rm", *joined) == arch
    out(daemon, "rm", "-f", c)


def test_a_container_outlives_hyperd(daemon: PrivateDaemon, arch: str, platform: str) -> None:
    c = out(daemon, "run", "-d", "--platform", platform, "busybox", "sleep", "1000")
    daemon.signal(signal.SIGKILL)
    daemon.start()
    assert out(daemon, "exec", c, "sh", "-c", "uname -m > /arch; cat /arch") == arch
    out(daemon, "stop", "-t", "0", c)
    out(daemon, "start", c)
    assert out(daemon, "exec", c, "cat", "/arch") == arch
    out(daemon, "rm", "-f", c)


def test_it_forks_sleeps_and_wakes(daemon: PrivateDaemon, arch: str, platform: str) -> None:
    """Where a saved machine can go on; it is refused in words where not."""
    c = out(daemon, "run", "-d", "--platform", platform, "busybox", "sh", "-c", "echo $$ > /tmp/pid; sleep 1000")
    if why := MACHINES[arch].unsaved:
        for verb in ("fork", "suspend"):
            refused = daemon.ctl(verb, c)
            assert refused.status == 1 and f"not with QEMU's {MACHINES[arch].type}, {why}" in refused.err
        out(daemon, "rm", "-f", c)
        return
    copy = out(daemon, "fork", c)
    assert out(daemon, "exec", copy, "cat", "/tmp/pid") == "1"
    out(daemon, "suspend", c)
    out(daemon, "resume", c)
    assert out(daemon, "exec", c, "cat", "/tmp/pid") == "1"
    out(daemon, "rm", "-f", c, copy)


def test_memory_comes_and_goes_and_processors_do_not(daemon: PrivateDaemon, arch: str, platform: str) -> None:
    """Memory where the machine has a device for that."""
    c = out(daemon, "run", "-d", "--platform", platform, "busybox", "sleep", "1000")
    total = ("exec", c, "sh", "-c", "grep MemTotal /proc/meminfo | tr -dc 0-9")
    before = int(out(daemon, *total))
    if MACHINES[arch].hot_memory:
        out(daemon, "update", "--memory", "384m", c)
        assert int(out(daemon, *total)) > before + (100 << 10)
        out(daemon, "update", "--memory", "256m", c)
        assert int(out(daemon, *total)) < before + (64 << 10)
    else:
        refused = daemon.ctl("update", "--memory", "384m", c)
        words = "cannot give a running virtual machine 384 MiB of memory: 256 at most"
        assert refused.status == 1 and words in refused.err
    refused = daemon.ctl("update", "--cpus", "2", c)
    assert refused.status == 1 and "cannot give a running virtual machine 2 vCPUs: 1 at most" in refused.err
    out(daemon, "rm", "-f", c)


@everywhere.each
def test_everywhere(daemon: PrivateDaemon, platform: str, does: everywhere.Does) -> None:
    does(daemon, "--factory", "direct", "--platform", platform)


def test_a_clones_clock_is_right(daemon: PrivateDaemon, platform: str) -> None:
    """Its original stopped some time ago."""
    everywhere.its_clock_is_right(daemon, "--factory", "template", "--platform", platform)


def test_interfaces_come_and_go(daemon: PrivateDaemon, arch: str, platform: str) -> None:
    """Where a machine takes them while it runs; it is refused in words where not, and a start with two is none the
    worse."""
    out(daemon, "network", "create", "more")
    c = out(daemon, "run", "-d", "--platform", platform, "busybox", "sleep", "1000")
    if why := MACHINES[arch].unplugged:
        refused = daemon.ctl("network", "connect", "more", c)
        assert refused.status == 1 and f"not with QEMU's {MACHINES[arch].type}, {why}" in refused.err
    for _ in range(0 if why else 2):
        out(daemon, "network", "connect", "more", c)
        assert out(daemon, "exec", c, "sh", "-c", "ls /sys/class/net | grep -c eth") == "2"
        out(daemon, "network", "disconnect", "more", c)
        assert out(daemon, "exec", c, "sh", "-c", "ls /sys/class/net | grep -c eth") == "1"
    out(daemon, "rm", "-f", c)
    both = ("--network", "default", "--network", "more")
    found = out(
        daemon, "run", "--rm", "--platform", platform, *both, "busybox", "sh", "-c", "ip -o -4 addr | grep -c eth"
    )
    assert found == "2"
    out(daemon, "network", "rm", "more")


@pytest.mark.parametrize("factory", ["direct", "template"])
def test_a_folder_of_the_host_is_there(
    daemon: PrivateDaemon, arch: str, platform: str, factory: str, tmp_path: Path
) -> None:
    """Where the guest's byte order is virtiofsd's; it is refused in words where not."""
    (tmp_path / "said").write_text("hello")
    run = ("run", "--rm", "--factory", factory, "--platform", platform, "-v", f"{tmp_path}:/data")
    if why := QemuHypervisor().lacks(arch).get(Feature.SHARE):
        refused = daemon.ctl(*run, "busybox", "true")
        assert refused.status == 125 and "a folder at /data in" in refused.err and why in refused.err
        return
    assert out(daemon, *run, "busybox", "sh", "-c", "cat /data/said; echo more > /data/more") == "hello"
    assert (tmp_path / "more").read_text() == "more\n"
