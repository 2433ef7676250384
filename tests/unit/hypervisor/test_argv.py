"""QEMU's command line. The golden file is read by people: a change of it is a change of what runs."""

import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.errors import InvalidInput, Unavailable
from hypercontainer.hypervisor.base import SNAPSHOT_MAC, Nic, SharedFolder, Snapshot, VmConfig
from hypercontainer.hypervisor.qemu.argv import Descriptors, command, disk_file, kernel_parameters
from hypercontainer.hypervisor.qemu.machines import (
    CCW,
    MICROVM,
    PSERIES,
    Q35,
    VIRT,
    Machine,
    machine_in,
    machine_named,
    machine_of,
)
from hypercontainer.model.record import DiskRecord

GOLDEN = Path(__file__).with_name("golden.txt")


def a_config(**changes: Any) -> VmConfig:
    values: dict[str, Any] = {
        "name": "web",
        "kernel": Path("/var/lib/hyper/kernels/k/vmlinux"),
        "initrd": Path("/var/lib/hyper/kernels/k/initrd.cpio"),
        "vcpus": 2,
        "memory_mib": 256,
        "uid": 1_900_000_001,
        "disks": [
            DiskRecord(target=0, path="/var/lib/hyper/rootfs/a.erofs", read_only=True),
            DiskRecord(target=1, path="/var/lib/hyper/pods/p/c/scratch.img", read_only=False),
        ],
        "nics": [Nic(tap="hy0", mac="52:54:00:00:00:01")],
        "share": SharedFolder(folder=Path("/run/hyper/shares/p")),
    }
    return VmConfig(**(values | changes))


FDS = Descriptors(qmp=10, agent=11, disks=(12, 13), taps=(14,), share=15)


def lines(config: VmConfig, fds: Descriptors, machine: Machine = Q35) -> str:
    """One option a line."""
    text = ""
    for word in command(f"/usr/bin/{machine.program}", machine, config, fds):
        text += ("\n" if word.startswith("-") else " " if text else "") + shlex.quote(word)
    return text + "\n"


def test_the_whole_command_line() -> None:
    kvm = a_config(accelerator="kvm", disks=(), nics=(), share=None, vcpus=1)
    written = lines(a_config(), FDS) + "\n" + lines(kvm, Descriptors(qmp=10, agent=11))
    clone = a_config(origin=Snapshot(memory=16, state=17), share=None)
    written += "\n" + lines(clone, Descriptors(qmp=10, agent=11, disks=(12, 13), taps=(14,), memory=16))
    sharing = a_config(origin=Snapshot(memory=16, state=17), disks=(), nics=())
    written += "\n" + lines(sharing, Descriptors(qmp=10, agent=11, memory=18, share=15))
    written += "\n" + lines(a_config(arch="aarch64"), FDS, VIRT)
    written += "\n" + lines(a_config(arch="s390x"), FDS, CCW)
    written += "\n" + lines(a_config(arch="ppc64le"), FDS, PSERIES)
    written += "\n" + lines(a_config(), FDS, MICROVM)
    assert written == GOLDEN.read_text()


@pytest.mark.parametrize(
    ("machine", "cpu"), [(Q35, "host,vmx=off,svm=off"), (VIRT, "host"), (CCW, "host"), (PSERIES, "host")]
)
def test_a_guest_under_kvm_has_the_hosts_processor_but_for_guests_of_its_own(machine: Machine, cpu: str) -> None:
    config = a_config(accelerator="kvm", arch=machine.arch, disks=(), nics=(), share=None)
    assert ("-cpu", cpu) in pairwise(command("qemu", machine, config, Descriptors(qmp=3, agent=4)))


def test_a_clone_has_the_machine_of_its_original() -> None:
    """Each device of the original is there, in its order; a clone has disks besides, and no kernel to boot."""
    original = a_config(memory=16, share=None, disks=(), nics=[Nic(tap="", mac=SNAPSHOT_MAC)])
    clone = a_config(origin=Snapshot(memory=16, state=17), share=None)
    one = command("qemu", Q35, original, Descriptors(qmp=3, agent=4, taps=(5,), memory=16))
    other = command("qemu", Q35, clone, Descriptors(qmp=3, agent=4, taps=(5,), memory=16, disks=(12, 13)))

    def devices(words: list[str]) -> list[str]:
        found = [word for option, word in pairwise(words) if option == "-device" and not word.startswith("scsi-hd")]
        return [word.partition(",mac=")[0] for word in found]

    assert devices(one) == devices(other)
    machine = ("-machine", "-cpu", "-smp", "-m", "-bios", "-accel")
    assert [pair for pair in pairwise(one) if pair[0] in machine] == [
        pair for pair in pairwise(other) if pair[0] in machine
    ]
    assert "share=on" in " ".join(one) and "share=off" in " ".join(other)
    assert ("-kernel" in one, "-kernel" in other) == (True, False)


