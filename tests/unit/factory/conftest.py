"""What every factory is tried with."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hypercontainer.hypervisor.base import Nic, VmConfig
from hypercontainer.testing.fakes import FakeHypervisor


@pytest.fixture
async def hypervisor() -> AsyncIterator[FakeHypervisor]:
    hypervisor = FakeHypervisor()
    yield hypervisor
    assert hypervisor.alive == []


@pytest.fixture
def config() -> VmConfig:
    kernel, nic = Path("kernel"), Nic(tap="hy0", mac="02:00:00:00:00:01")
    return VmConfig(name="web", kernel=kernel, initrd=kernel, vcpus=1, memory_mib=128, uid=1, nic=nic)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder
