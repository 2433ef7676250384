"""Kinds of root file systems in real guests: the contract, and what a container can do with each."""

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import msgspec
import pytest

from hypercontainer.engine import rehearsal
from hypercontainer.factory.base import Factory, PoolSpec, Roots
from hypercontainer.factory.cache import CacheFactory
from hypercontainer.factory.direct import DirectFactory
from hypercontainer.factory.template import TemplateFactory
from hypercontainer.hypervisor.base import SharedFolder, VmConfig
from hypercontainer.hypervisor.qemu import translations
from hypercontainer.hypervisor.qemu.driver import QemuHypervisor
from hypercontainer.lib import files
from hypercontainer.model.record import PodRecord, RootfsRecord
from hypercontainer.sandbox import agent_requests, rootfs
from hypercontainer.sandbox.site import Boot, Limits, Site
from hypercontainer.storage.mounted import MountedVolumes
from hypercontainer.storage.share import Share
from hypercontainer.storage.volume import VolumeStore
from hypercontainer.testing import busybox
from hypercontainer.testing.fake_network import FakeNetwork
from hypercontainer.testing.rootfs_contract import CONTENT, Root, RootfsContract, power_off, run, running, start
from tests import zig
from tests.unit.sandbox.lonely import FakeSupervisor, Household
from tests.vm.conftest import GUEST_S, HYPERSTART, UID, time_passes

pytestmark = [pytest.mark.vm, pytest.mark.skipif(os.geteuid() != 0, reason="mounts")]

MIB = 64  # of a disk
TRANSLATED = 2_300_000  # bytes: it is 1.3 to 2 MB, most of it of busybox itself, and was 2.7 with less rehearsed


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of busybox, with a place for all that is mounted."""
    path = tmp_path_factory.mktemp("tree")
    etc = {f"etc/{name}": b"" for name in ("hosts", "hostname", "resolv.conf")}
    files = {"file": CONTENT.encode(), **etc}
    with tarfile.open(fileobj=BytesIO(busybox.layer(busybox.find_busybox(), files))) as tar:
        tar.extractall(path)
    return path


@pytest.fixture(scope="module")
def images(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same, as a file system of each type."""
    folder = tmp_path_factory.mktemp("images")
    for argv in (
        ["mkfs.erofs", "-x-1", "erofs", str(tree)],
        ["mkfs.ext4", "-q", "-d", str(tree), "-E", "root_owner=0:0", "ext4", f"{MIB}M"],
    ):
        subprocess.run(argv, cwd=folder, check=True, capture_output=True, timeout=120)
    return {name: folder / name for name in ("erofs", "ext4")}


def site(driver: QemuHypervisor, config: VmConfig, factory: Factory, run: Path, scratches: Path) -> Site:
    async def boot(pod: PodRecord) -> Boot:
        return Boot(config.kernel, config.initrd, "tcg")

    return Site(
        limits=Limits(vcpus=1, memory_mib=128, scratch_mib=32, log_max_mib=1, log_files=1, boot_timeout_s=GUEST_S),
        hypervisor=driver,
        networks=lambda _: FakeNetwork(),
        factory=lambda _: factory,
        boot=boot,
        run=run,
        scratches=scratches,
        volumes=MountedVolumes(VolumeStore(scratches.with_name("volumes"))),
    )


@pytest.fixture
def boots(with_agent: Callable[..., VmConfig]) -> VmConfig:
    """What guests boot, and the user that their VMMs run as."""
    return with_agent()


@pytest.fixture
def direct(driver: QemuHypervisor, boots: VmConfig, run_dir: Path, tmp_path: Path) -> Iterator[Site]:
    """Where each guest is booted."""
    run_dir.chmod(0o711)
    yield site(driver, boots, DirectFactory(driver), run_dir, tmp_path / "scratch")
    for folder in ("pods", "shares"):
        if (run_dir / folder).exists():
            (run_dir / folder).rmdir()


@pytest.fixture
def house(direct: Site, boots: VmConfig, tmp_path: Path) -> Household:
    return Household(direct, supervisor(boots), tmp_path / "pods")


@pytest.fixture
async def clones(direct: Site, boots: VmConfig, factory: TemplateFactory, tmp_path: Path) -> Household:
    """The same, where guests are clones: they know their first disks before these have anything behind them."""
    return Household(replace(direct, factory=lambda _: factory), supervisor(boots), tmp_path / "pods")


def supervisor(boots: VmConfig) -> FakeSupervisor:
    made = FakeSupervisor(FakeNetwork())
    made.uid = boots.uid
    return made


class TestImage(RootfsContract):
    @pytest.fixture
    def root(self, images: dict[str, Path]) -> Iterator[Root]:
        before = images["erofs"].read_bytes()
        yield lambda: rootfs.image(images["erofs"])
        assert images["erofs"].read_bytes() == before


class TestDisk(RootfsContract):
    @pytest.fixture
    def house(self, clones: Household) -> Household:
        return clones

    @pytest.fixture
    def root(self, images: dict[str, Path], tmp_path: Path) -> Root:
        numbers = itertools.count()

        def new() -> RootfsRecord:
            disk = tmp_path / f"disk{next(numbers)}"
            shutil.copyfile(images["ext4"], disk)
            return rootfs.disk(disk, "ext4", read_only=False, options=["noatime"])

        return new


