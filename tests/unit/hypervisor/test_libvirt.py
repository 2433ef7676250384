"""libvirt's description of a machine, and what its driver refuses before anything is made.

The golden file is read by people: a change of it is a change of what runs."""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from hypercontainer.errors import Denied, Unavailable, Unsupported
from hypercontainer.hypervisor.base import Nic, VmConfig
from hypercontainer.hypervisor.libvirt import connection
from hypercontainer.hypervisor.libvirt.domain import MOST_NICS, Places, describe
from hypercontainer.hypervisor.libvirt.driver import LibvirtHypervisor, vmm_gid
from hypercontainer.hypervisor.qemu.machines import Q35
from hypercontainer.lib.trace import Timings
from hypercontainer.model.arch import host_name
from hypercontainer.model.record import DiskRecord
from tests.unit.hypervisor.test_argv import a_config

GOLDEN = Path(__file__).with_name("golden.xml")
UID, KVM_GID = 1_900_000_001, 107
RUN = Path("/run/hyper/pods/p")
PLACES = Places(
    name="hyper-p-0123abcd",
    emulator="/usr/bin/qemu-system-x86_64",
    agent=RUN / "agent.sock",
    console=RUN / "console.sock",
    share=RUN / "share.sock",
)


def test_the_whole_description() -> None:
    kvm = a_config(accelerator="kvm", disks=(), nics=(), share=None, vcpus=1)
    written = describe(Q35, a_config(), PLACES, gid=UID) + "\n" + describe(Q35, kvm, PLACES, gid=KVM_GID)
    assert written == GOLDEN.read_text()


def test_words_of_others_stay_words() -> None:
    hostile = a_config(name="</title><x/>", disks=[DiskRecord(target=0, path="/a'\"&<b", read_only=True)])
    read = ElementTree.fromstring(describe(Q35, hostile, PLACES, gid=UID))
    assert read.findtext("title") == "</title><x/>"
    source = read.find("devices/disk/source")
    assert source is not None and source.get("file") == "/a'\"&<b"


def test_each_disk_is_told_from_the_others() -> None:
    disks = [DiskRecord(target=n, path=f"/{n}", read_only=True) for n in range(60)]
    read = ElementTree.fromstring(describe(Q35, a_config(disks=disks), PLACES, gid=UID))
    names = [target.get("dev") for target in read.iterfind("devices/disk/target")]
    assert (names[0], names[25], names[26], len(set(names))) == ("sda", "sdz", "sdaa", 60)


@pytest.fixture
def again() -> Iterator[None]:
    """The library is looked for in the test, and by whoever comes after it."""
    connection.module.cache_clear()
    yield
    connection.module.cache_clear()


async def test_a_library_that_is_missing_is_named(again: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "libvirt", None)
    with pytest.raises(Unavailable, match=r"^cannot use libvirt: .* install hypercontainer\[libvirt\]$"):
        await LibvirtHypervisor("qemu:///system").version()


async def test_a_libvirtd_that_is_too_old_is_refused(again: None, monkeypatch: pytest.MonkeyPatch) -> None:
    old = SimpleNamespace(getLibVersion=lambda: 8_006_001, isAlive=lambda: True)
    library = SimpleNamespace(open=lambda _: old, libvirtError=OSError, registerErrorHandler=lambda *_: None)
    monkeypatch.setitem(sys.modules, "libvirt", library)
    with pytest.raises(Unavailable, match=r"^cannot use libvirt: libvirtd 8\.6\.1 is too old: 9\.0\.0 or later"):
        await LibvirtHypervisor("qemu:///system").version()


NIC = Nic(tap="t0", mac="52:54:00:00:00:01")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nics": [replace(NIC, macvtap=True)]}, "^cannot have web at a macvtap: not with libvirt$"),
        ({"nics": [NIC] * (MOST_NICS + 1)}, "^cannot boot web with more than 24 network interfaces: not with libvirt$"),
        (
            {"disks": [DiskRecord(target=0, path="/dev/vda", read_only=True, device=True)]},
            "^cannot have the block device /dev/vda in web: not with libvirt$",
        ),
    ],
)
async def test_what_it_cannot_have_is_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        await LibvirtHypervisor("qemu:///none").boot(_here(tmp_path, **changes), tmp_path, Timings())
    assert [path.name for path in tmp_path.iterdir()] == ["vmlinux"]


async def test_a_kernel_that_qemus_user_does_not_reach_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(Denied, match=r"^cannot boot web: user \d+, whom its QEMU runs as, may not pass through "):
        await LibvirtHypervisor("qemu:///none").boot(_here(tmp_path), tmp_path, Timings())


makes_devices = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other groups")


@makes_devices
@pytest.mark.parametrize(("gid", "mode", "found"), [(KVM_GID, 0o660, KVM_GID), (KVM_GID, 0o666, UID), (0, 0o666, UID)])
def test_its_qemu_opens_kvm_as_its_group_may(tmp_path: Path, gid: int, mode: int, found: int) -> None:
    assert vmm_gid(a_config(accelerator="kvm"), _device(tmp_path, gid, mode)) == found
    assert vmm_gid(a_config(accelerator="tcg"), tmp_path / "none") == UID


@makes_devices
@pytest.mark.parametrize(("gid", "mode"), [(0, 0o660), (KVM_GID, 0o640), (KVM_GID, 0o600)])
def test_a_kvm_that_its_qemu_may_not_open_is_refused(tmp_path: Path, gid: int, mode: int) -> None:
    with pytest.raises(Denied, match=rf"user {UID}, whom its QEMU runs as, may not open .*/kvm \(chgrp kvm "):
        vmm_gid(a_config(accelerator="kvm"), _device(tmp_path, gid, mode))


def _device(folder: Path, gid: int, mode: int) -> Path:
    device = folder / "kvm"
    device.touch()
    os.chown(device, 0, gid)
    device.chmod(mode)
    return device


def test_an_architecture_without_a_machine_of_its_is_refused() -> None:
    with pytest.raises(Unavailable, match="cannot run guests of architecture aarch64 with libvirt: there is x86_64"):
        LibvirtHypervisor("qemu:///none").check("aarch64")


def _here(folder: Path, **changes: object) -> VmConfig:
    if host_name() != Q35.arch:
        pytest.skip(f"libvirt's machines are of hosts of {Q35.arch}")
    (folder / "vmlinux").touch()
    return replace(a_config(**{"share": None, "disks": (), "nics": (), **changes}), kernel=folder / "vmlinux")
