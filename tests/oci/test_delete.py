"""delete: what may be deleted, and what is gone afterwards."""

from pathlib import Path

import pytest

from tests.oci import left
from tests.oci.reaper import finish
from tests.oci.runtime import Runtime


def test_a_stopped_container(oci: Runtime) -> None:
    container = oci.start(oci.bundle("true"))
    container.wait()
    oci.ok("delete", container.id)
    oci.no("state", container.id)


def test_a_running_container_is_refused(oci: Runtime) -> None:
    container = oci.start()
    oci.no("delete", container.id)
    assert container.state()["status"] == "running"
    container.close()
    assert container.wait() == 0


def test_a_running_container_by_force(oci: Runtime) -> None:
    container = oci.start()
    oci.ok("delete", "--force", container.id)
    assert container.wait() == 137
    oci.no("state", container.id)


def test_a_created_container_by_force(oci: Runtime) -> None:
    container = oci.create(oci.bundle())
    oci.ok("delete", "--force", container.id)
    assert container.wait() == 137


def test_a_created_container_needs_no_force(oci: Runtime) -> None:
    container = oci.create(oci.bundle())
    oci.ok("delete", container.id)
    assert container.wait() == 137


def test_an_unknown_container_by_force_is_no_error(oci: Runtime) -> None:
    assert oci.call("delete", "--force", "nobody").status == 0


def test_a_second_time_is_refused(oci: Runtime) -> None:
    container = oci.start(oci.bundle("true"))
    container.wait()
    oci.ok("delete", container.id)
    oci.no("delete", container.id)


def test_all_its_processes_are_gone(oci: Runtime) -> None:
    container = oci.start(oci.bundle("sh", "-c", "for i in 1 2 3; do sleep 1000000 & done; echo up; exec cat"))
    assert container.out.line() == "up\n"
    oci.ok("delete", "--force", container.id)
    assert container.out.rest() == ""  # nobody has it open
    container.wait()
    assert left.processes(oci.processes) == []


def test_its_execs_are_gone(oci: Runtime) -> None:
    container = oci.start()
    process = oci.spawn("exec", container.id, "sleep", "1000000")
    oci.ok("delete", "--force", container.id)
    assert finish(process) != 0


def test_its_cgroups_are_gone(oci: Runtime) -> None:
    container = oci.start()
    assert left.cgroups(oci.name)
    oci.ok("delete", "--force", container.id)
    assert left.cgroups(oci.name) == []


def test_the_bundle_stays(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "echo x >/made")
    container = oci.start(bundle)
    container.wait()
    oci.ok("delete", container.id)
    assert (bundle.rootfs / "made").read_text() == "x\n"
    assert (bundle.folder / "config.json").exists()


def test_what_was_mounted_stays(oci: Runtime, tmp_path: Path) -> None:
    bundle = oci.bundle("touch", "/data/made")
    bundle.mount("/data", tmp_path, "bind")
    container = oci.start(bundle)
    container.wait()
    oci.ok("delete", container.id)
    assert (tmp_path / "made").exists()


def test_when_the_bundle_has_gone(oci: Runtime) -> None:
    bundle = oci.bundle("true")
    container = oci.start(bundle)
    container.wait()
    (bundle.folder / "config.json").unlink()
    oci.ok("delete", container.id)
    oci.no("state", container.id)


def test_when_the_rootfs_has_gone(oci: Runtime) -> None:
    bundle = oci.bundle("true")
    container = oci.start(bundle)
    container.wait()
    bundle.rootfs.rename(bundle.folder / "elsewhere")
    oci.ok("delete", container.id)


def test_one_without_a_pid_namespace_ends_whole(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "sleep 1000000 & echo up; exec cat")
    bundle.linux["namespaces"] = [one for one in bundle.linux["namespaces"] if one["type"] != "pid"]
    container = oci.start(bundle)
    assert container.out.line() == "up\n"
    oci.ok("delete", "--force", container.id)
    assert container.out.rest() == ""


@pytest.mark.parametrize("verb", ["start", "kill", "exec", "pause"])
def test_a_verb_after_it_is_refused(oci: Runtime, verb: str) -> None:
    container = oci.start(oci.bundle("true"))
    container.wait()
    oci.ok("delete", container.id)
    words = {"kill": ["KILL"], "exec": ["true"]}.get(verb, [])
    assert oci.call(verb, container.id, *words).status != 0