class TestReadOnlyDisk(RootfsContract):
    read_only = True

    @pytest.fixture
    def root(self, images: dict[str, Path]) -> Root:
        return lambda: rootfs.disk(images["erofs"], "erofs", read_only=True)


class TestDiskBelowAScratchDisk(RootfsContract):
    @pytest.fixture
    def root(self, images: dict[str, Path]) -> Iterator[Root]:
        before = images["ext4"].read_bytes()
        yield lambda: rootfs.disk(images["ext4"], "ext4", read_only=False, scratch=True)
        assert images["ext4"].read_bytes() == before


class TestFolder(RootfsContract):
    own = False

    @pytest.fixture
    def house(self, clones: Household) -> Household:
        return clones

    @pytest.fixture
    def root(self, tree: Path, tmp_path: Path) -> Root:
        copy = shutil.copytree(tree, tmp_path / "root", symlinks=True)
        return lambda: rootfs.folder(copy, read_only=False)


class TestReadOnlyFolder(RootfsContract):
    read_only = True

    @pytest.fixture
    def root(self, tree: Path) -> Root:
        return lambda: rootfs.folder(tree, read_only=True)


class TestBlockDevice(RootfsContract):
    @pytest.fixture
    def root(self, images: dict[str, Path], tmp_path: Path) -> Iterator[Root]:
        """By a name of its own, as device mapper gives them."""
        names: list[Path] = []

        def new() -> RootfsRecord:
            names.append(tmp_path / f"device{len(names)}")
            file = names[-1].with_suffix(".img")
            shutil.copyfile(images["ext4"], file)
            names[-1].symlink_to(losetup("--find", "--show", str(file)))
            return rootfs.disk(names[-1], "ext4", read_only=False)

        yield new
        for name in names:
            losetup("--detach", str(name.readlink()))


def losetup(*words: str) -> str:
    return subprocess.run(["losetup", *words], check=True, capture_output=True, text=True, timeout=60).stdout.strip()


# A folder of the host, with the host's users and attributes

EUID = """#include <stdio.h>
#include <unistd.h>
int main(void) { printf("%d\\n", geteuid()); return 0; }
"""


async def test_what_a_container_can_do_in_a_folder_of_the_host(house: Household, tree: Path, tmp_path: Path) -> None:
    root = shutil.copytree(tree, tmp_path / "root", symlinks=True)
    (tmp_path / "euid.c").write_text(EUID)
    program = root / "bin/euid"
    shutil.copy(zig.program(tmp_path / "euid", tmp_path / "euid.c"), program)
    program.chmod(0o4755)
    root.chmod(0o755)  # as the container's users see it
    (root / "home").chmod(0o777)
    pod = house.pod(rootfs.folder(root, read_only=False))
    async with running(pod) as [container]:

        async def sh(script: str, user: str = "") -> str:
            status, out = await run(pod, container, "sh", "-c", f"({script}) 2>&1", user=user)
            return f"{status} {out}".strip()

        # as in any container
        assert await sh("printf '#!/bin/sh\\necho script\\n' > s && chmod +x s && ./s") == "0 script"
        assert await sh("euid", user="www") == "0 0"  # the host's setuid program is one
        script = "cd /home && echo x > mine && mkdir d && mv mine d/other && ln d/other l && rm l"
        assert await sh(script, user="www") == "0"
        assert await sh("stat -c %u:%g /home/d/other") == "0 33:33"
        script = "touch owned && chown 5:50 owned && chmod 640 owned && stat -c %u:%g:%a owned"
        assert await sh(script) == "0 5:50:640"
        assert await sh("ln -s /file absolute && cat absolute") == f"0 {CONTENT.strip()}"
        assert await sh("mkfifo fifo && (echo through > fifo &) && cat fifo") == "0 through"
        assert await sh("echo > /dev/null && mknod /dev/zero2 c 1 5 && head -c 1 /dev/zero2 | wc -c") == "0 1"
        # as in no other
        assert "not permitted" in await sh("cp /bin/busybox own && chmod u+s own")
        assert "not permitted" in await sh("mkdir sticky && chmod g+s sticky")
        assert "not permitted" in await sh("mknod device c 1 3")
    assert (root / "home/d/other").stat().st_uid == 33 and (root / "owned").stat().st_uid == 5


# A guest that waited


@pytest.fixture
async def pool(driver: QemuHypervisor, direct: Site, boots: VmConfig, tmp_path: Path) -> AsyncIterator[CacheFactory]:
    async def roots(arch: str, into: Path) -> Roots:
        return await rehearsal.roots(lambda _: HYPERSTART, direct.limits.scratch_mib, direct.scratches, arch, into)

    def share(name: str) -> Share:
        return Share(direct.share_dir(name))

    templates, uids = TemplateFactory(driver, direct.run_dir(""), UID + 10_000, roots), itertools.count(UID + 20_000)
    factory = CacheFactory(templates, DirectFactory(driver), driver, direct.run_dir(""), lambda: uids, share, roots)
    yield factory
    await factory.close()


