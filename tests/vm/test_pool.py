"""Real guests that wait: whoever comes first gets one, what is wrong with one costs nobody a start."""

import asyncio
import itertools
import json
import os
import signal
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.client.http import Client
from hypercontainer.engine import rehearsal
from hypercontainer.factory.base import PoolSpec
from hypercontainer.factory.cache import CacheFactory
from hypercontainer.factory.direct import DirectFactory
from hypercontainer.factory.template import TemplateFactory
from hypercontainer.hypervisor.base import SNAPSHOT_MAC, Nic, SharedFolder, VmConfig
from hypercontainer.hypervisor.qemu.driver import BACKGROUND, QemuHypervisor
from hypercontainer.storage import scratch
from hypercontainer.storage.share import Share
from hypercontainer.testing.contract import FactoryContract, made
from hypercontainer.testing.daemon import PrivateDaemon, private_daemon
from tests.conftest import ACCELERATOR
from tests.vm.conftest import HYPERSTART, UID, UIDS, owner, time_passes

pytestmark = pytest.mark.vm

WAIT_S = 1500.0  # those that wait are made with a thirtieth of a processor, where others want it


@pytest.fixture
def config(with_agent: Callable[..., VmConfig]) -> VmConfig:
    """Its NIC leads nowhere."""
    return with_agent(nics=[Nic(tap="", mac=SNAPSHOT_MAC)])


@asynccontextmanager
async def waiting(driver: QemuHypervisor, config: VmConfig, room_kib: int = 0) -> AsyncIterator[CacheFactory]:
    """A factory where one such guest waits, and more while all have no more memory."""
    folder = Path(tempfile.mkdtemp(prefix="hyv"))
    folder.chmod(0o711)

    async def roots(arch: str, into: Path) -> Any:
        return await rehearsal.roots(lambda _: HYPERSTART, 512, folder / "scratch", arch, into)

    def uids() -> Iterator[int]:
        return itertools.count(UID + 5_000)

    def share(name: str) -> Share:
        return Share(folder / "shares" / name)

    async def new_scratch(name: str) -> Path:
        await scratch.create(path := folder / "scratch" / f"{name}.img", 512, folder / "scratch")
        return path

    templates = TemplateFactory(driver, folder, UID + 10_000, roots)
    direct = DirectFactory(driver)
    factory = CacheFactory(templates, direct, driver, folder, uids, share, roots, lambda: room_kib, new_scratch)
    await factory.init([PoolSpec(config=config, template=True, cache=1)])
    assert [pool.waiting for pool in factory.pools()] == [1]
    yield factory
    await factory.close()
    for path in (folder / "scratch").glob("ext4-*"):
        path.unlink()
    for left in folder.iterdir():
        left.rmdir()  # "scratch" and "shares", with nothing in them
    folder.rmdir()


class TestQemuCache(FactoryContract):
    @pytest.fixture
    async def factory(self, driver: QemuHypervisor, config: VmConfig) -> AsyncIterator[CacheFactory]:
        async with waiting(driver, config) as factory:
            yield factory


class TestQemuCacheOfGuestsWithAShare(FactoryContract):
    @pytest.fixture
    async def factory(self, driver: QemuHypervisor, config: VmConfig) -> AsyncIterator[CacheFactory]:
        async with waiting(driver, replace(config, share=SharedFolder(folder=Path()))) as factory:
            yield factory


@pytest.mark.parametrize(("room_kib", "wait"), [(1 << 10, 1), (1 << 20, 3)])
async def test_as_many_wait_as_starts_in_a_row_needed(
    driver: QemuHypervisor, config: VmConfig, run_dir: Path, room_kib: int, wait: int
) -> None:
    async with waiting(driver, config, room_kib) as factory:
        for number in range(3):
            folder = run_dir / str(number)
            folder.mkdir()
            async with made(factory, config, folder):
                pass
            folder.rmdir()
        async with asyncio.timeout(WAIT_S):
            while [pool.waiting for pool in factory.pools()] != [wait]:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert [pool.wanted for pool in factory.pools()] == [wait]


@pytest.fixture(scope="module")
def pooling(kernels: Path, busybox_archive: Path) -> Iterator[PrivateDaemon]:
    """A hyperd of whose usual size one VM waits, and one of another size that is booted."""
    pool: list[dict[str, int | bool]] = [{"cache": 1}, {"vcpus": 2, "memory_mib": 320, "template": False, "cache": 1}]
    with private_daemon(
        kernels, {"accelerator": ACCELERATOR, "factory": "cache", "memory_mib": 256, "pool": pool}
    ) as daemon:
        assert daemon.ctl("load", "-i", str(busybox_archive)).status == 0
        yield daemon
        first = int(str(daemon.settings["uid_base"])) + UIDS
    assert [tap for tap in Path("/sys/class/net").glob("hyw*") if 0 <= owner(tap) - first < 1000] == []


def pools(daemon: PrivateDaemon) -> list[dict[str, int]]:
    with Client(str(daemon.socket)) as client:
        found: list[dict[str, int]] = client.get("/v1/factory")["Pools"]
    return found


