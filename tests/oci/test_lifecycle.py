"""create, start, run: what comes into being when, and what of it ends."""

import json
from pathlib import Path

import pytest

from tests.oci.runtime import Runtime


def test_a_created_container_has_not_run_its_program(oci: Runtime) -> None:
    container = oci.create(oci.bundle("echo", "ran"))
    assert container.state()["status"] == "created"
    container.end()
    assert container.out.rest() == ""


def test_start_runs_the_program(oci: Runtime) -> None:
    container = oci.start(oci.bundle("echo", "ran"))
    assert container.out.rest() == "ran\n"
    assert container.wait() == 0


def test_start_returns_while_the_program_runs(oci: Runtime) -> None:
    container = oci.start()
    assert container.state()["status"] == "running"
    container.close()
    assert container.wait() == 0


def test_a_container_stays_when_its_program_has_ended(oci: Runtime) -> None:
    container = oci.start(oci.bundle("true"))
    container.wait()
    assert container.state()["status"] == "stopped"


def test_the_pid_file_of_create_has_the_pid_of_the_state(oci: Runtime) -> None:
    container = oci.create(oci.bundle())
    assert container.state()["pid"] == container.pid


def test_the_pid_file_has_digits_and_nothing_else(oci: Runtime) -> None:
    bundle, pid_file = oci.bundle("sleep", "1000000"), oci.path()
    bundle.save()
    oci.ok("run", "--detach", "--bundle", bundle.folder, "--pid-file", pid_file, oci.id())
    assert pid_file.read_bytes().isdigit()


def test_the_first_process_is_a_child_of_the_caller(oci: Runtime) -> None:
    container = oci.create(oci.bundle())
    container.kill()
    assert container.wait() == 137


def test_a_second_start_is_refused(oci: Runtime) -> None:
    container = oci.start()
    oci.no("start", container.id)
    assert container.state()["status"] == "running"


def test_a_stopped_container_does_not_start_again(oci: Runtime) -> None:
    container = oci.start(oci.bundle("true"))
    container.wait()
    oci.no("start", container.id)


def test_an_id_is_of_one_container(oci: Runtime) -> None:
    container, other = oci.start(), oci.bundle("true")
    other.save()
    assert "exist" in oci.no("create", "--bundle", other.folder, container.id)
    assert container.state()["status"] == "running"


def test_an_id_is_free_after_delete(oci: Runtime) -> None:
    bundle = oci.bundle("echo", "again")
    first = oci.start(bundle)
    first.wait()
    oci.ok("delete", first.id)
    second = oci.create(bundle, id=first.id).start()
    assert second.out.rest() == "again\n"


def test_two_containers_of_one_bundle(oci: Runtime) -> None:
    bundle = oci.bundle()
    first = oci.start(bundle)
    bundle.linux["cgroupsPath"] += "-second"
    second = oci.start(bundle)
    assert first.end() == 137
    assert second.state()["status"] == "running"


def test_what_is_changed_in_the_bundle_after_create_does_not_count(oci: Runtime) -> None:
    bundle = oci.bundle("echo", "before")
    container = oci.create(bundle)
    bundle.process["args"] = ["echo", "after"]
    bundle.save()
    assert container.start().out.rest() == "before\n"


def test_the_bundle_is_the_folder_of_the_caller_when_none_is_named(oci: Runtime) -> None:
    bundle = oci.bundle("echo", "here")
    bundle.save()
    assert oci.call("run", oci.id(), cwd=bundle.folder) == (0, "here\n", "")


def test_a_bundle_may_be_named_relatively(oci: Runtime) -> None:
    bundle = oci.bundle("echo", "here")
    bundle.save()
    done = oci.call("run", "--bundle", bundle.folder.name, oci.id(), cwd=bundle.folder.parent)
    assert done == (0, "here\n", "")


def test_run_waits_and_leaves_no_container(oci: Runtime) -> None:
    bundle, id = oci.bundle("echo", "ran"), oci.id()
    bundle.save()
    assert oci.call("run", "--bundle", bundle.folder, id) == (0, "ran\n", "")
    oci.no("state", id)


def test_run_keep_leaves_the_container(oci: Runtime) -> None:
    bundle, id = oci.bundle("true"), oci.id()
    bundle.save()
    oci.ok("run", "--keep", "--bundle", bundle.folder, id)
    assert json.loads(oci.ok("state", id).out)["status"] == "stopped"


def test_run_detached_returns_while_it_runs(oci: Runtime) -> None:
    bundle, id, pid_file = oci.bundle("sleep", "1000000"), oci.id(), oci.path()
    bundle.save()
    oci.ok("run", "--detach", "--bundle", bundle.folder, "--pid-file", pid_file, id)
    state = json.loads(oci.ok("state", id).out)
    assert (state["status"], state["pid"]) == ("running", int(pid_file.read_text()))


def test_run_writes_a_pid_file_too(oci: Runtime) -> None:
    bundle, pid_file = oci.bundle("true"), oci.path()
    assert oci.run(bundle, "--pid-file", pid_file).status == 0
    assert pid_file.read_text().isdigit()


def test_another_root_does_not_know_the_container(oci: Runtime, tmp_path: Path) -> None:
    container = oci.start()
    oci.root, ours = tmp_path, oci.root
    oci.no("state", container.id)
    oci.root = ours
    assert container.state()["status"] == "running"


def test_the_same_id_in_two_roots_is_two_containers(oci: Runtime, tmp_path: Path) -> None:
    container, ours = oci.start(), oci.root
    oci.root = tmp_path / "second"
    other = oci.create(oci.bundle(), id=container.id).start()
    assert other.pid != container.pid
    oci.ok("delete", "--force", other.id)
    oci.root = ours
    assert container.state()["status"] == "running"


def test_a_second_life_does_not_see_the_first(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "test -e /dev/shm/was && echo seen; touch /dev/shm/was")
    assert [oci.run(bundle).out for _ in range(2)] == ["", ""]


@pytest.mark.parametrize("verb", ["state", "start", "kill", "delete", "pause", "resume", "ps", "update"])
def test_a_verb_on_an_unknown_container_is_refused(oci: Runtime, verb: str) -> None:
    oci.no(verb, "nobody")


@pytest.mark.parametrize("verb", ["state", "start", "kill", "delete", "exec"])
def test_engines_read_that_a_container_does_not_exist(oci: Runtime, verb: str) -> None:
    done = oci.call(verb, "nobody", *{"exec": ["true"]}.get(verb, []))
    assert done.status != 0
    assert "does not exist" in done.err
