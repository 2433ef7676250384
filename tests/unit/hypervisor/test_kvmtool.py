"""kvmtool's command line, and what its driver refuses before anything is made.

The golden file is read by people: a change of it is a change of what runs."""

import os
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from hypercontainer.errors import InUse, InvalidInput, NotFound, Unavailable, Unsupported
from hypercontainer.hypervisor import registry
from hypercontainer.hypervisor.base import Nic, VmConfig
from hypercontainer.hypervisor.host.disk import claim, open_disk
from hypercontainer.hypervisor.kvmtool import driver
from hypercontainer.hypervisor.kvmtool.argv import MOST_PARAMETERS, command
from hypercontainer.hypervisor.kvmtool.driver import KvmtoolHypervisor
from hypercontainer.hypervisor.kvmtool.rundir import CIDS, LkvmDir
from hypercontainer.lib.trace import Timings
from hypercontainer.lib.vsock import Vsock
from hypercontainer.model.arch import host_name
from hypercontainer.model.record import DiskRecord
from hypercontainer.model.settings import Settings
from tests.unit.hypervisor.test_argv import a_config

GOLDEN = Path(__file__).with_name("golden-kvmtool.txt")
NIC = Nic(tap="t0", mac="52:54:00:00:00:01")
YOUNG = '[ "$1" = version ] && echo kvm tool 3.18.0 || { echo "--vsock <n>" >&2; exit 129; }'
OLD = '[ "$1" = version ] && echo kvm tool 3.18.0 || exit 129'


def a_disk(target: int, **changes: object) -> DiskRecord:
    return DiskRecord(**({"target": target, "path": f"/disk{target}", "read_only": True} | changes))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a host with KVM and vhost_vsock."""
    monkeypatch.setattr(driver, "DEVICES", {})


@pytest.fixture
def lkvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is found as kvmtool: its `version` and its `run --help`."""
    program = tmp_path / "bin/lkvm"
    program.parent.mkdir()
    program.touch(mode=0o755)
    program.write_text(f"#!/bin/sh\n{YOUNG}\n")
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program


def test_the_whole_command_line() -> None:
    alone = a_config(disks=(), nics=(), vcpus=1, kernel_parameters=("hyper.debug",))
    text = ""
    for config, taps in ((a_config(), [14]), (alone, [])):
        for word in command("/usr/bin/lkvm", config, taps, Vsock(3000, 1)):
            text += ("\n" if word.startswith("-") else " " if text[-1:].strip() else "") + shlex.quote(word)
        text += "\n\n"
    assert text == GOLDEN.read_text()