def full(daemon: PrivateDaemon) -> list[dict[str, int]]:
    """Wait until there are pools, and all who are wanted wait."""
    deadline = time.monotonic() + WAIT_S
    while True:
        found = pools(daemon)
        if found and all(pool["Waiting"] == pool["Wanted"] for pool in found):
            return found
        assert time.monotonic() < deadline, found
        time_passes()  # who asks all the time takes the processor from those who wait for it


def scratches(daemon: PrivateDaemon) -> dict[str, int]:
    """Inodes of the scratch disks of VMs that wait, by where those are."""
    return {path.stem: path.stat().st_ino for path in (daemon.root / "waiting").iterdir()}


def vmms(daemon: PrivateDaemon) -> list[int]:
    """Of VMs that wait."""
    files = (daemon.folder / "run/pods").glob("waiting-*/qemu.pid")
    return [int(file.read_text().splitlines()[1].split()[0]) for file in files]


def test_a_start_takes_one_that_waits_and_another_takes_its_place(pooling: PrivateDaemon) -> None:
    before = full(pooling)[0]["Taken"]
    ran = pooling.ctl(
        "run", "--rm", "--timings", "busybox", "sh", "-c", "hostname; ip -4 addr show eth0; cat /etc/hosts"
    )
    assert ran.status == 0, ran.err
    assert "claim" in ran.err and "monitor" not in ran.err
    assert "rehearsal" not in ran.out and "192.0.2." not in ran.out
    assert full(pooling)[0]["Taken"] == before + 1


def test_one_that_waits_gives_way_to_others_until_it_is_a_pods(pooling: PrivateDaemon) -> None:
    full(pooling)
    assert {os.getpriority(os.PRIO_PROCESS, pid) for pid in vmms(pooling)} == {BACKGROUND}
    known = set(vmms(pooling))
    made = pooling.ctl("run", "-d", "--name", "first", "busybox", "sleep", "1000")
    assert made.status == 0, made.err
    pid = int(pooling.ctl("inspect", "--format", "{{.Vm.Pid}}", "first").out)
    assert pid in known
    threads = [int(thread) for thread in os.listdir(f"/proc/{pid}/task")]
    assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads} == {0}
    assert pooling.ctl("rm", "-f", "first").status == 0


def test_what_waits_is_of_its_size(pooling: PrivateDaemon) -> None:
    full(pooling)
    ran = pooling.ctl("run", "--rm", "--timings", "--cpus", "2", "--memory", "320m", "busybox", "nproc")
    assert (ran.status, ran.out) == (0, "2\n") and "claim" in ran.err
    ran = pooling.ctl("run", "--rm", "--timings", "--memory", "300m", "busybox", "true")
    assert ran.status == 0 and "claim" not in ran.err


def test_a_container_of_the_pool_is_on_the_network_and_keeps_its_files(pooling: PrivateDaemon) -> None:
    full(pooling)
    mounted = scratches(pooling)
    made = pooling.ctl("run", "-d", "--name", "web", "-p", "0:80", "busybox", "httpd", "-f", "-h", "/www")
    assert made.status == 0, made.err
    [disk] = (pooling.root / "pods").glob("*/*/scratch.img")
    assert disk.stat().st_ino in mounted.values()
    port = pooling.ctl("port", "web", "80").out.split(":")[-1].strip()
    wait = "until wget -qO- http://127.0.0.1/; do sleep 0.1; done"
    assert pooling.ctl("exec", "web", "sh", "-c", wait).status == 0
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
        assert answer.status == 200
    assert pooling.ctl("exec", "web", "sh", "-c", "echo kept > /kept").status == 0
    assert pooling.ctl("diff", "web").out.split() == ["A", "/kept"]
    full(pooling)
    assert not set(mounted.values()).issubset(scratches(pooling).values())
    assert pooling.ctl("restart", "web").status == 0  # in another, which has mounted a disk for who is new
    assert pooling.ctl("exec", "web", "cat", "/kept").out == "kept\n"
    assert pooling.ctl("exec", "web", "sh", "-c", "echo still > /kept && sync && cat /kept").out == "still\n"
    assert disk.stat().st_ino in mounted.values()
    assert pooling.ctl("rm", "-f", "web").status == 0


def test_a_disk_of_another_size_takes_the_place_of_that_which_was_mounted(pooling: PrivateDaemon) -> None:
    full(pooling)
    before = pools(pooling)[0]["Taken"]
    size = "df -m / | tail -1 | awk '{ print ($2 < 100) }'"
    for name in ("--storage-size=64m", "--storage-size=60m"):
        ran = pooling.ctl("run", "--rm", "--timings", name, "busybox", "sh", "-c", f"echo x > /x; sync; {size}")
        assert (ran.status, ran.out) == (0, "1\n") and "claim" in ran.err, ran.err
        full(pooling)
    assert pools(pooling)[0]["Taken"] == before + 2
    assert set(scratches(pooling)) == {path.name for path in (pooling.folder / "run/pods").glob("waiting-*")}


