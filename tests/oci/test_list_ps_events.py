"""list, ps, events, spec, features: what a runtime tells of itself and of its containers."""

import json
import os
from pathlib import Path

import pytest

from tests.oci.reaper import finish
from tests.oci.runtime import Output, Runtime


def test_a_list_of_none(oci: Runtime) -> None:
    assert json.loads(oci.ok("list", "--format", "json").out) in ([], None)
    assert oci.ok("list", "--quiet").out == ""


def test_a_list_of_ids(oci: Runtime) -> None:
    ids = {oci.start().id, oci.create(oci.bundle()).id}
    assert set(oci.ok("list", "--quiet").out.split()) == ids


def test_a_list_for_people(oci: Runtime) -> None:
    container = oci.start()
    header, row = oci.ok("list").out.splitlines()
    assert header.split()[:4] == ["ID", "PID", "STATUS", "BUNDLE"] or header.split()[0] == "NAME"
    assert row.split()[:3] == [container.id, str(container.pid), "running"]


def test_a_list_for_programs(oci: Runtime) -> None:
    bundle = oci.bundle()
    container = oci.start(bundle)
    [found] = json.loads(oci.ok("list", "--format", "json").out)
    assert (found["id"], found["pid"], found["status"]) == (container.id, container.pid, "running")
    assert found["bundle"] == str(bundle.folder)


def test_statuses_in_a_list(oci: Runtime) -> None:
    created, running, stopped = oci.create(oci.bundle()), oci.start(), oci.start()
    stopped.end()
    found = {one["id"]: one["status"] for one in json.loads(oci.ok("list", "--format", "json").out)}
    assert found == {created.id: "created", running.id: "running", stopped.id: "stopped"}


def test_a_deleted_container_is_in_no_list(oci: Runtime) -> None:
    container = oci.start()
    oci.ok("delete", "--force", container.id)
    assert oci.ok("list", "--quiet").out == ""


def test_an_unknown_format_of_a_list_is_refused(oci: Runtime) -> None:
    assert oci.call("list", "--format", "nosuch").status != 0


def test_pids_for_programs(oci: Runtime) -> None:
    container = oci.start()
    assert json.loads(oci.ok("ps", "--format", "json", container.id).out) == [container.pid]


def test_pids_of_children(oci: Runtime) -> None:
    container = oci.start(oci.bundle("sh", "-c", "sleep 1000000 & echo up; exec cat"))
    assert container.out.line() == "up\n"
    assert len(json.loads(oci.ok("ps", "--format", "json", container.id).out)) == 2


def test_pids_of_an_exec(oci: Runtime) -> None:
    container = oci.start()
    assert container.exec("sleep", "1000000", options=["--detach"]).status == 0
    assert len(json.loads(oci.ok("ps", "--format", "json", container.id).out)) == 2


def test_processes_for_people(oci: Runtime) -> None:
    container = oci.start(oci.bundle("sleep", "1000000"))
    assert str(container.pid) in oci.ok("ps", container.id).out


def test_processes_with_the_options_of_ps(oci: Runtime) -> None:
    container = oci.start(oci.bundle("sleep", "1000000"))
    lines = oci.ok("ps", container.id, "-o", "pid,args").out.splitlines()
    assert lines[0].split() == ["PID", "COMMAND"]
    assert [line.split() for line in lines[1:]] == [[str(container.pid), "sleep", "1000000"]]


def test_processes_of_a_created_container(oci: Runtime) -> None:
    container = oci.create(oci.bundle())
    assert json.loads(oci.ok("ps", "--format", "json", container.id).out) == [container.pid]


def test_statistics(oci: Runtime) -> None:
    container = oci.start()
    stats = json.loads(oci.ok("events", "--stats", container.id).out)
    assert (stats["type"], stats["id"]) == ("stats", container.id)
    data = stats["data"]
    assert data["cpu"]["usage"]["total"] > 0
    assert data["memory"]["usage"]["usage"] > 0
    assert data["pids"]["current"] == 1


