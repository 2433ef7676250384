"""What a snapshot depends on: whatever of it changes, no later guest goes on from it."""

import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hypercontainer.errors import InvalidInput, NotFound, Unsupported
from hypercontainer.hypervisor.base import SNAPSHOT_MAC, Feature, Nic, VmConfig, can, need
from hypercontainer.hypervisor.qemu.driver import QemuHypervisor
from hypercontainer.hypervisor.qemu.machines import MACHINES, MICROVM, Q35, Machine
from hypercontainer.lib.trace import Timings
from tests.conftest import CHECKOUT


@pytest.fixture
def config(tmp_path: Path) -> VmConfig:
    for name in ("kernel", "initrd", "qemu"):
        (tmp_path / name).write_text("as it was")
        (tmp_path / name).chmod(0o755)
    kernel, initrd = tmp_path / "kernel", tmp_path / "initrd"
    return VmConfig(name="template", kernel=kernel, initrd=initrd, vcpus=1, memory_mib=256, uid=1)


@pytest.mark.parametrize(
    "change",
    [
        {"vcpus": 2},
        {"memory_mib": 512},
        {"accelerator": "kvm"},
        {"kernel_parameters": ["quiet"]},
        {"nics": [Nic(tap="", mac=SNAPSHOT_MAC)]},
    ],
)
def test_another_machine_is_another_shape(config: VmConfig, tmp_path: Path, change: dict[str, object]) -> None:
    driver = QemuHypervisor(str(tmp_path / "qemu"))
    assert driver.shape(config) == driver.shape(config)
    assert driver.shape(config) != driver.shape(replace(config, **change))  # type: ignore[arg-type]


def write(path: Path) -> None:
    path.write_text("as it is now")


def exchange(path: Path) -> None:
    """As a package manager does: the same size, the same time, another file."""
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes())
    other.chmod(0o755)
    found = path.stat()
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    other.rename(path)


@pytest.mark.parametrize("name", ["qemu", "kernel", "initrd"])
@pytest.mark.parametrize("change", [write, exchange])
def test_a_program_that_is_another_one_now_is_another_shape(
    config: VmConfig, tmp_path: Path, name: str, change: Callable[[Path], None]
) -> None:
    driver = QemuHypervisor(str(tmp_path / "qemu"))
    before = driver.shape(config)
    change(tmp_path / name)
    assert driver.shape(config) != before


@pytest.mark.parametrize("machine", MACHINES.values(), ids=lambda machine: machine.arch)
def test_an_emulator_that_is_not_here_is_said_with_its_package(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    words = rf"^no such program: {machine.program} \(install the package {machine.package}\)$"
    with pytest.raises(NotFound, match=words):
        QemuHypervisor(machine=Q35).check(machine.arch)
    listed = (CHECKOUT / "debian-packages-arch.txt").read_text()
    assert re.search(rf"^{machine.package}  # .*\b{machine.arch}\b", listed, re.MULTILINE)


async def test_memory_that_a_machine_cannot_have_is_told(config: VmConfig, tmp_path: Path) -> None:
    words = "^cannot boot template with 300 MiB of memory: QEMU's pseries takes multiples of 256 MiB$"
    with pytest.raises(InvalidInput, match=words):
        await QemuHypervisor().boot(replace(config, arch="ppc64le", memory_mib=300), tmp_path, Timings())


def test_what_a_machine_has_not_is_said_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "byteorder", "little")
    qemu = QemuHypervisor(machine=Q35)
    assert (qemu.lacks("x86_64"), qemu.lacks("aarch64")) == ({}, {})
    lacks = qemu.lacks("s390x")
    assert set(lacks) == {Feature.SNAPSHOT, Feature.COPY, Feature.SHARE, Feature.RESIZE}
    with pytest.raises(
        Unsupported, match=r"^cannot fork web: not with QEMU's s390-ccw-virtio, whose guests may fall silent"
    ):
        need(qemu, Feature.COPY, "fork web", "s390x")
    lacks = qemu.lacks("ppc64le")
    assert set(lacks) - {Feature.SHARE} == {Feature.SNAPSHOT, Feature.COPY, Feature.NICS, Feature.RESIZE}
    assert (Feature.SHARE in lacks) == (os.O_DIRECTORY == 0o200000)  # of x86's hosts that is the flag's number
    with pytest.raises(
        Unsupported, match=r"^cannot connect web: not with QEMU's pseries, whose guests take no PCI device"
    ):
        need(qemu, Feature.NICS, "connect web", "ppc64le")
    assert can(qemu, Feature.NICS, "s390x") and not can(qemu, Feature.NICS, "ppc64le")
    monkeypatch.setattr(sys, "byteorder", "big")
    assert Feature.SHARE not in qemu.lacks("s390x") and Feature.SHARE in qemu.lacks("x86_64")


def test_microvm_has_what_it_started_with() -> None:
    qemu = QemuHypervisor(machine=MICROVM)
    assert set(qemu.lacks("x86_64")) == {Feature.NICS, Feature.RESIZE, Feature.SNAPSHOT, Feature.COPY}
    assert qemu.lacks("aarch64") == {} and not can(qemu, Feature.NICS, "x86_64") and can(qemu, Feature.NICS, "aarch64")
    assert (qemu.modules, QemuHypervisor(machine=Q35).modules) == (("virtio_mmio",), ())
    why = "^cannot connect web: not with QEMU's microvm, which has the devices that it started with$"
    with pytest.raises(Unsupported, match=why):
        need(qemu, Feature.NICS, "connect web", "x86_64")
