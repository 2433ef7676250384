"""Control groups of the host."""

import os
import subprocess
from pathlib import Path

import pytest

from hypercontainer.hypervisor.base import Limits
from hypercontainer.hypervisor.host import limits
from hypercontainer.hypervisor.host.rundir import RunDir, VmmFile
from hypercontainer.lib import cgroup, proc

CPU = cgroup.CGROUPS / "cpu"
VERSION_1 = pytest.mark.skipif(os.geteuid() != 0 or not (CPU / "cpu.shares").exists(), reason="version 1, as root")


@pytest.mark.parametrize(
    ("groups", "contained"),
    [
        ("2:cpu:/\n1:name=systemd:/init.scope\n0::/init.scope\n", False),
        ("0::/\n", False),
        ("1:cpu:/\n0::/docker/0123\n", True),
        ("", False),
    ],
)
def test_who_is_a_container_by_dockers_rule(groups: str, contained: bool) -> None:
    assert cgroup.in_container(groups) is contained


def values(folder: Path, *names: str) -> list[str]:
    return [(folder / name).read_text().strip() for name in names]


@VERSION_1
def test_a_vmm_gets_groups_for_what_is_asked_and_all_of_it_is_in_them(tmp_path: Path) -> None:
    run = RunDir(tmp_path, vmm="vmm", monitor="vmm.sock")
    folders = cgroup.plan(limits.cgroup_name(tmp_path), ("pids",))
    run.save(VmmFile(boot_id="", cgroups=[str(folder) for folder in folders]))
    cgroup.create(folders, memory=None, tasks=10)
    group = CPU / cgroup.PARENT / folders[0].name
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        (folders[0] / "cgroup.procs").write_text(str(process.pid))
        try:
            limits.hold(run, Limits())
            assert not group.exists()
            limits.hold(run, Limits(cpu_quota_us=75_000, io_weight=1))
            assert values(group, "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares") == ["75000", "100000", "1024"]
            assert values(group, "cgroup.procs") == [str(process.pid)]
            known = run.load()
            assert known and str(group) in known.cgroups
            assert [folder.split("/")[4] for folder in known.cgroups] == ["pids", "cpu", "blkio"]
            (CPU / "cgroup.procs").write_text(str(process.pid))  # as if who made the group had died before it was in
            limits.hold(run, Limits(cpu_shares=512))
            assert values(group, "cgroup.procs") == [str(process.pid)]
            assert values(group, "cpu.cfs_quota_us", "cpu.shares") == ["-1", "512"]
            assert run.load() == known
        finally:
            process.communicate()
            known = run.load()
            assert known and cgroup.remove([Path(folder) for folder in known.cgroups])
    assert not group.exists()


@VERSION_1
def test_a_vmm_is_in_groups_of_somebody_elses_and_comes_back(tmp_path: Path) -> None:
    run = RunDir(tmp_path, vmm="vmm", monitor="vmm.sock")
    folders = cgroup.plan(limits.cgroup_name(tmp_path))
    theirs = [cgroup.CGROUPS / name / f"theirs-{folders[0].name}" for name in cgroup.COUNTED]
    run.save(VmmFile(boot_id="", cgroups=[str(folder) for folder in folders]))
    cgroup.create(folders, memory=100 << 20, tasks=10)
    for group in theirs:
        group.mkdir()
    stands = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    vmm = subprocess.Popen(["sh", "-c", "cat; exit"], stdin=subprocess.PIPE)  # and a child
    with stands, vmm:
        (tmp_path / "vmm.pid").write_text(f"{vmm.pid} {proc.start_time(vmm.pid)}\n")
        try:
            cgroup.put([str(stands.pid)], theirs)
            cgroup.put([str(vmm.pid)], folders)
            limits.enter(run, theirs)
            limits.hold(run, Limits(cpu_quota_us=75_000))
            for group in theirs:
                assert {str(stands.pid), str(vmm.pid)} <= set(values(group, "cgroup.procs")[0].split())
            assert values(theirs[0], "memory.limit_in_bytes") == [str(100 << 20)]
            assert values(theirs[1], "pids.max") == ["10"]
            assert values(theirs[2], "cpu.cfs_quota_us") == ["75000"]
            cgroup.put([str(vmm.pid)], folders)  # as if who had it enter had died before it was in, or all but in
            for begun in (theirs[:0], theirs[1:]):
                cgroup.put([str(vmm.pid)], begun)
                limits.hold(run, Limits(cpu_quota_us=75_000))
                assert all(str(vmm.pid) in values(group, "cgroup.procs")[0].split() for group in theirs)
            limits.leave(run, [cgroup.CGROUPS / "memory/another"])
            assert all(str(vmm.pid) in values(group, "cgroup.procs")[0].split() for group in theirs)
            for _ in range(2):
                limits.leave(run, theirs)
                assert [values(group, "cgroup.procs") for group in theirs] == [[str(stands.pid)]] * len(theirs)
        finally:
            stands.communicate()
            vmm.communicate()
            known = run.load()
            assert known and cgroup.remove([Path(folder) for folder in known.cgroups])
            assert cgroup.remove(theirs)
    assert known.lent == []


