"""What templates meet in their life: another QEMU, another kernel, no room. A guest comes of it, or a clear word."""

import logging
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hypercontainer.errors import GuestDied
from hypercontainer.factory.template import TemplateFactory
from hypercontainer.hypervisor.base import VmConfig
from hypercontainer.hypervisor.host import limits
from hypercontainer.hypervisor.qemu.driver import QemuHypervisor
from hypercontainer.testing.contract import made
from hypercontainer.vm import Vm
from tests.vm.conftest import UID, templates

pytestmark = pytest.mark.vm


@pytest.fixture
def config(with_agent: Callable[..., VmConfig]) -> VmConfig:
    return with_agent()


@asynccontextmanager
async def guest(factory: TemplateFactory, config: VmConfig, run_dir: Path, name: str) -> AsyncIterator[Vm]:
    """One of several at a time."""
    folder = run_dir / name
    folder.mkdir(mode=0o711)
    async with made(factory, replace(config, name=name, uid=config.uid + len(name)), folder) as vm:
        yield vm
    folder.rmdir()


def clones(factory: TemplateFactory) -> list[int]:
    return [kept.clones for kept in factory.templates()]


def upgrade(path: Path) -> None:
    """Give the name of a file to another one of the same content, as a package manager does."""
    new = path.with_name(f"{path.name}.new")
    shutil.copy(path, new)
    new.replace(path)


@pytest.fixture
def qemu() -> Iterator[Path]:
    """A QEMU of our own, where it finds its firmware and where the jail lets it see itself."""
    installed = shutil.which("qemu-system-x86_64")
    assert installed
    path = Path(installed).with_name(f"hyv-{secrets.token_hex(4)}")
    try:
        shutil.copy(installed, path)
        yield path
    finally:
        for left in (path, path.with_name(f"{path.name}.new")):
            left.unlink(missing_ok=True)


async def test_a_qemu_that_is_upgraded_has_templates_of_its_own(config: VmConfig, run_dir: Path, qemu: Path) -> None:
    async with templates(QemuHypervisor(qemu=str(qemu))) as factory, guest(factory, config, run_dir, "old") as old:
        upgrade(qemu)
        async with guest(factory, config, run_dir, "newer") as new:
            assert clones(factory) == [1, 1]
            programs = [Path(f"/proc/{vm.guest.record.process.pid}/exe").stat().st_ino for vm in (old, new)]
            assert programs[0] != programs[1] == qemu.stat().st_ino
            await old.agent.ping()  # what runs runs on
        async with guest(factory, config, run_dir, "newest"):
            assert clones(factory) == [1, 2]
        await old.agent.ping()


async def test_a_kernel_that_is_replaced_has_templates_of_its_own(
    config: VmConfig, run_dir: Path, driver: QemuHypervisor
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="hyv"))
    folder.chmod(0o711)
    try:
        kernel = Path(shutil.copy(config.kernel, folder / "kernel"))
        config = replace(config, kernel=kernel)
        async with templates(driver) as factory, guest(factory, config, run_dir, "old") as old:
            upgrade(kernel)
            async with guest(factory, config, run_dir, "newer"):
                assert clones(factory) == [1, 1]
                await old.agent.ping()
    finally:
        shutil.rmtree(folder)


async def test_a_template_without_memory_is_an_error_that_says_so(
    config: VmConfig, run_dir: Path, driver: QemuHypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with templates(driver) as factory:
        with monkeypatch.context() as patch:
            patch.setattr(limits, "OVERHEAD_MIB", 40 - config.memory_mib)  # of memory is all that a VMM gets
            with pytest.raises(GuestDied, match="memory"):
                async with made(factory, config, run_dir):
                    pass
        assert clones(factory) == []
        async with made(factory, config, run_dir) as vm:  # it is tried again
            await vm.agent.ping()
            assert clones(factory) == [1]


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A file system in which no file can be made."""
    folder = tmp_path / "full"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=1,mode=711", "full", folder], check=True, timeout=20)
    yield folder
    subprocess.run(["umount", folder], check=True, timeout=20)


async def test_without_room_for_a_template_guests_are_booted(
    config: VmConfig, run_dir: Path, driver: QemuHypervisor, full: Path, caplog: pytest.LogCaptureFixture
) -> None:
    factory = TemplateFactory(driver, full, UID + 10_000)
    with caplog.at_level(logging.WARNING):
        async with made(factory, config, run_dir) as vm:
            await vm.agent.ping()
    assert "make room for a template: No space left on device" in caplog.text and "booting" in caplog.text
    assert clones(factory) == [] and list(full.iterdir()) == []
    await factory.close()
