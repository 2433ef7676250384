"""Guests of the tests: a kernel, a PID 1 that obeys lines, a driver; and the proof that each test leaves nothing."""

import asyncio
import functools
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import hypercontainer
from hypercontainer.factory.template import TemplateFactory
from hypercontainer.hypervisor.base import Hypervisor, VmConfig
from hypercontainer.hypervisor.host.limits import cgroup_name
from hypercontainer.hypervisor.qemu.driver import QemuHypervisor
from hypercontainer.hypervisor.qemu.guest import QemuGuest
from hypercontainer.hypervisor.qemu.machines import machine_named
from hypercontainer.images import workspace
from hypercontainer.kernel import initramfs
from hypercontainer.kernel.bundle import KernelStore
from hypercontainer.kernel.modules import ModuleTree, boot
from hypercontainer.lib.trace import Timings
from hypercontainer.model.arch import host_name
from hypercontainer.storage.share import Share
from hypercontainer.testing.daemon import PrivateDaemon
from tests import zig
from tests.conftest import ACCELERATOR, KERNELS, MACHINE, QEMU

# a kernel and a QEMU of our own are tested where they were built
collect_ignore = [] if any(bundle.source for bundle in KernelStore(KERNELS.parent).list()) else ["test_kernel.py"]
collect_ignore += [] if QEMU.exists() else ["test_own_qemu.py"]

GUEST_S = 300.0  # of a wait for an event: room costs nothing, and the machine may be busy
UID = 1_899_000_000
UIDS = 65536  # from the users of pods' VMMs to those of VMMs that wait, and are pods' later
LEAVING_S = 60.0  # for the kernel to take down a namespace after its last process

HYPERSTART = Path(hypercontainer.__file__).parent / "_bin" / host_name() / "hyperstart"

Line = Callable[[str], Awaitable[str]]


class BootFiles(NamedTuple):
    kernel: Path
    initrd: Path


