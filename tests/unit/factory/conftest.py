"""What every factory is tried with."""

from pathlib import Path

import pytest

from hypercontainer.hypervisor.base import Nic, VmConfig


@pytest.fixture
def config() -> VmConfig:
    kernel, nic = Path("kernel"), Nic(tap="hy0", mac="02:00:00:00:00:01")
    return VmConfig(name="web", kernel=kernel, initrd=kernel, vcpus=1, memory_mib=128, uid=1, nics=[nic])
