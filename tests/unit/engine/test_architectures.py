"""Images of other architectures than this host's: which machine they get, and what is told when there is none."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import InvalidInput, NotFound, Unavailable, Unsupported
from hypercontainer.hypervisor.base import Feature
from hypercontainer.model import capabilities, seccomp
from hypercontainer.model.arch import host_name
from hypercontainer.model.settings import Pool
from hypercontainer.model.spec import ContainerSpec, EndpointSpec, Mount, NetworkSpec, PodSpec
from hypercontainer.testing.busybox import find_busybox, write_archive
from tests.unit.engine.world import ADMIN, FakeKernels, Run, World, load

ARM = "linux/arm64"
HERE = "x86_64"  # to whose hosts others are other ones
pytestmark = pytest.mark.skipif(host_name() != HERE, reason=f"is of a host of {HERE}")


def kernels(engine: LocalEngine) -> FakeKernels:
    found = engine.host.kernels
    assert isinstance(found, FakeKernels)
    return found


Image = Callable[..., Path]


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """An archive of an image that says it is for some architecture."""

    def write(architecture: str, name: str = "busybox:latest") -> Path:
        path = tmp_path / f"{architecture}.tar"
        write_archive(path, [name], busybox=find_busybox(), architecture=architecture)
        return path

    return write


@pytest.fixture
async def arm(engine: LocalEngine, image: Image, tmp_path: Path) -> LocalEngine:
    """An engine with all that machines of aarch64 take, and an image for them beside its host's."""
    await load(engine, image("arm64"))
    (tmp_path / "bin/aarch64").mkdir(parents=True)
    (tmp_path / "bin/aarch64/hyperstart").write_text("for aarch64")
    engine.host.binaries = tmp_path / "bin"
    kernels(engine).others.add("aarch64")
    return engine


async def test_an_image_has_a_machine_of_its_architecture(world: World, arm: LocalEngine, create: Run) -> None:
    c = await create("cat", platform=ARM, open_stdin=True)
    made = await arm.containers.inspect(c)
    assert (made.architecture, made.isolation.level) == ("aarch64", "emulated")
    assert made.isolation.reason == "this host is of x86_64"
    await arm.containers.start(c)
    assert world.hypervisor.booted[-1].arch == "aarch64"
    runs = await arm.containers.inspect(c)
    assert runs.vm and runs.vm.architecture == "aarch64"
    record = arm.host.index.find_container(c)[1]
    granted = capabilities.resolve([], [], privileged=False)
    assert record.config.process.seccomp == seccomp.compile(granted, "aarch64") != seccomp.compile(granted, "x86_64")
    await arm.containers.remove(c, force=True, volumes=True)


async def test_who_wants_none_has_this_hosts(world: World, arm: LocalEngine, create: Run, image: Image) -> None:
    c = await create("true")
    assert (await arm.containers.inspect(c)).architecture == "x86_64"
    await load(arm, image("arm64", "arm:1"))
    made = await arm.containers.create(PodSpec(containers=[ContainerSpec(image="arm:1")]), by=ADMIN)
    assert (await arm.containers.inspect(made.id)).architecture == "aarch64"  # there is no other one of that name


async def test_doctor_boots_a_guest_of_each_architecture_that_there_are_guests_of(
    world: World, arm: LocalEngine
) -> None:
    async def boots() -> dict[str, tuple[str, str]]:
        found = {check.name: check for check in (await arm.system.doctor()).checks if check.name.startswith("boot")}
        return {name: (check.status, check.detail.partition(" after")[0]) for name, check in found.items()}

    (arm.host.binaries / "x86_64").mkdir()
    (arm.host.binaries / "x86_64/hyperstart").write_text("for x86_64")
    answered = ("ok", "a guest's agent answered")
    assert await boots() == {"boot": answered, "boot of linux/arm64": answered}
    assert [config.arch for config in world.hypervisor.booted] == ["x86_64", "aarch64"]
    kernels(arm).others.clear()
    assert await boots() == {"boot": answered}


async def test_what_is_missing_is_told_before_anything_is_made(world: World, arm: LocalEngine, create: Run) -> None:
    (arm.host.binaries / "aarch64/hyperstart").unlink()
    with pytest.raises(NotFound, match=r"no such hyperstart: aarch64 .*make guest ARCH=aarch64"):
        await create("true", platform=ARM)
    kernels(arm).others.clear()
    with pytest.raises(NotFound, match="no such kernel: none of aarch64 is installed"):
        await create("true", platform=ARM)
    world.hypervisor.without.add("aarch64")
    with pytest.raises(NotFound, match="install the package fake-aarch64"):
        await create("true", platform=ARM)
    guests = {guest.name: guest for guest in (await arm.system.info()).guests}
    assert guests["x86_64"].lacks == "" and "none of aarch64 is installed" in guests["aarch64"].lacks
    assert await arm.containers.list(all=True, filters={}) == []


async def test_who_insists_on_kvm_has_nothing_emulated(arm: LocalEngine, create: Run) -> None:
    c = await create("true", platform=ARM)
    arm.host.settings = msgspec.structs.replace(arm.host.settings, accelerator="kvm")
    words = 'cannot run a virtual machine of aarch64: it would be emulated, and the setting accelerator is "kvm"'
    with pytest.raises(Unavailable, match=words):
        await create("true", platform=ARM)
    with pytest.raises(Unavailable, match=words):
        await arm.containers.start(c)
    await arm.containers.remove(c, force=True, volumes=True)