async def test_a_guest_that_waited_serves_each_kind(
    pool: CacheFactory, direct: Site, boots: VmConfig, images: dict[str, Path], tree: Path, tmp_path: Path
) -> None:
    """What its slots had behind them in the rehearsal was an EROFS and a scratch disk."""
    disk, folder = tmp_path / "disk", tmp_path / "root"
    shutil.copyfile(images["ext4"], disk)
    shutil.copytree(tree, folder, symlinks=True)
    plain = replace(boots, disk_mib=2 * MIB, kernel_parameters=agent_requests.FOR_NET_ADMIN)
    shared = replace(plain, share=SharedFolder(folder=Path()))
    house = Household(replace(direct, factory=lambda _: pool), supervisor(boots), tmp_path / "pods")
    roots: list[RootfsRecord] = [
        rootfs.folder(folder, read_only=False),
        rootfs.image(images["erofs"]),
        rootfs.disk(disk, "ext4", read_only=True),
        rootfs.disk(disk, "ext4", read_only=False, scratch=True),
        rootfs.disk(disk, "ext4", read_only=False),
    ]
    for root in roots:
        await pool.init([PoolSpec(config=each, template=True, cache=1) for each in (shared, plain)])  # until all wait
        pod = house.pod(root)
        async with running(pod) as [container]:
            assert await run(pod, container, "cat", "/file") == (0, CONTENT)
            status, _ = await run(pod, container, "cp", "/file", "/copy")
            assert (status != 0) == rootfs.of(root).read_only
    assert [waiting.taken for waiting in pool.pools()] == [1, len(roots) - 1]
    assert (folder / "copy").read_text() == CONTENT


async def test_what_a_first_container_asks_of_a_kernel_was_asked_before(
    pool: CacheFactory, direct: Site, boots: VmConfig, images: dict[str, Path], tmp_path: Path
) -> None:
    """So an emulator has translated that code, all but the program's own."""
    plain = replace(boots, disk_mib=2 * MIB, kernel_parameters=agent_requests.FOR_NET_ADMIN)
    house = Household(replace(direct, factory=lambda _: pool), supervisor(boots), tmp_path / "pods")
    await pool.init([PoolSpec(config=plain, template=True, cache=1)])
    [warm] = pool._pools[0].waiting
    monitor = warm.vm.guest._monitor  # type: ignore[attr-defined]  # of QEMU
    before = await translations.look(monitor)
    pod = house.pod(rootfs.image(images["erofs"]))
    async with running(pod) as [container]:
        assert await run(pod, container, "cat", "/file") == (0, CONTENT)
        assert (await translations.look(monitor)).used - before.used < TRANSLATED


# A hyperd that is killed


class WritingSupervisor(FakeSupervisor):
    """Writes each record down, as a hyperd does."""

    def __init__(self, path: Path, uid: int) -> None:
        super().__init__(FakeNetwork())
        self.uid, self._path = uid, path

    def save(self, pod: PodRecord, *, durable: bool = False) -> None:
        files.replace(self._path, msgspec.json.encode(pod))


@pytest.mark.parametrize("kind", ["image", "disk", "folder"])
@pytest.mark.parametrize("moment", ["planned", "runs"])
def test_a_hyperd_that_is_killed_leaves_nothing_that_the_next_one_does_not_know(
    kind: str, moment: str, direct: Site, boots: VmConfig, images: dict[str, Path], tree: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    shutil.copyfile(images["ext4"], disk)
    folder = shutil.copytree(tree, tmp_path / "root", symlinks=True)
    written, ready = tmp_path / "pod.json", tmp_path / "ready"
    house = Household(direct, WritingSupervisor(written, boots.uid), tmp_path / "pods")
    roots: dict[str, RootfsRecord] = {
        "image": rootfs.image(images["erofs"]),
        "disk": rootfs.disk(disk, "ext4", read_only=False),
        "folder": rootfs.folder(folder, read_only=False),
    }

    async def live() -> None:
        pod = house.pod(roots[kind])
        await start(pod)
        [container] = pod.containers.values()
        await run(pod, container, "cp", "/file", "/copy")
        ready.touch()
        await asyncio.Event().wait()

    child = os.fork()
    if child == 0:
        try:
            asyncio.run(live())
        finally:
            os._exit(1)
    begun = written if moment == "planned" else ready
    while not begun.exists():
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        time_passes()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

    async def goes_on() -> None:
        pod = house.again(msgspec.json.decode(written.read_bytes(), type=PodRecord))
        [container] = pod.containers.values()
        async with pod.locked() as locked:
            attached = await locked.attach()
            assert attached or moment == "planned"
            if not attached:
                await locked.machine.release()
        if attached:
            assert await run(pod, container, "cat", "/copy") == (0, CONTENT)
            await power_off(pod)
        assert house.left() == []
        async with running(pod):
            assert await run(pod, container, "cat", "/file") == (0, CONTENT)

    asyncio.run(goes_on())
