"""tools/lab.py: how it ends. That guests run in it is what `make lab-kvm` is for."""

from pathlib import Path

import pytest

from tools import lab

LAB = lab.qemu(lab.KVM, lab.Disk(Path("kernel"), Path("initrd"), Path("image")), Path("checkout"))


@pytest.fixture
def qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is started as QEMU."""
    program = tmp_path / "qemu-system-x86_64"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return program


@pytest.mark.parametrize(("ends", "status"), [(3, 0), (17, 7), (255, 126), (0, 125), (1, 125)])
def test_its_status_is_the_commands(qemu: Path, tmp_path: Path, ends: int, status: int) -> None:
    """QEMU's debug-exit device doubles what it is told, the status and 1, and adds 1: 1 is QEMU's own mistake, 0 the
    end of the lab's kernel."""
    qemu.write_text(f"#!/bin/sh\nexit {ends}\n")
    assert lab.boot(LAB, tmp_path, minutes=1) == status


def test_it_ends_when_its_time_is_over(qemu: Path, tmp_path: Path) -> None:
    qemu.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/pid\nexec sleep 1000\n")
    assert lab.boot(LAB, tmp_path, minutes=0) == 124
    pid = tmp_path / "pid"
    assert not pid.exists() or not Path("/proc", pid.read_text().strip()).exists()


def test_it_holds_what_setup_installs_to_run_guests() -> None:
    packages = lab.packages(lab.KVM)
    assert {"linux-image-amd64", "qemu-system-x86", "nftables", "busybox-static"} <= set(packages)
    assert not {"qemu-system-arm", "docker-registry"} & set(packages)  # of other hosts, of tests with peers


def test_peers_are_in_the_lab_that_measures() -> None:
    assert {"docker.io", "containerd"} <= set(lab.packages(lab.BENCH)) - set(lab.packages(lab.KVM))


def test_its_disk_is_kept_and_not_written_to() -> None:
    assert "file=image,format=raw,if=virtio,snapshot=on" in LAB