async def test_a_platform_that_is_not_here_is_not_found(arm: LocalEngine, create: Run) -> None:
    words = r"no such image: busybox \(not for linux/s390x: what is here is for linux/amd64, linux/arm64\)"
    with pytest.raises(NotFound, match=words):
        await create("true", platform="linux/s390x")


async def test_an_image_that_no_machine_runs(engine: LocalEngine, create: Run, image: Image) -> None:
    await load(engine, image("mips64le"))
    with pytest.raises(
        InvalidInput, match="cannot run an image for mips64le: there are virtual machines of amd64, arm64"
    ):
        await create("true", platform="linux/mips64le")


async def test_a_pods_containers_are_of_one_architecture(arm: LocalEngine, create: Run) -> None:
    c = await create("true")
    words = "cannot run busybox in pod .*: the image is for linux/arm64, and the pod's virtual machine of x86_64"
    with pytest.raises(InvalidInput, match=words):
        await create("true", platform=ARM, network=f"container:{c}")
    both = [ContainerSpec(image="busybox", platform=ARM), ContainerSpec(image="busybox")]
    with pytest.raises(InvalidInput, match="the image is for linux/amd64, and the pod's virtual machine of aarch64"):
        await arm.pods.create(PodSpec(containers=both), by=ADMIN)
    assert len(await arm.containers.list(all=True, filters={})) == 1


async def test_a_pool_of_no_architecture_ends_hyperds_start(world: World) -> None:
    world.settings = msgspec.structs.replace(world.settings, pool=[Pool(arch="z80")])
    with pytest.raises(InvalidInput, match=r"invalid setting pool.arch: unknown architecture 'z80': use amd64, arm64"):
        await world.engine()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
async def test_a_pool_that_lacks_a_kernel_keeps_no_other_from_waiting(world: World, tmp_path: Path) -> None:
    pools = [Pool(arch="arm64", memory_mib=128), Pool(memory_mib=192)]
    world.settings = msgspec.structs.replace(world.settings, factory="cache", pool=pools)
    engine = await world.engine()
    await engine.factory.init()
    status = await engine.factory.status()
    assert [(pool.architecture, pool.waiting) for pool in status.pools] == [("x86_64", 1)]
    [words] = status.warnings
    assert words.startswith("no VM waits for pods for arm64: no such kernel: none of aarch64 is installed")
    kernels(engine).others.add("aarch64")
    for name in ("aarch64", "x86_64"):
        (tmp_path / "bin" / name).mkdir(parents=True)
        (tmp_path / "bin" / name / "hyperstart").write_text(f"for {name}")
    engine.host.binaries = tmp_path / "bin"
    await engine.factory.init()
    status = await engine.factory.status()
    assert sorted((pool.architecture, pool.waiting) for pool in status.pools) == [("aarch64", 1), ("x86_64", 1)]
    assert status.warnings == []
    assert {config.arch for config in world.hypervisor.booted} == {"aarch64", "x86_64"}
    await engine.close()


async def test_what_a_machine_cannot_is_refused_of_its_guests_alone(
    world: World, arm: LocalEngine, create: Run
) -> None:
    why = "virt, which is not saved"
    (arm.host.binaries / "x86_64").mkdir()
    (arm.host.binaries / "x86_64/hyperstart").write_text("for this host")
    world.hypervisor.lacking["aarch64"] = dict.fromkeys((Feature.SNAPSHOT, Feature.COPY, Feature.SHARE), why)
    c, other = await create("cat", platform=ARM, open_stdin=True, name="web"), await create("cat", open_stdin=True)
    for each in (c, other):
        await arm.containers.start(each)
    for doing, call in (
        ("fork web", arm.snapshots.fork(c, count=1, name="", ports=[])),
        ("suspend web", arm.snapshots.suspend(c)),
        ("checkpoint web", arm.snapshots.create(c, "one", leave_running=True)),
    ):
        with pytest.raises(Unsupported, match=f"^cannot {doing}: not with Fake's virt, which is not saved$"):
            await call
    with pytest.raises(Unsupported, match=r"^cannot mount a volume or a folder at /data in .*: not with Fake's virt"):
        await create("true", platform=ARM, mounts=[Mount(type="volume", source="kept", target="/data")])
    [copy] = (await arm.snapshots.fork(other, count=1, name="", ports=[])).ids
    for each in (c, other, copy):
        await arm.containers.remove(each, force=True, volumes=True)


async def test_the_images_platform_is_in_the_list(arm: LocalEngine) -> None:
    assert sorted(entry.platform for entry in await arm.images.list({})) == ["linux/amd64", ARM]
    assert (await arm.images.inspect("busybox", ARM)).architecture == "arm64"


async def test_a_machine_that_takes_no_interface_has_them_from_the_beginning(
    world: World, arm: LocalEngine, create: Run
) -> None:
    (arm.host.binaries / "x86_64").mkdir()
    (arm.host.binaries / "x86_64/hyperstart").write_text("for this host")
    world.hypervisor.lacking["aarch64"] = {Feature.NICS: "virt, whose guests take none"}
    for name in ("front", "back", "more"):
        await arm.networks.create(NetworkSpec(name=name), by=ADMIN)
    c = await create("cat", platform=ARM, open_stdin=True, name="web", network="front back")
    other = await create("cat", open_stdin=True, network="front back")
    for each, count in ((c, 2), (other, 1)):
        await arm.containers.start(each)
        assert len(world.hypervisor.booted[-1].nics) == count
    with pytest.raises(
        Unsupported, match=r"^cannot add a network interface to web: not with Fake's virt, whose guests take none$"
    ):
        await arm.networks.connect("more", c, EndpointSpec(network="more"), by=ADMIN)
    for each in (c, other):
        await arm.containers.remove(each, force=True, volumes=True)
