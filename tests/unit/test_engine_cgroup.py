"""Control groups that engines name, in folders that are like a host's."""

import os
import subprocess
from pathlib import Path

import pytest

from hypercontainer.lib import engine_cgroup

CPUSET = Path("/sys/fs/cgroup/cpuset/cpuset.cpus")


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("", ""),
        ("/a/b", "/a/b"),
        ("a/b/", "/a/b"),
        ("../../a", "/a"),
        ("/a/../../..", "/"),
        ("system.slice:docker:one", "/system.slice:docker:one"),
    ],
)
def test_a_path_is_below_the_root(path: str, group: str) -> None:
    assert engine_cgroup.named(path, "one", systemd=False) == group


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("", "system.slice:runv:one"),
        ("machine.slice:libpod:one", "machine.slice:libpod:one"),
        (":docker:one", ":docker:one"),
        ("a.slice::one", "a.slice::one"),
    ],
)
def test_a_scope_of_systemds(path: str, group: str) -> None:
    assert engine_cgroup.named(path, "one", systemd=True) == group


@pytest.mark.parametrize("path", ["/a/b", "a.slice:docker", "a.slice:b:c:d", "a.slice:b:", "a.slice:../b:c", "a:b:c"])
def test_what_is_no_scope_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="slice:prefix:name"):
        engine_cgroup.named(path, "one", systemd=True)


def test_a_group_of_version_2_and_its_end(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").touch()
    engine_cgroup.place("/a/b", 7, root=str(tmp_path))
    procs = tmp_path / "a/b/cgroup.procs"
    assert procs.read_text() == "7"
    procs.unlink()  # which no hierarchy keeps from being removed
    engine_cgroup.remove("/a/b", root=str(tmp_path))
    assert not procs.parent.exists()


@pytest.mark.skipif(os.geteuid() != 0 or not CPUSET.exists(), reason="groups of version 1 with processors, as root")
def test_a_new_group_of_version_1_has_processors_and_lets_a_process_in() -> None:
    group = f"/hyper-test-{os.getpid()}/inner"
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        engine_cgroup.place(group, process.pid)
        groups = Path(f"/proc/{process.pid}/cgroup").read_text().splitlines()
        process.communicate()
    for folder in (group, os.path.dirname(group)):
        engine_cgroup.remove(folder)
    assert [line for line in groups if line.endswith(f":cpuset:{group}")]
    assert not list(Path("/sys/fs/cgroup").glob(f"*{os.path.dirname(group)}"))


def test_a_group_of_version_1_is_in_each_hierarchy(tmp_path: Path) -> None:
    for name in ("memory", "pids"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").touch()
    engine_cgroup.place("/a", 7, root=str(tmp_path))
    assert [path.parent.parent.name for path in sorted(tmp_path.glob("*/a/cgroup.procs"))] == ["memory", "pids"]


def test_a_group_of_version_2_has_what_those_above_it_can_give(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "a"):
        folder.mkdir(exist_ok=True)
        for name in ("cgroup.controllers", "cgroup.subtree_control"):
            (folder / name).touch()
    engine_cgroup.place("/a/b", 7, root=str(tmp_path))
    assert [(each / "cgroup.subtree_control").read_text() for each in (tmp_path, tmp_path / "a")] == ["+pids"] * 2
    assert engine_cgroup.counting("/a/b", root=str(tmp_path)) == []  # a folder that has none of them
    for name in engine_cgroup.LIMITS:
        (tmp_path / "a/b" / name).touch()
    assert engine_cgroup.counting("/a/b", root=str(tmp_path)) == [f"{tmp_path}/a/b"]


def test_a_group_of_version_1_counts_where_all_its_hierarchies_have_it(tmp_path: Path) -> None:
    for name in ("memory", "pids", "freezer"):
        (tmp_path / name / "a").mkdir(parents=True)
        (tmp_path / name / "cgroup.procs").touch()
    assert engine_cgroup.counting("/a", root=str(tmp_path)) == [f"{tmp_path}/{name}/a" for name in ("memory", "pids")]
    (tmp_path / "pids/a").rmdir()
    assert engine_cgroup.counting("/a", root=str(tmp_path)) == []
    assert engine_cgroup.counting("/none", root=str(tmp_path / "none")) == []


def test_who_is_in_a_group_keeps_it_and_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").touch()
    engine_cgroup.place("/a", 7, root=str(tmp_path))
    engine_cgroup.remove("/a", root=str(tmp_path))  # the folder is not empty
    assert (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"memory.max": "max", "pids.max": "256", "cpu.max": "75000 100000", "cpu.weight": "39"},
            f"4 MemoryMax t {engine_cgroup.INFINITY} TasksMax t 256 CPUQuotaPerSecUSec t 750000 CPUWeight t 39",
        ),
        (
            {"memory.limit_in_bytes": "4096", "cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"},
            f"2 MemoryMax t 4096 CPUQuotaPerSecUSec t {engine_cgroup.INFINITY}",
        ),
        ({"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "200000"}, "1 CPUQuotaPerSecUSec t 250000"),
        ({"io.weight": "default 300\n8:16 700", "io.bfq.weight": "default 40"}, "1 IOWeight t 300"),
        ({"io.bfq.weight": "default 40"}, "1 IOWeight t 40"),
        ({"io.bfq.weight": "1000"}, "1 IOWeight t 10000"),
        ({"blkio.bfq.weight": "40"}, "1 BlockIOWeight t 40"),
    ],
)
def test_systemd_is_told_the_limits_of_a_scope_alone(
    files: dict[str, str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(engine_cgroup, "_call", lambda *words: calls.append(" ".join(words)))
    for name in ("one.scope", "one"):
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / file).write_text(f"{text}\n")
        engine_cgroup.keep([str(tmp_path / name)])
    assert calls == [f"SetUnitProperties sba(sv) one.scope true {said}"]


def test_nothing_that_is_not_there_is_removed(tmp_path: Path) -> None:
    engine_cgroup.remove("/a", root=str(tmp_path))


def test_a_process_that_is_gone_is_no_error_of_a_hierarchys(tmp_path: Path) -> None:
    engine_cgroup.place("/a", 7, root=str(tmp_path / "none"))