def test_statistics_of_limits(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.linux["resources"].update(memory={"limit": 64 << 20}, pids={"limit": 77})
    data = json.loads(oci.ok("events", "--stats", oci.start(bundle).id).out)["data"]
    assert (data["memory"]["usage"]["limit"], data["pids"]["limit"]) == (64 << 20, 77)


def test_statistics_tell_how_often_a_limit_was_met(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "cat /large >/dev/null; echo read; read x")
    bundle.linux["resources"]["memory"] = {"limit": 16 << 20}
    os.truncate(bundle.file("large"), 64 << 20)
    container = oci.start(bundle)
    assert container.out.line() == "read\n"
    memory = json.loads(oci.ok("events", "--stats", container.id).out)["data"]["memory"]
    assert memory["usage"]["failcnt"] > 0
    assert 0 < memory["usage"]["usage"] <= memory["usage"]["max"] <= 16 << 20
    assert memory["kernel"]["usage"] > 0


def test_statistics_again_and_again(oci: Runtime) -> None:
    container = oci.start()
    process = oci.spawn("events", "--interval", "10ms", container.id)
    assert process.stdout
    output = Output(process.stdout.fileno())
    assert [json.loads(output.line())["type"] for _ in range(3)] == ["stats"] * 3
    container.end()
    oci.ok("delete", container.id)
    output.rest()
    assert finish(process) == 0


def test_an_event_of_too_little_memory(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "read x; head -c 200000000 /dev/zero | tail >/dev/null")
    bundle.linux["resources"]["memory"] = {"limit": 32 << 20}
    container = oci.start(bundle)
    process = oci.spawn("events", "--interval", "100ms", container.id)
    assert process.stdout
    output = Output(process.stdout.fileno())
    assert json.loads(output.line())["type"] == "stats"
    container.close()
    assert container.wait() == 137
    oci.ok("delete", container.id)
    events = [json.loads(line) for line in output.rest().splitlines()]
    assert {"type": "oom", "id": container.id} in events


def test_statistics_of_a_stopped_container_are_refused(oci: Runtime) -> None:
    container = oci.start()
    container.end()
    assert oci.call("events", "--stats", container.id).status != 0


def test_a_spec(oci: Runtime) -> None:
    folder = oci.path("folder")
    folder.mkdir()
    oci.ok("spec", "--bundle", folder)
    spec = json.loads((folder / "config.json").read_text())
    assert spec["process"]["args"] == ["sh"]
    assert spec["process"]["terminal"] is True
    assert spec["root"] == {"path": "rootfs", "readonly": True}
    assert {"pid", "network", "ipc", "uts", "mount"} <= {one["type"] for one in spec["linux"]["namespaces"]}


def test_a_spec_is_for_the_callers_folder(oci: Runtime) -> None:
    folder = oci.path("folder")
    folder.mkdir()
    assert oci.call("spec", cwd=folder).status == 0
    assert json.loads((folder / "config.json").read_text())["ociVersion"].startswith("1.")


def test_a_spec_that_is_there_already_stays(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.save()
    before = (bundle.folder / "config.json").read_text()
    assert oci.call("spec", "--bundle", bundle.folder).status != 0
    assert (bundle.folder / "config.json").read_text() == before


def test_a_spec_runs(oci: Runtime) -> None:
    bundle = oci.bundle()
    oci.ok("spec", "--bundle", bundle.folder)
    spec = json.loads((bundle.folder / "config.json").read_text())
    spec["process"].update(args=["echo", "ran"], terminal=False)
    spec["linux"]["cgroupsPath"] = f"/{oci.name}"
    bundle.config = spec
    assert oci.run(bundle).out == "ran\n"


def test_features(oci: Runtime) -> None:
    features = json.loads(oci.ok("features").out)
    assert features["ociVersionMin"].startswith("1.0")
    assert {"createRuntime", "createContainer", "startContainer", "poststop"} <= set(features["hooks"])
    assert {"bind", "ro", "rprivate", "noexec"} <= set(features["mountOptions"])
    assert {"pid", "network", "mount"} <= set(features["linux"]["namespaces"])


@pytest.mark.parametrize("feature", ["seccomp", "cgroup", "apparmor", "selinux"])
def test_features_of_linux(oci: Runtime, feature: str) -> None:
    assert "enabled" in json.loads(oci.ok("features").out)["linux"][feature] or feature == "cgroup"


def test_the_version(oci: Runtime, tmp_path: Path) -> None:
    first, *lines = oci.ok("--version").out.splitlines()
    assert " version " in first
    assert any(line.startswith("spec: 1.") for line in lines)
