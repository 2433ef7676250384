"""What every factory is tried with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.hypervisor.base import Nic, VmConfig
from hypercontainer.testing.fakes import FakeShare


@pytest.fixture
def share(tmp_path: Path) -> Iterator[FakeShare]:
    """A pod's."""
    (tmp_path / "shares").mkdir()
    yield (share := FakeShare(tmp_path / "shares" / "pod"))
    share.clear()
    assert list((tmp_path / "shares").iterdir()) == []


@pytest.fixture
def config() -> VmConfig:
    kernel, nic = Path("kernel"), Nic(tap="hy0", mac="02:00:00:00:00:01")
    return VmConfig(name="web", kernel=kernel, initrd=kernel, vcpus=1, memory_mib=128, uid=1, nics=[nic])