def test_no_path_of_the_host_is_in_it() -> None:
    config = a_config()
    words = " ".join(command("qemu", Q35, config, FDS))
    assert config.share
    for path in (config.kernel, config.initrd, config.share.folder, *(disk.path for disk in config.disks)):
        assert str(path) not in words


def test_the_callers_kernel_parameters_come_last() -> None:
    assert kernel_parameters(Q35, a_config(kernel_parameters=["loglevel=8"]))[-1] == "loglevel=8"


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\0"), max_size=30))
def test_no_name_becomes_an_option(name: str) -> None:
    """QEMU ends a value at a single comma and takes two for one."""
    words = command("qemu", Q35, a_config(name=name), FDS)
    value = words[words.index("-name") + 1]
    assert value.startswith("guest=")
    assert value.removeprefix("guest=").replace(",,", "").count(",") == 0
    assert value.removeprefix("guest=").replace(",,", ",") == name


@given(st.lists(st.tuples(st.integers(0, 255), st.booleans()), unique_by=lambda pair: pair[0], max_size=8))
def test_each_disk_is_its_own_target_node_and_descriptor(disks: list[tuple[int, bool]]) -> None:
    records = [DiskRecord(target=target, path="/x", read_only=read_only) for target, read_only in disks]
    fds = Descriptors(qmp=3, agent=4, disks=tuple(range(20, 20 + len(records))))
    words = command("qemu", Q35, a_config(disks=records, nics=(), share=None), fds)
    devices = [word for word in words if word.startswith("scsi-hd,")]
    nodes = [word for word in words if word.startswith("driver=file,")]
    raws = [word for word in words if word.startswith("driver=raw,")]
    sets = [word for word in words if word.startswith("fd=")]
    assert len(devices) == len(nodes) == len(sets) == len(records)
    for n, record in enumerate(records):
        assert f"drive=node{record.target}," in devices[n]
        assert f"scsi-id={record.target}," in devices[n]
        assert f"node-name=file{record.target}," in nodes[n]
        assert f"driver=raw,node-name=node{record.target},read-only=" in raws[n]
        assert f",file=file{record.target}" in raws[n]
        assert f"filename=/dev/fdset/{n}," in nodes[n]
        assert f"read-only={'on' if record.read_only else 'off'}," in nodes[n]
        assert sets[n] == f"fd={20 + n},set={n}"


@pytest.mark.parametrize("read_only", [True, False])
def test_an_image_may_be_shared_and_a_scratch_disk_may_not(read_only: bool) -> None:
    node = disk_file(DiskRecord(target=0, path="/x", read_only=read_only), "file0", "/dev/fdset/0")
    assert node["locking"] == "on"  # any number may read it, or one may write it
    assert ("discard" in node) is not read_only


def test_a_block_device_is_no_file() -> None:
    device = DiskRecord(target=1, path="/dev/vg/root", read_only=False, device=True)
    node = disk_file(device, "file1", "/dev/fdset/1")
    assert (node["driver"], node["locking"]) == ("host_device", "on")


def test_every_descriptor_is_handed_over() -> None:
    assert sorted(FDS.all()) == [10, 11, 12, 13, 14, 15]
    assert Descriptors(qmp=1, agent=2).with_share(3).all() == [1, 2, 3]


def test_an_architecture_without_a_machine_is_named() -> None:
    assert machine_of("x86_64") is Q35 and machine_of("aarch64") is VIRT and machine_of("s390x") is CCW
    why = "cannot run guests of architecture mips64 with QEMU: there are x86_64, aarch64"
    with pytest.raises(Unavailable, match=why):
        machine_of("mips64")


def test_a_setting_names_a_machine_of_this_architecture() -> None:
    assert machine_named("", "x86_64") is machine_named("q35", "x86_64") is Q35
    assert machine_named("microvm", "x86_64") is MICROVM
    why = "cannot make a machine 'microvm' of aarch64: there is virt; see `machine` in config.toml"
    with pytest.raises(InvalidInput, match=why):
        machine_named("microvm", "aarch64")
    with pytest.raises(InvalidInput, match=r"cannot make a machine 'pc' of x86_64: there is q35, microvm"):
        machine_named("pc", "x86_64")


def test_a_guest_that_runs_is_known_by_its_machine_whatever_the_settings_name() -> None:
    assert (machine_in("pc-q35-7.2", "x86_64"), machine_in("microvm", "x86_64")) == (Q35, MICROVM)
    assert (machine_in("virt-7.2", "aarch64"), machine_in("s390-ccw-virtio-7.2", "s390x")) == (VIRT, CCW)
    assert machine_in("pseries-7.2", "ppc64le") is PSERIES