@pytest.fixture(scope="session")
def boot_files(kernels: Path, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> BootFiles:
    """The kernel of `make setup` (or of --kernel), with the tests' own PID 1."""
    folder = tmp_path_factory.mktemp("guest")
    init = zig.program(folder / "init", Path(__file__).with_name("guest.c"))
    bundle = KernelStore(kernels.parent).get(str(pytestconfig.getoption("kernel")))
    wanted = (*boot(bundle.arch), *machine_named(MACHINE, bundle.arch).modules)
    modules = ModuleTree(bundle.path / "modules").pick(wanted)
    initrd = folder / "initrd"
    initrd.write_bytes(initramfs.build(init.read_bytes(), modules))
    return BootFiles(bundle.kernel, initrd)


def ok(hyper: PrivateDaemon, *words: str, stdin: bytes = b"") -> str:
    """What `hyperctl WORDS` printed; it must succeed."""
    done = hyper.ctl(*words, stdin=stdin)
    assert done.status == 0, (words, done)
    return done.out.strip()


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A short path: sockets are in it. Nobody else's is beside it."""
    with tempfile.TemporaryDirectory(prefix="hyv") as home:
        path = Path(home, "v")
        path.mkdir(mode=0o700)
        yield path
        assert list(path.iterdir()) == []


@pytest.fixture
def driver(pytestconfig: pytest.Config) -> QemuHypervisor:
    return QemuHypervisor(str(pytestconfig.getoption("qemu")), machine=machine_named(MACHINE, host_name()))


@pytest.fixture
def hypervisor(driver: QemuHypervisor) -> QemuHypervisor:
    """For the contract suites."""
    return driver


@pytest.fixture
def share(tmp_path: Path) -> Iterator[Share]:
    """For the contract suite of factories: a pod's."""
    share = Share(tmp_path / "share")
    yield share
    share.clear()


@pytest.fixture
def config(boot_files: BootFiles) -> Callable[..., VmConfig]:
    """config(WORD…, key=value…): a guest that finds the words on its kernel's command line."""

    def make(*words: str, **changes: Any) -> VmConfig:
        values: dict[str, Any] = {
            "name": "test",
            "kernel": boot_files.kernel,
            "initrd": boot_files.initrd,
            "vcpus": 1,
            "memory_mib": 128,
            "uid": UID + secrets.randbelow(10_000),
            "boot_timeout_s": GUEST_S,
            "accelerator": ACCELERATOR,
            "kernel_parameters": words,
        }
        return VmConfig(**(values | changes))

    return make


@pytest.fixture
def booted(
    driver: QemuHypervisor, config: Callable[..., VmConfig], run_dir: Path
) -> Callable[..., AbstractAsyncContextManager[QemuGuest]]:
    """`async with booted(WORD…, key=value…) as guest`: a guest that is killed at the block's end."""

    @asynccontextmanager
    async def boot(*words: str, **changes: Any) -> AsyncIterator[QemuGuest]:
        guest = await driver.boot(config(*words, **changes), run_dir, Timings())
        try:
            yield guest
        finally:
            await guest.kill()

    return boot


@pytest.fixture
def with_agent(driver: QemuHypervisor, config: Callable[..., VmConfig], kernels: Path) -> Callable[..., VmConfig]:
    """with_agent(key=value…): a guest as users boot it, hyperstart in it."""
    store = KernelStore(kernels.parent)
    kernel, initrd = store.boot_files(store.get(), HYPERSTART, driver.modules)
    return functools.partial(config, kernel=kernel, initrd=initrd)


def guest_of(hypervisor: Hypervisor, kernels: Path, accelerator: str) -> VmConfig:
    """For the contract suite of another driver than QEMU's: a guest as users boot it, hyperstart in it."""
    store = KernelStore(kernels.parent)
    kernel, initrd = store.boot_files(store.get(), HYPERSTART, hypervisor.modules)
    return VmConfig(
        name="test",
        kernel=kernel,
        initrd=initrd,
        vcpus=1,
        memory_mib=128,
        uid=UID + 7,
        boot_timeout_s=GUEST_S,
        accelerator=accelerator,
    )


@asynccontextmanager
async def templates(driver: Hypervisor) -> AsyncIterator[TemplateFactory]:
    """A factory that keeps templates, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="hyv"))
    folder.chmod(0o711)
    factory = TemplateFactory(driver, folder, UID + 10_000)
    try:
        yield factory
    finally:
        await factory.close()
        folder.rmdir()


@pytest.fixture
async def factory(driver: QemuHypervisor) -> AsyncIterator[TemplateFactory]:
    async with templates(driver) as factory:
        yield factory


@asynccontextmanager
async def obeying(guest: QemuGuest) -> AsyncIterator[Line]:
    """A line for the guest's PID 1, its answer back."""
    reader, writer = await asyncio.open_unix_connection(str(guest.agent_socket))

    async def ask(line: str) -> str:
        writer.write(f"{line}\n".encode())
        async with asyncio.timeout(GUEST_S):
            return (await reader.readline()).decode().strip()

    try:
        yield ask
    finally:
        writer.close()


@pytest.fixture
def line() -> Callable[[QemuGuest], AbstractAsyncContextManager[Line]]:
    """`async with line(guest) as ask: await ask("ping")`"""
    return obeying


# Nothing is left


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """After each test: no process, mount, cgroup, tap, network namespace, nft rule or file of it is there any more.

    Others may run virtual machines here at the same time: what is theirs is told apart by folder and user."""
    daemon = request.getfixturevalue("shared_hyperd") if "hyper" in request.fixturenames else None
    run_dir = request.getfixturevalue("run_dir") if "run_dir" in request.fixturenames else None
    territory = [path for path in (tmp_path, run_dir, daemon and daemon.folder) if path]
    uids = int(daemon.settings["uid_base"]) if daemon else UID
    homes = [*territory, *([run_dir.parent] if run_dir else []), *(cgroup_homes(daemon) if daemon else [])]
    known = {*mounts(territory), *idle_cgroups(homes), *taps(uids), *namespaces(), *rules(daemon), *bridges(daemon)}
    yield
    allowed = {daemon.process.pid} if daemon and daemon.process else set()
    left: list[str] = []
    for _ in range(int(LEAVING_S / 0.05)):
        things = {
            *mounts(territory),
            *idle_cgroups(homes),
            *taps(uids),
            *namespaces(),
            *rules(daemon),
            *bridges(daemon),
            *pods(daemon),
        } - known
        left = [*processes(territory, allowed), *sorted(things)]
        if not left:
            return
        time_passes()
    pytest.fail("left behind: " + "; ".join(left))


def namespaces() -> list[str]:
    return [f"netns {path.name}" for path in Path("/run/netns").glob(f"hy*-{os.getpid()}")]


def rules(daemon: PrivateDaemon | None) -> list[str]:
    """Lines of the daemon's nft tables: its base rules before the test, and nothing more after it."""
    if daemon is None:
        return []
    lines: list[str] = []
    for family in ("inet", "bridge"):
        argv = ["nft", "-s", "list", "table", family, str(daemon.settings["bridge"])]
        listed = subprocess.run(argv, capture_output=True, text=True, timeout=20)
        lines += [f"nft {family}: {line.strip()}" for line in listed.stdout.splitlines()]
    return lines


def bridges(daemon: PrivateDaemon | None) -> list[str]:
    """Of all networks of the daemon, which are known by whose they say they are."""
    if daemon is None:
        return []
    owner = f"hyper:{daemon.folder}/run"
    paths = [path for path in Path("/sys/class/net").glob("*/ifalias") if text(path) == owner]
    return [f"bridge {path.parent.name}" for path in paths]


def pods(daemon: PrivateDaemon | None) -> list[str]:
    """What a pod has on disk, for as long as it is there."""
    if daemon is None:
        return []
    folders = (daemon.folder / "run/pods", daemon.folder / "run/shares", daemon.root / "pods", daemon.root / "networks")
    left = [path for folder in folders if folder.exists() for path in folder.iterdir() if not nobodys(path)]
    scratches = (daemon.root / "waiting").glob("*")  # before the guest that has one goes, that does
    return [f"file {path}" for path in (*left, *(s for s in scratches if not (folders[0] / s.stem).exists()))]


def nobodys(path: Path | str) -> bool:
    """Of a virtual machine that waits for a pod, or of a template in the making: they come and go by themselves."""
    return "/run/pods/waiting-" in str(path) or "/run/pods/template-" in str(path)


def time_passes() -> None:
    subprocess.run(["sleep", "0.05"], check=True)


def processes(territory: list[Path], allowed: set[int]) -> list[str]:
    """Processes that hold a file of the territory open, live in it, or name it."""
    words = [str(path) for path in territory]
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in allowed | {os.getpid()}:
            continue
        try:
            places = [os.readlink(entry / "cwd"), *(os.readlink(fd) for fd in (entry / "fd").iterdir())]
            said = (entry / "cmdline").read_bytes()
            if os.readlink(entry / "exe").endswith("/hyper-standin"):  # it has the arguments of another
                said += (entry / "environ").read_bytes()
            command = said.replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # gone, of more privilege than we have, or a path too long to be ours (ENAMETOOLONG)
            continue
        if any(nobodys(place) for place in places) or nobodys(command):
            continue
        if any(place.startswith(f"{word}/") or place == word for place in places for word in words) or any(
            f"{word}/" in command for word in words
        ):
            found.append(f"process {entry.name}: {command[:120]}")
    return found


def left_behind(hyper: PrivateDaemon, more: Callable[[], Iterable[str]]) -> list[str]:
    """The processes of `hyper` beside its own, and `more`: what of them has not gone within LEAVING_S."""
    left: list[str] = []
    for _ in range(int(LEAVING_S / 0.05)):
        left = [*processes([hyper.folder], {hyper.process.pid} if hyper.process else set()), *more()]
        if not left:
            break
        time_passes()
    return left


def hyperd_of(hyperstart: Path) -> list[str]:
    """The command of a hyperd whose guests have that PID 1."""
    return [sys.executable, str(Path(__file__).with_name("hyperd_of.py")), str(hyperstart)]


def mounts(territory: list[Path]) -> list[str]:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [f"mount {point}" for point in points if any(point.startswith(f"{path}/") for path in territory)]


def cgroup_homes(daemon: PrivateDaemon) -> list[Path]:
    return [daemon.folder / "run/pods", daemon.root / "images/work"]


def idle_cgroups(homes: list[Path]) -> list[str]:
    """Of virtual machines that had a run directory in one of `homes`, or of what unpacked in a folder of one, and has
    ended: there is no process in them.

    A cgroup's name has its folder's and a digest of that one's path, so others' are told apart."""
    folders = [p for pattern in ("hyper/*/", "*/hyper/*/") for p in Path("/sys/fs/cgroup").glob(pattern) if p.is_dir()]
    ours = [p for p in folders if p.name in {cgroup_name(home / p.name.rpartition("-")[0]) for home in homes}]
    unpacking = [p for p in folders if p.name.startswith("unpack-")]
    ours += [p for p in unpacking if p.name in {workspace.cgroup_name(home / p.name.split("-")[1]) for home in homes}]
    return [f"cgroup {p}" for p in ours if not nobodys(f"/run/pods/{p.name}") and not text(p / "cgroup.procs")]


def taps(uids: int) -> list[str]:
    devices = [p.parent for p in Path("/sys/class/net").glob("*/tun_flags")]
    named = f"hyv{os.getpid()}"
    ours = [p for p in devices if p.name.startswith(named) or any(0 <= owner(p) - uids - n < 10_000 for n in (0, UIDS))]
    return [f"tap {p.name}" for p in ours if not p.name.startswith(("hyw", "hysnap"))]


def owner(device: Path) -> int:
    word = text(device / "owner")
    return int(word) if word.isdigit() else -1


def text(path: Path) -> str:
    """What a file of the kernel says, which may go at any moment."""
    try:
        return path.read_text().strip()
    except OSError:
        return "gone"
