"""Limits: what the cgroup says, what becomes of who meets them, and `update`."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.oci.bundle import Bundle
from tests.oci.runtime import Container, Runtime

MIB = 1 << 20
# A limit's file in a cgroup of version 1, or the first word of version 2's.
FILES = {
    "memory": ("memory/memory.limit_in_bytes", "memory.max"),
    "reservation": ("memory/memory.soft_limit_in_bytes", "memory.low"),
    "pids": ("pids/pids.max", "pids.max"),
    "quota": ("cpu/cpu.cfs_quota_us", "cpu.max"),
    "shares": ("cpu/cpu.shares", "cpu.weight"),
    "cpus": ("cpuset/cpuset.cpus", "cpuset.cpus"),
    "mems": ("cpuset/cpuset.mems", "cpuset.mems"),
}
SHOW = "cd /sys/fs/cgroup; if test -e {0}; then cat {0}; else cut -d ' ' -f 1 {1}; fi"


def limited(bundle: Bundle, **resources: Any) -> Bundle:
    """The bundle with these limits, and its own cgroup at /sys/fs/cgroup."""
    bundle.linux["resources"].update(resources)
    bundle.mount("/sys/fs/cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev", type="cgroup")
    return bundle


def limit(oci: Runtime, name: str, **resources: Any) -> str:
    """A limit as the container sees it."""
    return oci.run(limited(oci.bundle("sh", "-c", SHOW.format(*FILES[name])), **resources)).out.strip()


def seen(container: Container, name: str) -> str:
    return container.exec("sh", "-c", SHOW.format(*FILES[name])).out.strip()


def weight(shares: int) -> set[str]:
    """What cgroups of either version have for shares."""
    return {str(shares), str(1 + (shares - 2) * 9999 // 262142)}


def test_a_memory_limit(oci: Runtime) -> None:
    assert limit(oci, "memory", memory={"limit": 64 * MIB}) == str(64 * MIB)


def test_a_memory_reservation(oci: Runtime) -> None:
    assert limit(oci, "reservation", memory={"reservation": 32 * MIB}) == str(32 * MIB)


def test_unlimited_memory(oci: Runtime) -> None:
    found = limit(oci, "memory", memory={"limit": -1})
    assert found == "max" or int(found) > 1 << 60


def test_who_takes_more_memory_is_killed(oci: Runtime) -> None:
    bundle = limited(
        oci.bundle("sh", "-c", "head -c 200000000 /dev/zero | tail >/dev/null; echo $?"), memory={"limit": 32 * MIB}
    )
    assert oci.run(bundle).out == "137\n"


def test_a_first_process_that_takes_more_memory_ends_with_137(oci: Runtime) -> None:
    bundle = limited(oci.bundle("dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"), memory={"limit": 32 * MIB})
    assert oci.start(bundle).wait() == 137


def test_what_is_in_a_tmpfs_counts_as_memory(oci: Runtime) -> None:
    bundle = limited(
        oci.bundle("dd", "if=/dev/zero", "of=/dev/shm/big", "bs=1M", "count=60"), memory={"limit": 32 * MIB}
    )
    assert oci.start(bundle).wait() == 137


def test_a_limit_of_processes(oci: Runtime) -> None:
    assert limit(oci, "pids", pids={"limit": 77}) == "77"


def test_who_forks_more_is_refused(oci: Runtime) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 1000000 & done; echo no end"
    done = oci.run(limited(oci.bundle("sh", "-c", script), pids={"limit": 5}))
    assert "can't fork" in done.err
    assert done.out == ""


def test_a_quota_of_processors(oci: Runtime) -> None:
    assert limit(oci, "quota", cpu={"quota": 50_000, "period": 100_000}) == "50000"


def test_shares_of_processors(oci: Runtime) -> None:
    assert limit(oci, "shares", cpu={"shares": 512}) in weight(512)


def test_a_set_of_processors(oci: Runtime) -> None:
    assert limit(oci, "cpus", cpu={"cpus": "0"}) == "0"


def test_a_set_of_processors_holds_for_the_program(oci: Runtime) -> None:
    bundle = limited(oci.bundle("grep", "Cpus_allowed_list", "/proc/self/status"), cpu={"cpus": "0"})
    assert oci.run(bundle).out.split()[1] == "0"


def test_a_set_of_memory_nodes(oci: Runtime) -> None:
    assert limit(oci, "mems", cpu={"mems": "0"}) == "0"


def test_a_processor_that_there_is_not_is_refused(oci: Runtime) -> None:
    oci.refuses(limited(oci.bundle(), cpu={"cpus": "4000"}))


def test_an_impossible_period_is_refused(oci: Runtime) -> None:
    oci.refuses(limited(oci.bundle(), cpu={"period": 1, "quota": 1}))


def test_no_limits_at_all(oci: Runtime) -> None:
    bundle = oci.bundle("echo", "free")
    del bundle.linux["resources"]
    assert oci.run(bundle).out == "free\n"


def test_empty_limits(oci: Runtime) -> None:
    bundle = limited(oci.bundle("echo", "free"), memory={}, cpu={}, blockIO={}, hugepageLimits=[])
    assert oci.run(bundle).out == "free\n"


def test_a_bundle_without_a_path_of_cgroups(oci: Runtime) -> None:
    bundle = oci.bundle("echo", "ran")
    del bundle.linux["cgroupsPath"]
    assert oci.run(bundle).out == "ran\n"


@pytest.mark.parametrize(
    ("option", "name", "before", "after"),
    [
        ("--memory", "memory", str(64 * MIB), str(96 * MIB)),
        ("--memory-reservation", "reservation", str(32 * MIB), str(48 * MIB)),
        ("--pids-limit", "pids", "77", "99"),
        ("--cpu-quota", "quota", "50000", "70000"),
        ("--cpuset-cpus", "cpus", "0", "0"),
    ],
)
def test_update(oci: Runtime, option: str, name: str, before: str, after: str) -> None:
    container = oci.start(everything(oci))
    assert seen(container, name) == before
    oci.ok("update", option, after, container.id)
    assert seen(container, name) == after


def everything(oci: Runtime) -> Bundle:
    return limited(
        oci.bundle(),
        memory={"limit": 64 * MIB, "reservation": 32 * MIB},
        pids={"limit": 77},
        cpu={"quota": 50_000, "period": 100_000, "shares": 512, "cpus": "0"},
    )


def test_update_of_shares(oci: Runtime) -> None:
    container = oci.start(everything(oci))
    oci.ok("update", "--cpu-share", "256", container.id)
    assert seen(container, "shares") in weight(256)


def test_update_leaves_what_it_does_not_name(oci: Runtime) -> None:
    container = oci.start(everything(oci))
    oci.ok("update", "--memory", str(96 * MIB), container.id)
    assert [seen(container, name) for name in ("pids", "quota", "reservation")] == ["77", "50000", str(32 * MIB)]


def test_update_from_stdin(oci: Runtime) -> None:
    container = oci.start(everything(oci))
    resources = {"memory": {"limit": 96 * MIB}, "pids": {"limit": 88}}
    oci.ok("update", "--resources", "-", container.id, stdin=json.dumps(resources).encode())
    assert [seen(container, name) for name in ("memory", "pids")] == [str(96 * MIB), "88"]


def test_update_from_a_file(oci: Runtime, tmp_path: Path) -> None:
    container = oci.start(everything(oci))
    (tmp_path / "resources").write_text(json.dumps({"cpu": {"quota": 60_000, "period": 100_000}}))
    oci.ok("update", "--resources", tmp_path / "resources", container.id)
    assert seen(container, "quota") == "60000"


def test_update_of_a_created_container(oci: Runtime) -> None:
    container = oci.create(everything(oci))
    oci.ok("update", "--pids-limit", "88", container.id)
    assert seen(container.start(), "pids") == "88"


def test_update_takes_a_limit_away(oci: Runtime) -> None:
    container = oci.start(everything(oci))
    oci.ok("update", "--resources", "-", container.id, stdin=json.dumps({"memory": {"limit": -1, "swap": -1}}).encode())
    assert seen(container, "memory") not in (str(64 * MIB), "")


def test_update_with_bad_json_is_refused(oci: Runtime) -> None:
    container = oci.start(everything(oci))
    oci.no("update", "--resources", "-", container.id, stdin=b"{")
    assert seen(container, "pids") == "77"


def test_update_with_a_word_for_a_number_is_refused(oci: Runtime) -> None:
    container = oci.start(everything(oci))
    oci.no("update", "--resources", "-", container.id, stdin=b'{"pids": {"limit": "many"}}')
    assert seen(container, "pids") == "77"


def test_update_of_an_unknown_container_is_refused(oci: Runtime) -> None:
    oci.no("update", "--pids-limit", "5", "nobody")


def test_an_exec_is_within_the_limits(oci: Runtime) -> None:
    container = oci.start(limited(oci.bundle(), pids={"limit": 24}))
    done = container.exec("sh", "-c", "for i in $(seq 40); do sleep 1000000 >/dev/null 2>&1 & done; echo no end")
    assert "can't fork" in done.err
    assert done.out == ""


def test_a_process_of_a_container_is_in_its_cgroup(oci: Runtime) -> None:
    container = oci.start()
    assert oci.name in Path(f"/proc/{container.pid}/cgroup").read_text()