def test_one_that_is_killed_is_replaced(pooling: PrivateDaemon) -> None:
    before = full(pooling)[0]["Poisoned"]
    poisoned = before + pools(pooling)[1]["Poisoned"]
    for pid in vmms(pooling):
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + WAIT_S
    while sum(pool["Poisoned"] for pool in pools(pooling)) < poisoned + 2:
        assert time.monotonic() < deadline
        time_passes()
    full(pooling)
    assert pooling.ctl("run", "--rm", "busybox", "true").status == 0


def test_one_that_is_wedged_costs_a_second_and_is_thrown_away(pooling: PrivateDaemon) -> None:
    full(pooling)
    before, stopped = pools(pooling)[0]["Poisoned"], vmms(pooling)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    ran = pooling.ctl("run", "--rm", "busybox", "echo", "all the same")
    assert (ran.status, ran.out) == (0, "all the same\n")
    assert pools(pooling)[0]["Poisoned"] == before + 1
    for pid in stopped:  # the other size's still waits
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass


def test_all_are_let_go_and_made_again_when_asked(pooling: PrivateDaemon) -> None:
    full(pooling)
    assert pooling.ctl("factory", "destroy").status == 0
    assert (pools(pooling), vmms(pooling), scratches(pooling)) == ([], [], {})
    assert pooling.ctl("run", "--rm", "busybox", "true").status == 0
    assert pooling.ctl("factory", "init").status == 0
    assert [pool["Waiting"] for pool in pools(pooling)] == [1, 1]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_none_outlives_its_hyperd_for_long(pooling: PrivateDaemon, number: int) -> None:
    full(pooling)
    kept = pooling.ctl("run", "-d", "--name", "kept", "busybox", "sleep", "1000")
    assert kept.status == 0, kept.err
    full(pooling)
    old, disks = vmms(pooling), scratches(pooling)
    pooling.signal(number)
    assert number == signal.SIGKILL or (vmms(pooling), scratches(pooling)) == ([], {})
    pooling.start()
    assert pooling.ctl("exec", "kept", "echo", "still here").out == "still here\n"
    full(pooling)
    assert not set(old).intersection(vmms(pooling)) and not set(disks).intersection(scratches(pooling))
    assert pooling.ctl("rm", "-f", "kept").status == 0


def test_the_status_is_told(pooling: PrivateDaemon) -> None:
    full(pooling)
    said = pooling.ctl("factory", "status").out.splitlines()
    assert said[0] == "VMs are taken from those that wait, else cloned from templates"
    assert said[1].split() == [
        "VCPUS",
        "MEMORY",
        "SHARE",
        "NETWORK",
        "TENANT",
        "WANTED",
        "WAITING",
        "TAKEN",
        "POISONED",
    ]
    assert said[2].split()[:6] == ["1", "256MiB", "no", "yes", "1", "1"]
    rows = pooling.ctl("factory", "status", "--format", "json").out.splitlines()
    assert "256MiB" in {json.loads(row)["Memory"] for row in rows}


def test_a_size_that_nobody_foresaw_is_had_by_adding_to_a_clone(pooling: PrivateDaemon) -> None:
    full(pooling)
    script = (
        "nproc; awk '/MemTotal/ {print $2}' /proc/meminfo; dd if=/dev/zero of=/dev/shm/x bs=1M count=300 2>&1 | tail -1"
    )
    command = ("run", "--rm", "--timings", "--cpus", "3", "--memory", "800m", "--shm-size", "400m", "busybox")
    grown = pooling.ctl(*command, "sh", "-c", script)
    assert grown.status == 0, grown.err
    assert "resize" in grown.err and "clone" in grown.err
    processors, total_kib, copied = grown.out.splitlines()
    assert processors == "3" and int(total_kib) > 700 << 10 and copied == "300+0 records out"


def test_a_pod_that_begins_empty_takes_its_containers_later(pooling: PrivateDaemon, tmp_path: Path) -> None:
    (tmp_path / "pod.json").write_text(json.dumps({"name": "later", "containers": []}))
    for start in ("waiting", "cloned"):
        if start == "waiting":
            full(pooling)
        made = pooling.ctl("pod", "run", "-f", str(tmp_path / "pod.json"))
        assert made.status == 0, made.err
        for name in ("one", "two"):
            ran = pooling.ctl("run", "--pod", "later", "--name", name, "busybox", "echo", name)
            assert (ran.status, ran.out) == (0, f"{name}\n"), ran.err
        pooling.signal(signal.SIGTERM)
        pooling.start()
        assert pooling.ctl("rm", "one").status == 0
        ran = pooling.ctl("run", "--pod", "later", "--name", "three", "busybox", "echo", "three")
        assert (ran.status, ran.out) == (0, "three\n"), ran.err
        assert pooling.ctl("start", "-a", "two").out == "two\n"
        assert pooling.ctl("pod", "rm", "-f", "later").status == 0
        assert pooling.ctl("factory", "destroy").status == 0
    assert pooling.ctl("factory", "init").status == 0