def test_a_guests_number_is_its_folders_and_no_host(tmp_path: Path) -> None:
    names = [tmp_path / str(n) for n in range(100)]
    for path in names:
        path.mkdir()
    cids = [LkvmDir(path).vsock.cid for path in names]
    assert len({*cids}) == 100 and all(cid in CIDS for cid in cids)
    assert cids == [LkvmDir(path).vsock.cid for path in names]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nics": [replace(NIC, macvtap=True)]}, "^cannot have web at a macvtap: not with kvmtool$"),
        ({"disks": [a_disk(n) for n in range(5)]}, "^cannot boot web with more than 4 disks: not with kvmtool$"),
        ({"disks": [a_disk(1)]}, "^cannot leave numbers out among the disks of web: not with kvmtool$"),
        (
            {"disks": [a_disk(0, path="/dev/vda", device=True)]},
            "^cannot have the block device /dev/vda in web: not with kvmtool$",
        ),
        (
            {"kernel_parameters": ["x" * MOST_PARAMETERS]},
            f"^cannot tell the kernel of web more than {MOST_PARAMETERS} bytes: not with kvmtool$",
        ),
    ],
)
async def test_what_it_cannot_have_is_refused(
    lkvm: Path, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(Unsupported, match=words):
        await KvmtoolHypervisor().boot(_here(tmp_path, **changes), _run(tmp_path), Timings())
    assert list(_run(tmp_path).iterdir()) == []


async def test_without_kvm_it_boots_nothing(lkvm: Path, tmp_path: Path) -> None:
    words = "^cannot boot web: kvmtool emulates nothing, and KVM does not work here: `hyperctl doctor` says why$"
    with pytest.raises(Unavailable, match=words):
        await KvmtoolHypervisor().boot(_here(tmp_path, accelerator="tcg"), _run(tmp_path), Timings())
    with pytest.raises(InvalidInput, match='cannot use `accelerator = "tcg"` with kvmtool: it emulates nothing'):
        registry.load(Settings(hypervisor="kvmtool", accelerator="tcg"))
    with pytest.raises(InvalidInput, match="kvmtool"):
        registry.load(Settings(hypervisor="kvmtool", qemu="/opt/qemu-system"))


async def test_a_kernel_that_is_not_packed_is_refused(lkvm: Path, tmp_path: Path) -> None:
    config = _here(tmp_path)
    config.kernel.with_name("vmlinuz").unlink()
    with pytest.raises(NotFound, match=r"^no such kernel: .*/vmlinuz \(kvmtool starts no ELF file; .*kernel fetch`\)$"):
        await KvmtoolHypervisor().boot(config, _run(tmp_path), Timings())


async def test_an_lkvm_that_is_missing_is_named() -> None:
    with pytest.raises(Unavailable, match=r"^cannot use kvmtool: no such program: lkvm-of-nobody \(no package .*howto"):
        await KvmtoolHypervisor("lkvm-of-nobody").version()
    with pytest.raises(NotFound, match="no such program: lkvm-of-nobody"):
        KvmtoolHypervisor("lkvm-of-nobody").check(host_name())


async def test_an_lkvm_that_is_too_old_is_refused(lkvm: Path) -> None:
    assert await KvmtoolHypervisor().version() == "3.18.0"
    lkvm.write_text(f"#!/bin/sh\n{OLD}\n")
    with pytest.raises(Unavailable, match=rf"^cannot use kvmtool: {lkvm} is too old: it has no --vsock; "):
        await KvmtoolHypervisor().version()


@pytest.mark.parametrize("missing", ["kvm", "vhost-vsock"])
async def test_a_device_that_is_missing_is_named(lkvm: Path, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "DEVICES", {Path("/dev/null"): "", Path(f"/none/{missing}"): "load it"})
    with pytest.raises(Unavailable, match=rf"^cannot use kvmtool: there is no /none/{missing}; load it$"):
        await KvmtoolHypervisor().version()


def test_another_architecture_than_the_hosts_is_refused() -> None:
    words = "^cannot run guests of architecture s390x with kvmtool: it runs those of its host, which is of "
    with pytest.raises(Unavailable, match=words):
        KvmtoolHypervisor().check("s390x")


def test_a_disk_has_one_writer(tmp_path: Path) -> None:
    (tmp_path / "disk").touch()
    disk = a_disk(0, path=str(tmp_path / "disk"), read_only=False)
    one, two = open_disk(disk), open_disk(disk)
    claim(one, disk)
    with pytest.raises(InUse, match="another machine writes it"):
        claim(two, disk)
    with pytest.raises(InUse, match="another machine writes it"):
        open_disk(a_disk(0, path=disk.path))
    handed = os.dup(one)
    os.close(one)
    with pytest.raises(InUse):
        claim(two, disk)
    os.close(handed)
    claim(two, disk)
    os.close(two)


def _here(folder: Path, **changes: object) -> VmConfig:
    for name in ("vmlinux", "vmlinuz"):
        (folder / name).touch()
    config = a_config(**{"share": None, "disks": (), "nics": (), "accelerator": "kvm", **changes})
    return replace(config, kernel=folder / "vmlinux")


def _run(folder: Path) -> Path:
    (folder / "run").mkdir(exist_ok=True)
    return folder / "run"
