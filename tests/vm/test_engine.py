"""The engine's contract, over real guests."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hypercontainer.engine.local import LocalEngine
from hypercontainer.model import settings
from hypercontainer.model.spec import ContainerSpec, EndpointSpec, PodSpec
from hypercontainer.testing.daemon import PrivateDaemon, Value
from hypercontainer.testing.engine_contract import ADMIN, Create, EngineContract
from tests.conftest import ACCELERATOR
from tests.unit.engine.world import load
from tests.vm.conftest import GUEST_S

pytestmark = [pytest.mark.vm, pytest.mark.skipif(os.geteuid() != 0, reason="starts virtual machines")]


@pytest.fixture
async def engine(
    kernels: Path, busybox_archive: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> AsyncIterator[LocalEngine]:
    folder = tmp_path / "hyper"
    folder.mkdir()
    factory = str(pytestconfig.getoption("factory"))
    how: dict[str, Value] = {
        "accelerator": ACCELERATOR,
        "memory_mib": 256,
        "factory": factory,
        "boot_timeout_s": GUEST_S,
    }
    daemon = PrivateDaemon(folder, kernels, how)
    engine = LocalEngine(settings.load(daemon.config))
    await engine.open()
    try:
        await load(engine, busybox_archive)
        yield engine
        for pod in await engine.pods.list(all=True, filters={}):
            await engine.pods.remove(pod.id, force=True, volumes=True)
        await engine.factory.clear()
    finally:
        await engine.close()
        daemon.forget()


@pytest.fixture
def create(engine: LocalEngine) -> Create:
    async def create(*command: str, network: str = "none", **spec: object) -> str:
        container = ContainerSpec(image="busybox", command=list(command), **spec)  # type: ignore[arg-type]
        pod = PodSpec(containers=[container], networks=[EndpointSpec(network=network)])
        return (await engine.containers.create(pod, by=ADMIN)).id

    return create


class TestOverQemu(EngineContract):
    pass
