"""What lkvm sees and may do in its jail, by a script in its stead: no KVM is needed for that."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from hypercontainer.errors import HyperError
from hypercontainer.hypervisor.base import VmConfig
from hypercontainer.hypervisor.kvmtool import driver
from hypercontainer.hypervisor.kvmtool.driver import KvmtoolHypervisor
from hypercontainer.lib import mount
from hypercontainer.lib.trace import Timings
from hypercontainer.model.record import DiskRecord
from tests.unit.hypervisor.test_argv import a_config
from tests.vm.conftest import GUEST_S, UID

pytestmark = pytest.mark.vm

SCRIPT = r"""#!/bin/sh
[ "$1" = version ] && echo kvm tool 3.18.0 && exit
[ "$2" = --help ] && echo --vsock && exit
cat /disks/0
echo written 1<>/disks/1 && echo one is written
(echo spoilt 1<>/disks/0) 2>/dev/null || echo the other is not
stat -c '%A %u %g' /disks/*
echo $HOME $(touch $HOME/socket && ls $HOME) $(ls /dev)
"""


@pytest.fixture
def hypervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KvmtoolHypervisor:
    monkeypatch.setattr(driver, "DEVICES", {})  # the jail has nodes of them; whether there is one behind, nobody asks
    (tmp_path / "lkvm").write_text(SCRIPT)
    (tmp_path / "lkvm").chmod(0o755)
    return KvmtoolHypervisor(str(tmp_path / "lkvm"))


def a_guest(folder: Path) -> VmConfig:
    for name in ("vmlinux", "vmlinuz", "initrd"):
        (folder / name).touch()
    config = a_config(accelerator="kvm", share=None, nics=(), disks=disks(folder), uid=UID + 3)
    return replace(config, kernel=folder / "vmlinux", initrd=folder / "initrd")


def disks(folder: Path) -> list[DiskRecord]:
    """Root's alone, as images and scratch disks are."""
    made = []
    for n, text in enumerate(["an image\n", "scratch\n"]):
        path = folder / f"disk{n}"
        path.write_text(text)
        path.chmod(0o600)
        made.append(DiskRecord(target=n, path=str(path), read_only=n == 0))
    return made


async def test_disks_of_roots_are_lent_and_nothing_of_them_changes(
    hypervisor: KvmtoolHypervisor, run_dir: Path, tmp_path: Path
) -> None:
    config = a_guest(tmp_path)
    both = config.disks
    before = [(found.st_uid, found.st_mode) for found in (os.stat(disk.path) for disk in both)]
    guest = await hypervisor.boot(config, run_dir, Timings())
    try:
        async with asyncio.timeout(GUEST_S):
            assert await guest.wait() == "the guest reset itself"
        assert guest.console_tail().splitlines() == [
            "an image",
            "one is written",
            "the other is not",
            *(f"-rw------- {config.uid} {config.uid}" for _ in both),
            "/home socket kvm null urandom vhost-vsock",
        ]
    finally:
        await guest.kill()
    assert [Path(disk.path).read_text() for disk in both] == ["an image\n", "written\n"]
    assert [(found.st_uid, found.st_mode) for found in (os.stat(disk.path) for disk in both)] == before
    assert list(run_dir.iterdir()) == []


async def test_a_file_system_that_maps_no_ids_is_named(
    hypervisor: KvmtoolHypervisor, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(22, os.strerror(22))

    monkeypatch.setattr(mount, "map_ids", refuse)  # as that of an overlay or a network
    with pytest.raises(HyperError, match=rf"^cannot lend disk {tmp_path}/disk0 to .*: the file system .* maps no ids$"):
        await hypervisor.boot(a_guest(tmp_path), run_dir, Timings())
    assert list(run_dir.iterdir()) == []
