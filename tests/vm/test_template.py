"""Clones of real guests: they are guests of their own, and nobody can reach the template that they came from."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from hypercontainer.errors import GuestDied
from hypercontainer.factory.direct import DirectFactory
from hypercontainer.factory.sealed import SealedFile
from hypercontainer.factory.template import TemplateFactory
from hypercontainer.hypervisor.base import SNAPSHOT_MAC, Nic, Snapshot, VmConfig
from hypercontainer.hypervisor.qemu.driver import QemuHypervisor
from hypercontainer.hypervisor.qemu.rundir import qemu_run
from hypercontainer.lib import proc
from hypercontainer.lib.trace import Timings
from hypercontainer.model.record import ProcessRef
from hypercontainer.testing.contract import FactoryContract, made
from hypercontainer.testing.daemon import PrivateDaemon, Value, private_daemon
from tests.conftest import ACCELERATOR
from tests.vm.test_jail import Process, without_privileges

pytestmark = pytest.mark.vm

T = TypeVar("T")
CLOCK_S = 1.0
IDLE_MIB = 40  # of memory that a clone has for itself, TCG's translations included


@pytest.fixture
def config(with_agent: Callable[..., VmConfig]) -> VmConfig:
    """Its NIC leads nowhere."""
    return with_agent(nics=[Nic(tap="", mac=SNAPSHOT_MAC)])


class TestQemuTemplates(FactoryContract):
    pass


class TestQemuDirect(FactoryContract):
    @pytest.fixture
    def factory(self, driver: QemuHypervisor) -> DirectFactory:
        return DirectFactory(driver)


async def test_a_state_that_is_none_is_said_and_leaves_nothing(
    driver: QemuHypervisor, config: VmConfig, run_dir: Path
) -> None:
    memory, state = SealedFile("memory", config.memory_mib << 20), SealedFile("state", 4096)
    origin = Snapshot(memory=memory.fileno(), state=state.fileno())
    with pytest.raises(GuestDied, match="migration"):
        await driver.boot(replace(config, origin=origin), run_dir, Timings())
    assert list(run_dir.iterdir()) == []


async def test_a_clone_runs_without_privileges_and_cannot_write_its_template(
    factory: TemplateFactory, config: VmConfig, run_dir: Path
) -> None:
    async with made(factory, config, run_dir) as vm:
        qemu = Process(vm.guest.record.process.pid)
        without_privileges(qemu, vm.guest.record.uid)
        assert qemu.word("Seccomp") == "2"
        assert {path.name for path in (qemu.path / "root").iterdir()} >= {"proc", "usr", "dev"}
        assert not (qemu.path / "root/boot").exists()
        assert not (qemu.path / "root/proc/sys").exists()  # nothing of the host's kernel: processes alone
        assert {p.name for p in (qemu.path / "root/proc").iterdir() if p.name.isdigit()} == {"1"}
        kinds = {point: (kind, options) for point, options, kind in qemu.mounts()}
        assert kinds["/proc"][0] == "proc" and {"ro", "nosuid", "nodev", "noexec"} <= kinds["/proc"][1]
        memory = [fd for fd in (qemu.path / "fd").iterdir() if "template memory" in os.readlink(fd)]
        assert memory
        for path in memory:
            with open(path, "r+b", buffering=0) as file, pytest.raises(PermissionError):
                file.write(b"x")
            with pytest.raises(PermissionError):
                os.truncate(path, 0)


async def test_a_clones_guest_may_reset_its_nic(factory: TemplateFactory, config: VmConfig, run_dir: Path) -> None:
    """As each does when it powers off: QEMU ended by a segmentation fault in it, and that was the cause."""
    async with made(factory, config, run_dir) as vm:
        assert await vm.power_off() == "powered off"


async def test_a_clone_is_given_its_memory_by_the_small_page(
    factory: TemplateFactory, config: VmConfig, run_dir: Path
) -> None:
    """QEMU asks the kernel for large ones; so few bytes of a guest's would take 2 MiB each."""
    async with made(factory, config, run_dir) as vm:
        pid = vm.guest.record.process.pid
        assert Process(pid).word("THP_enabled") == "0"
        assert "AnonHugePages: 0 kB" in " ".join(Path(f"/proc/{pid}/smaps_rollup").read_text().split())


async def test_idle_clones_share_their_pages(factory: TemplateFactory, config: VmConfig, run_dir: Path) -> None:
    folders = [run_dir / str(n) for n in range(10)]
    for folder in folders:
        folder.mkdir(mode=0o711)
    clones = [await factory.boot(config, folder, Timings()) for folder in folders]
    sizes = [pss_mib(vm.guest.record.process.pid) for vm in clones]
    for vm in clones:
        await vm.close()
        await vm.guest.kill()
    for folder in folders:
        folder.rmdir()
    assert sum(sizes) / len(sizes) < IDLE_MIB, sizes


def pss_mib(pid: int) -> float:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    assert found
    return int(found[1]) / 1024


# hyperd's


@pytest.fixture(scope="module")
def cloning(kernels: Path, busybox_archive: Path) -> Iterator[PrivateDaemon]:
    """A hyperd whose guests are clones, with the image busybox."""
    with private_daemon(kernels, {"accelerator": ACCELERATOR, "factory": "template", "memory_mib": 256}) as daemon:
        assert daemon.ctl("load", "-i", str(busybox_archive)).status == 0
        yield daemon
        assert list((daemon.folder / "run/pods").glob("template-*")) == []


