"""Handlers of RuntimeClasses: which machine a pod of a kubelet has, by the settings."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import InvalidInput, NotFound
from hypercontainer.model.container import Resources
from hypercontainer.model.settings import Handler, load
from hypercontainer.model.spec import PodSpec
from tests.unit.engine.test_kube import ALONE, MIB, POD, make
from tests.unit.engine.test_recovery import forsake
from tests.unit.engine.world import FakeKernel, FakeKernels, World

SMALL = Handler(vcpus=2, memory_mib=128)


async def with_handlers(world: World, engine: LocalEngine | None = None, **handlers: Handler) -> LocalEngine:
    """A hyperd with these, after `engine`."""
    if engine:
        await forsake(engine)
    world.settings = msgspec.structs.replace(world.settings, memory_mib=512, cri_handlers=handlers)
    return await world.engine()


@pytest.fixture
async def world(world: World) -> AsyncIterator[World]:
    """Its last engine's pods are removed."""
    yield world
    engine = world.engines[-1]
    for pod in await engine.kube.list():
        await engine.kube.remove(pod.id)
    await engine.close()


async def run(engine: LocalEngine, handler: str, spec: PodSpec = ALONE) -> str:
    return await engine.kube.run(msgspec.structs.replace(POD, handler=handler, uid=handler + str(spec)), spec)


def machine(engine: LocalEngine, pod: str) -> tuple[int, int]:
    record = engine.supervisor.pods[pod].record
    return engine.host.vcpus(record), engine.host.site.machine_mib(record)


async def test_a_pod_has_the_machine_of_its_handler(world: World) -> None:
    engine = await with_handlers(world, small=SMALL)
    assert engine.kube.handlers() == ["hyper", "small"]
    asked = {memory: msgspec.structs.replace(ALONE, memory_mib=memory, vcpus=1) for memory in (64, 65)}
    sizes = [machine(engine, await run(engine, "small", spec)) for spec in (ALONE, *asked.values())]
    assert sizes == [(2, 128), (2, 128), (2, 129)]
    for name in ("hyper", ""):
        assert machine(engine, await run(engine, name))[1] == 512
    with pytest.raises(InvalidInput, match=r"'runc': there is hyper, small; .*cri_handlers"):
        await run(engine, "runc")
    assert len(await engine.kube.list()) == 5


async def test_it_grows_from_the_size_of_its_handler(world: World, engine: LocalEngine) -> None:
    engine = await with_handlers(world, engine, small=SMALL)
    pod = await run(engine, "small")
    await make(engine, pod)  # without a limit
    assert machine(engine, pod) == (2, 128)
    await make(engine, pod, attempt=1, limits=Resources(memory_bytes=64 * MIB))
    assert machine(engine, pod) == (2, 192)


async def test_pods_that_run_keep_their_machines(world: World) -> None:
    engine = await with_handlers(world, small=SMALL)
    pod = await run(engine, "small")
    engine = await with_handlers(world, engine, small=Handler(memory_mib=256))
    assert machine(engine, pod) == (2, 128)
    engine = await with_handlers(world, engine)
    assert machine(engine, pod) == (2, 128) and (await engine.kube.state(pod)).pod.handler == "small"
    assert await run(engine, "small") == pod  # the same request, though it would be refused by now


async def test_the_usual_one_can_be_of_another_size(world: World) -> None:
    engine = await with_handlers(world, hyper=SMALL)
    assert machine(engine, await run(engine, "")) == (2, 128)


async def test_its_kernel(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await with_handlers(world, own=Handler(kernel="mine"))
    monkeypatch.setattr(
        engine.host.kernels, "boot_files", lambda bundle, *_: (Path(f"/{bundle.name}"), Path("/initrd"))
    )
    for name, kernel in (("own", "/mine"), ("hyper", "/")):
        record = engine.supervisor.pods[await run(engine, name)].record
        assert str((await engine.host.boot(record)).kernel) == kernel


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
async def test_machines_of_a_handler_wait(world: World) -> None:
    world.settings = msgspec.structs.replace(world.settings, factory="cache")
    engine = await with_handlers(world, small=Handler(memory_mib=128, cache=1))
    await engine.factory.init()
    [guest] = world.hypervisor.alive
    [pool] = (await engine.factory.status()).pools
    assert (pool.memory_mib, pool.share, pool.waiting) == (128, True, 1)
    machine = engine.supervisor.pods[await run(engine, "small", PodSpec())].machine  # with an interface
    assert machine.vm and machine.vm.guest is guest


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
async def test_one_without_its_kernel_keeps_no_other_from_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def of(kernels: FakeKernels, arch: str, name: str = "") -> FakeKernel:
        if name == "gone":
            raise NotFound("kernel", name)
        return FakeKernel(name)

    monkeypatch.setattr(FakeKernels, "of", of)
    world.settings = msgspec.structs.replace(world.settings, factory="cache")
    lost = Handler(memory_mib=192, cache=1, kernel="gone")
    engine = await with_handlers(world, lost=lost, small=Handler(memory_mib=128, cache=1))
    for _ in range(2):
        await engine.factory.init()
    status = await engine.factory.status()
    assert [(pool.memory_mib, pool.waiting) for pool in status.pools] == [(128, 1)]
    assert [line for line in status.warnings if "handler lost" in line and "gone" in line]
    assert len([each for each in caplog.records if "handler lost" in each.getMessage()]) == 1
    monkeypatch.undo()
    await engine.factory.init()
    status = await engine.factory.status()
    assert {pool.memory_mib for pool in status.pools} == {128, 192}
    assert not [line for line in status.warnings if "handler" in line]


@pytest.mark.parametrize(
    ("handler", "words"),
    [(Handler(memory_mib=50), "cri_handlers.small: .*96"), (Handler(factory="cache"), "cri_handlers.small: .*'cache'")],
)
async def test_one_that_no_machine_can_be_of(tmp_path: Path, handler: Handler, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        await with_handlers(World(tmp_path), small=handler)


@pytest.mark.parametrize("name", ["Upper", "-a", "a.b", "", "a" * 64])
def test_names_are_those_of_runtime_classes(tmp_path: Path, name: str) -> None:
    (tmp_path / "c.toml").write_text(f'[cri_handlers."{name}"]\nmemory_mib = 128\n')
    with pytest.raises(InvalidInput):
        load(tmp_path / "c.toml")


def test_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[cri_handlers.hyper-small]\nvcpus = 2\nmemory_mib = 128\n")
    assert load(tmp_path / "c.toml").cri_handlers == {"hyper-small": SMALL}
