"""state: the document that engines read."""

import json
from datetime import datetime

import pytest

from tests.oci.runtime import Runtime


def test_what_is_in_it(oci: Runtime) -> None:
    bundle = oci.bundle()
    container = oci.create(bundle)
    state = container.state()
    assert (state["id"], state["status"], state["pid"]) == (container.id, "created", container.pid)
    assert state["bundle"] == str(bundle.folder)
    assert state["ociVersion"].startswith("1.")


def test_the_types_of_it(oci: Runtime) -> None:
    types = {"ociVersion": str, "id": str, "status": str, "pid": int, "bundle": str, "annotations": dict}
    bundle = oci.bundle()
    bundle.config["annotations"] = {"a": "b"}
    state = oci.create(bundle).state()
    assert {key: type(state[key]) for key in types} == types


def test_created_running_stopped(oci: Runtime) -> None:
    container = oci.create(oci.bundle())
    found = [container.state()["status"]]
    container.start()
    found.append(container.state()["status"])
    container.close()
    container.wait()
    found.append(container.state()["status"])
    assert found == ["created", "running", "stopped"]


def test_paused(oci: Runtime) -> None:
    container = oci.start()
    oci.ok("pause", container.id)
    assert container.state()["status"] == "paused"
    oci.ok("resume", container.id)
    assert container.state()["status"] == "running"


def test_the_pid_of_a_stopped_one_is_0(oci: Runtime) -> None:
    container = oci.start(oci.bundle("true"))
    container.wait()
    assert container.state()["pid"] == 0


def test_the_pid_stays_from_created_to_running(oci: Runtime) -> None:
    container = oci.create(oci.bundle())
    before = container.state()["pid"]
    assert container.start().state()["pid"] == before


def test_annotations(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.config["annotations"] = {"org.example.key": "value", "empty": "", "ü": '日本 "quoted"'}
    assert oci.create(bundle).state()["annotations"] == bundle.config["annotations"]


def test_the_bundle_is_absolute(oci: Runtime) -> None:
    bundle, id = oci.bundle("sleep", "1000000"), oci.id()
    bundle.save()
    done = oci.call("run", "--detach", "--bundle", bundle.folder.name, id, cwd=bundle.folder.parent)
    assert done.status == 0
    assert json.loads(oci.ok("state", id).out)["bundle"] == str(bundle.folder)


def test_the_rootfs(oci: Runtime) -> None:
    bundle = oci.bundle()
    assert oci.create(bundle).state()["rootfs"] == str(bundle.rootfs)


def test_when_it_was_created(oci: Runtime) -> None:
    created = oci.create(oci.bundle()).state()["created"]
    assert datetime.fromisoformat(created.partition(".")[0].rstrip("Z")).year >= 2020


def test_it_does_not_change_by_asking(oci: Runtime) -> None:
    container = oci.start()
    assert container.state() == container.state()


def test_one_document_and_nothing_else(oci: Runtime) -> None:
    container = oci.start()
    done = oci.ok("state", container.id)
    assert json.loads(done.out)
    assert done.err == ""


def test_a_killed_one_is_stopped(oci: Runtime) -> None:
    container = oci.start()
    container.end()
    assert container.state()["status"] == "stopped"


def test_a_process_killed_by_others_is_seen(oci: Runtime) -> None:
    container = oci.start()
    oci.host("kill", "-KILL", str(container.pid))
    assert container.wait() == 137
    assert container.state()["status"] == "stopped"


@pytest.mark.parametrize("end", ["true", "false"])
def test_a_stopped_one_whatever_its_status(oci: Runtime, end: str) -> None:
    container = oci.start(oci.bundle(end))
    container.wait()
    assert container.state()["status"] == "stopped"
