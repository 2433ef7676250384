"""What every suite shares."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from hypercontainer.hypervisor.qemu.machines import MACHINES
from hypercontainer.model.arch import host_name
from hypercontainer.model.settings import Settings
from hypercontainer.testing.busybox import write_archive
from hypercontainer.testing.daemon import PrivateDaemon, Value, mounts_below, private_daemon, unmount
from tests import zig
from tests.vm.runv import Runv

CHECKOUT = Path(__file__).parents[1]
FIRST = CHECKOUT / "tests/fixtures/first"  # what was there before anything was upgraded
PROFILES = Path(__file__).with_name("apparmor")  # of AppArmor
SINCE = FIRST.with_name("pods")  # records of pods, in a folder a version
# A shell that starts us in the background has us ignore these, and everything that we start.
for number in (signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
# Who ends us by SIGTERM ends us as by SIGINT: fixtures take away what they have made.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.default_int_handler)

# No test is a measure of time: the machine may be busy with something else.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

KERNELS = CHECKOUT / ".cache/hyper/kernels"
QEMU = CHECKOUT / ".cache/hyper/qemu" / MACHINES[host_name()].program  # where `make qemu` puts it
# What runs guests of this host's architecture: emulated they are everywhere, and the same. `make vm ACCELERATOR=kvm` is
# for hosts where KVM works, and for the lab (tools/lab.py).
ACCELERATOR = os.environ.get("ACCELERATOR", "tcg")
MACHINE = os.environ.get("MACHINE", "")  # … and as which machine: the setting

# Tests that compile find zig's C library where `make setup` has built it, which takes most of a minute.
os.environ.setdefault("ZIG_GLOBAL_CACHE_DIR", str(CHECKOUT / ".cache/zig"))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """A process among several has a folder of a short name, for paths of sockets are no longer than 107 bytes."""
    if hasattr(config, "workerinput"):
        config.option.basetemp = config.option.basetemp.replace("/popen-gw", "/")


def pytest_addoption(parser: pytest.Parser) -> None:
    factories = ["cache", "template", "direct"]
    parser.addoption("--kernel", default="", help="name of the bundle that guests boot, of those in .cache/hyper")
    parser.addoption("--qemu", default="", help="program that runs guests of this architecture, by its whole path")
    parser.addoption("--factory", choices=factories, default=Settings().factory, help="where guests come from")


# Tests under way: when each began, in seconds of a clock that only goes on.
under_way: dict[str, float] = {}


def pytest_runtest_logstart(nodeid: str) -> None:
    under_way[nodeid] = time.monotonic()


def pytest_runtest_logfinish(nodeid: str) -> None:
    under_way.pop(nodeid, None)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """The last lines name the tests that have not ended: who interrupts a run learns what hung."""
    yield
    for nodeid, began in under_way.items():
        terminalreporter.write_line(f"UNENDED {nodeid}: begun {time.monotonic() - began:.0f} s ago")


@pytest.fixture(autouse=True)
def nothing_mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """After each test nothing is mounted in the folders of tests that was not before it."""
    folder = tmp_path_factory.getbasetemp()
    before = mounts_below(folder)
    yield
    left = [path for path in mounts_below(folder) if path not in before]
    unmount(left)
    assert left == []


@pytest.fixture(scope="session")
def busybox_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A docker archive of the image busybox:latest: sh, the applets, /etc/passwd, /www/index.html."""
    path = tmp_path_factory.mktemp("busybox") / "busybox.tar"
    write_archive(path)
    return path


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """files.c as a program that runs here and in a container."""
    return zig.program(tmp_path_factory.mktemp("files") / "files", Path(__file__).with_name("files.c"))


@pytest.fixture(scope="session")
def kernels() -> Path:
    """The folder of kernel bundles that `make setup` filled."""
    assert list(KERNELS.glob("*/bundle.json")), "no kernel for guests: run `make setup`"
    return KERNELS


@pytest.fixture(scope="session")
def shared_hyperd(kernels: Path, busybox_archive: Path, pytestconfig: pytest.Config) -> Iterator[PrivateDaemon]:
    """One hyperd for the whole run, with the image busybox. Its guests are of one size, so that every machine
    runs the same; what the default size does is test_memory's."""
    options = {name: str(pytestconfig.getoption(name)) for name in ("factory", "kernel", "qemu")}
    options["apparmor_profiles"] = str(PROFILES)
    settings: dict[str, Value] = {
        "accelerator": ACCELERATOR,
        "machine": MACHINE,
        "vcpus": 1,
        "memory_mib": 256,
        **options,
    }
    with private_daemon(kernels, settings) as daemon:
        loaded = daemon.ctl("load", "-i", str(busybox_archive))
        assert loaded.status == 0, loaded.err
        yield daemon


@pytest.fixture
def hyper(shared_hyperd: PrivateDaemon) -> Iterator[PrivateDaemon]:
    """`hyper.ctl(WORD...)` calls hyperctl and gives (status, out, err). What the test leaves is removed after it."""
    if shared_hyperd.process is None or shared_hyperd.process.poll() is not None:
        shared_hyperd.start()
    yield shared_hyperd
    if shared_hyperd.process is None or shared_hyperd.process.poll() is not None:
        shared_hyperd.start()
    shared_hyperd.clear()
    left = [shared_hyperd.ctl(*words) for words in (("ps", "-a", "-q"), ("volume", "ls", "-q"))]
    assert left == [(0, "", "")] * 2


@pytest.fixture
def runv(hyper: PrivateDaemon, tmp_path: Path) -> Iterator[Runv]:
    """`runv(WORD...)` gives (status, out, err). What the test leaves is removed after it."""
    runv = Runv(hyper, tmp_path)
    yield runv
    runv.close()