def test_who_is_in_a_group_is_in_all_of_them_last_in_the_first(tmp_path: Path) -> None:
    """So whoever looks into the first finds who is not everywhere yet."""
    folders = [tmp_path / name for name in ("memory", "pids")]
    folders[1].mkdir()
    (folders[1] / "cgroup.procs").mkdir()  # nobody can be written there
    folders[0].mkdir()
    (folders[0] / "cgroup.procs").touch()
    with pytest.raises(IsADirectoryError):
        cgroup.put(["1"], folders)
    assert (folders[0] / "cgroup.procs").read_text() == ""


@pytest.mark.parametrize(
    ("own", "around", "less"),
    [
        ({"memory.max": "100"}, {"memory.max": "max"}, False),
        ({"memory.max": "100"}, {"memory.max": "99"}, True),
        ({"memory.max": "max"}, {"memory.max": "99"}, True),
        ({"memory.limit_in_bytes": "100"}, {"memory.limit_in_bytes": "100"}, False),
        ({"memory.limit_in_bytes": "100", "pids.max": "10"}, {"pids.max": "9"}, True),
        ({"pids.max": "10"}, {}, False),
        ({}, {"pids.max": "1"}, False),
    ],
)
def test_a_group_around_that_has_less_is_found(
    tmp_path: Path, own: dict[str, str], around: dict[str, str], less: bool
) -> None:
    ours, theirs = tmp_path / "hyper/one", tmp_path / "pod/in/theirs"
    for folder, files in ((ours, own), (theirs, {}), (tmp_path / "pod", around)):
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in files.items():
            (folder / name).write_text(f"{value}\n")
    assert cgroup.narrower([theirs], [ours], tmp_path) == (tmp_path / "pod" if less else None)


def test_of_version_2_it_is_the_group_that_there_is(tmp_path: Path) -> None:
    """In a folder that is like a host's, but keeps what was written last."""
    group = tmp_path / "hyper/one"
    group.mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "hyper"):
        (folder / "cgroup.controllers").write_text("cpu io memory pids")
        (folder / "cgroup.subtree_control").touch()
    for name in ("cpu.max", "cpu.weight", "io.weight", "io.bfq.weight"):
        (group / name).touch()
    cgroup.weigh([group], quota_us=75_000, shares=1024, io_weight=300)
    assert values(group, "cpu.max", "cpu.weight", "io.weight") == ["75000 100000", "39", "default 300"]
    assert values(group, "io.bfq.weight") == ["39"]
    assert values(tmp_path, "cgroup.subtree_control")[0].startswith("+io")
    for name in ("cpu.max", "cpu.weight", "io.bfq.weight"):
        (group / name).write_text("")
    cgroup.weigh([group], quota_us=0, shares=2, io_weight=100)
    assert values(group, "cpu.max", "cpu.weight", "io.bfq.weight") == ["max 100000", "1", "100"]