IDENTITY = (
    "od -An -N16 -tx1 /dev/urandom; cat /proc/sys/kernel/random/uuid; hostname; cat /sys/class/net/eth0/address;"
    "ip -4 addr show eth0 | grep inet; date +%s"
)


def identity(daemon: PrivateDaemon) -> tuple[list[str], float]:
    done = daemon.ctl("run", "--rm", "busybox", "sh", "-c", IDENTITY)
    assert done.status == 0, done
    lines = [line.strip() for line in done.out.splitlines()]
    return lines[:-1], abs(int(lines[-1]) - time.time())


def test_clones_at_once_differ_in_all_that_names_them(cloning: PrivateDaemon) -> None:
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: identity(cloning), range(3)))
    assert not cloning.log().count("cannot clone")
    for words in zip(*(words for words, _ in answers), strict=True):
        assert len(set(words)) == len(answers), words


def test_a_clones_address_is_the_bridges_idea_of_it(cloning: PrivateDaemon) -> None:
    cloning.ctl("run", "-d", "--name", "web", "busybox", "httpd", "-f", "-h", "/www")
    networks = json.loads(cloning.ctl("inspect", "web").out)[0]["NetworkSettings"]
    assert cloning.ctl("exec", "web", "cat", "/sys/class/net/eth0/address").out.strip() == networks["MacAddress"]
    fetched = cloning.ctl("run", "--rm", "busybox", "wget", "-q", "-O", "-", f"http://{networks['IPAddress']}/")
    assert "virtual machine" in fetched.out, fetched
    cloning.ctl("rm", "-f", "web")


def test_no_network_more_memory_and_shares_work_as_ever(cloning: PrivateDaemon, tmp_path: Path) -> None:
    script = (
        "ls /sys/class/net | tr '\\n' ' '; grep -c processor /proc/cpuinfo; awk '/MemTotal/{print $2}' /proc/meminfo"
    )
    options = ["--network", "none", "--cpus", "2", "--memory", "384m"]
    nets, cpus, memory_kib = cloning.ctl("run", "--rm", *options, "busybox", "sh", "-c", script).out.split()
    assert (nets, cpus) == ("lo", "2")
    assert 300_000 < int(memory_kib) < 384 << 10
    (tmp_path / "f").write_text("shared")
    assert cloning.ctl("run", "--rm", "-v", f"{tmp_path}:/d", "busybox", "cat", "/d/f").out == "shared"
    assert not cloning.log().count("booting it")


def test_a_clone_has_the_disks_of_all_its_containers_also_of_later_ones(cloning: PrivateDaemon, tmp_path: Path) -> None:
    containers = [{"name": name, "image": "busybox", "command": ["sleep", "1000"]} for name in ("one", "two")]
    (tmp_path / "pod.yaml").write_text(json.dumps({"name": "both", "containers": containers}))
    assert cloning.ctl("pod", "run", "-f", str(tmp_path / "pod.yaml")).status == 0
    assert cloning.ctl("run", "-d", "--pod", "both", "--name", "three", "busybox", "sleep", "1000").status == 0
    for name in ("one", "two", "three"):
        assert cloning.ctl("exec", name, "sh", "-c", "echo mine > /mine; cat /mine").out == "mine\n"
    assert cloning.ctl("rm", "-f", "one").status == 0  # whose disks were there before the clone
    assert cloning.ctl("run", "--pod", "both", "--name", "four", "busybox", "cat", "/www/index.html").status == 0
    assert cloning.ctl("exec", "two", "cat", "/mine").out == "mine\n"
    assert cloning.ctl("pod", "rm", "-f", "both").status == 0


def test_steps_of_a_clone_are_shown(cloning: PrivateDaemon) -> None:
    shown = cloning.ctl("run", "--rm", "--timings", "busybox", "true").err
    assert "clone" in shown and "agent" in shown


def test_a_hyperd_killed_while_it_makes_a_template_leaves_nothing(kernels: Path, busybox_archive: Path) -> None:
    settings: dict[str, Value] = {
        "accelerator": ACCELERATOR,
        "factory": "template",
        "pool": [],
    }  # made when it is needed
    with private_daemon(kernels, settings) as daemon:
        daemon.ctl("load", "-i", str(busybox_archive))
        pods = daemon.folder / "run/pods"
        with subprocess.Popen(daemon.argv("run", "busybox", "true"), env=daemon.env, stderr=subprocess.DEVNULL):
            making = wait_for(lambda: [run for run in map(qemu_run, pods.glob("template-*")) if run.processes("qemu")])
            processes = making[0].processes("qemu")
            daemon.signal(signal.SIGKILL)
        assert alive(processes) == processes
        daemon.start()
        assert daemon.ctl("run", "--rm", "busybox", "echo", "well").out == "well\n"
        assert alive(processes) == []
        assert list(pods.glob("template-*")) == []


def test_clones_outlive_the_hyperd_that_made_them(cloning: PrivateDaemon) -> None:
    cloning.ctl("run", "-d", "--name", "kept", "busybox", "sleep", "1000")
    cloning.signal(signal.SIGKILL)
    cloning.start()
    assert cloning.ctl("exec", "kept", "echo", "here").out == "here\n"
    assert cloning.ctl("run", "--rm", "busybox", "echo", "a new template").out == "a new template\n"
    assert cloning.ctl("rm", "-f", "kept").status == 0


def alive(processes: list[ProcessRef]) -> list[ProcessRef]:
    return [process for process in processes if proc.start_time(process.pid) == process.start_time]


def wait_for(look: Callable[[], list[T]]) -> list[T]:
    deadline = time.monotonic() + 300
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)
    return found
