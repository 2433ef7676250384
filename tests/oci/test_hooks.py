"""Hooks: when, where, with what; and what becomes of a container whose hooks fail."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.oci.bundle import Bundle
from tests.oci.reaper import LIMIT_S, finish
from tests.oci.runtime import Runtime

ALL = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
OF_CREATE = ALL[:3]
PID = r"""pid=$(echo "$state" | tr -d "\n" | sed -E 's/.*"pid": *([0-9]+).*/\1/')"""


def logged(oci: Runtime) -> Path:
    """A folder that is /log inside too."""
    log = oci.path("log")
    log.mkdir()
    return log


def until(true: Callable[[], bool]) -> None:
    """Of what a container does with a file, which nobody tells."""
    deadline = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def told(oci: Runtime, kind: str, bundle: Bundle) -> dict[str, Any]:
    """The state that a hook of this kind reads from its stdin."""
    log = logged(oci)
    bundle.mount("/log", log, "bind")
    bundle.hook(kind, f'echo "$state" >{"/log" if kind == "startContainer" else log}/state')
    container = oci.start(bundle)
    container.close()
    container.wait()
    oci.ok("delete", container.id)
    state: dict[str, Any] = json.loads((log / "state").read_text())
    assert state["id"] == container.id
    if kind in ("prestart", "createRuntime", "poststart"):
        assert state["pid"] == container.pid
    return state


def test_the_order_of_all(oci: Runtime) -> None:
    bundle, log = oci.bundle("sh", "-c", "echo program >>/log/order"), logged(oci)
    bundle.mount("/log", log, "bind")
    for kind in reversed(ALL):
        bundle.hook(kind, f"echo {kind} >>{'/log' if kind == 'startContainer' else log}/order")
    container = oci.create(bundle)
    assert (log / "order").read_text().split() == [*OF_CREATE]
    container.start()
    container.wait()
    order = (log / "order").read_text().split()
    assert sorted(order[3:]) == ["poststart", "program", "startContainer"]
    assert order.index("startContainer") < order.index("program")
    oci.ok("delete", container.id)
    assert (log / "order").read_text().split()[6:] == ["poststop"]


@pytest.mark.parametrize("kind", ALL)
def test_hooks_of_a_kind_run_in_their_order(oci: Runtime, kind: str) -> None:
    bundle, log = oci.bundle("true"), logged(oci)
    bundle.mount("/log", log, "bind")
    for n in range(3):
        bundle.hook(kind, f"echo {n} >>{'/log' if kind == 'startContainer' else log}/order")
    assert oci.run(bundle).status == 0
    assert (log / "order").read_text().split() == ["0", "1", "2"]


@pytest.mark.parametrize("kind", ALL)
def test_the_state_on_stdin(oci: Runtime, kind: str) -> None:
    bundle = oci.bundle()
    bundle.config["annotations"] = {"org.example": "noted"}
    state = told(oci, kind, bundle)
    assert state["bundle"] == str(bundle.folder)
    assert state["ociVersion"].startswith("1.")
    assert state["annotations"]["org.example"] == "noted"


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("startContainer", "created"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ],
)
def test_the_status_on_stdin(oci: Runtime, kind: str, status: str) -> None:
    assert told(oci, kind, oci.bundle())["status"] == status


def test_the_environment_of_a_hook_is_its_own(oci: Runtime) -> None:
    bundle, log = oci.bundle("true"), logged(oci)
    script = {
        "path": "/bin/sh",
        "args": ["sh", "-c", f"cat >/dev/null; /usr/bin/env >{log}/env"],
        "env": ["A=1", "B=two words"],
    }
    bundle.config["hooks"] = {"createRuntime": [script]}
    assert oci.run(bundle).status == 0
    found = set((log / "env").read_text().splitlines())
    assert {"A=1", "B=two words"} <= found
    assert not any(line.startswith("PATH=") for line in found)


def test_the_arguments_of_a_hook(oci: Runtime) -> None:
    bundle, log = oci.bundle("true"), logged(oci)
    args = ["called so", "-c", f'cat >/dev/null; printf "<%s>" "$0" "$@" >{log}/args', "zero", "a b", ""]
    bundle.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": args}]}
    assert oci.run(bundle).status == 0
    assert (log / "args").read_text() == "<zero><a b><>"


@pytest.mark.parametrize("kind", ["prestart", "createRuntime"])
def test_namespaces_are_there_before_the_program(oci: Runtime, kind: str) -> None:
    bundle, log = oci.bundle("true"), logged(oci)
    bundle.hook(kind, f"{PID}; readlink /proc/$pid/ns/net /proc/self/ns/net >{log}/ns")
    assert oci.run(bundle).status == 0
    containers, hooks = (log / "ns").read_text().split()
    assert containers != hooks


def test_a_network_interface_by_a_hook(oci: Runtime) -> None:
    bundle = oci.bundle("ls", "/sys/class/net")
    tools = "PATH=/usr/sbin:/usr/bin:/sbin:/bin; export PATH"
    bundle.hook("prestart", f"{tools}; {PID}; nsenter --net=/proc/$pid/ns/net ip link add h0 type veth peer name h1")
    assert oci.run(bundle).out.split() == ["h0", "h1", "lo"]


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "poststart", "poststop"])
def test_hooks_of_the_runtime_see_the_hosts_files(oci: Runtime, kind: str) -> None:
    bundle, log = oci.bundle("true"), logged(oci)
    bundle.file("/only-inside")
    bundle.hook(kind, f"test -e /only-inside || echo host >{log}/where")
    assert oci.run(bundle).status == 0
    assert (log / "where").read_text() == "host\n"


def test_start_container_runs_inside(oci: Runtime) -> None:
    bundle = oci.bundle("cat", "/where")
    bundle.file("/bin/hook", "#!/bin/sh\ncat >/dev/null\nhostname >/where\n", 0o755)
    bundle.config["hooks"] = {"startContainer": [{"path": "/bin/hook"}]}
    assert oci.run(bundle).out == "box\n"


def test_create_container_mounts_what_the_program_sees(oci: Runtime) -> None:
    bundle = oci.bundle("cat", "/mnt/file")
    source = oci.path("source")
    source.mkdir()
    (source / "file").write_text("by the hook")
    (bundle.rootfs / "mnt").mkdir()
    bundle.hook("createContainer", f"/bin/mount --bind {source} {bundle.rootfs}/mnt")
    assert oci.run(bundle).out == "by the hook"


@pytest.mark.parametrize("kind", OF_CREATE)
def test_a_failing_hook_of_create_refuses_it(oci: Runtime, kind: str) -> None:
    bundle = oci.bundle("true")
    bundle.hook(kind, "exit 3")
    oci.refuses(bundle, status=None)


@pytest.mark.parametrize("kind", OF_CREATE)
def test_the_status_of_create_is_1_when_a_hook_fails(oci: Runtime, kind: str) -> None:
    bundle = oci.bundle("true")
    bundle.hook(kind, "exit 3")
    oci.refuses(bundle)


@pytest.mark.parametrize("kind", OF_CREATE)
def test_after_a_failing_hook_no_other_runs(oci: Runtime, kind: str) -> None:
    bundle, log = oci.bundle("true"), logged(oci)
    bundle.hook(kind, "exit 3")
    bundle.hook(kind, f"touch {log}/ran")
    oci.refuses(bundle, status=None)
    assert not (log / "ran").exists()


def test_a_failing_hook_of_start_container_refuses_start(oci: Runtime) -> None:
    bundle = oci.bundle("echo", "ran")
    bundle.hook("startContainer", "exit 3")
    container = oci.create(bundle)
    oci.call("start", container.id)
    assert container.out.rest() == ""
    assert container.wait() != 0


def test_a_failing_hook_of_start_container_is_told(oci: Runtime) -> None:
    bundle = oci.bundle("echo", "ran")
    bundle.hook("startContainer", "exit 3")
    container = oci.create(bundle)
    oci.no("start", container.id)


def test_a_failing_hook_after_the_stop_does_not_keep_the_container(oci: Runtime) -> None:
    bundle, log = oci.bundle("true"), logged(oci)
    bundle.hook("poststop", "exit 3")
    bundle.hook("poststop", f"touch {log}/ran")
    container = oci.start(bundle)
    container.wait()
    oci.ok("delete", container.id)
    oci.no("state", container.id)


@pytest.mark.parametrize("kind", OF_CREATE)
def test_a_hook_that_hangs_is_ended(oci: Runtime, kind: str) -> None:
    bundle = oci.bundle("true")
    bundle.hook(kind, "exec sleep 1000000", timeout=1)
    oci.refuses(bundle)


def test_a_hook_that_hangs_inside_is_ended(oci: Runtime) -> None:
    bundle = oci.bundle("echo", "ran")
    bundle.hook("startContainer", "exec sleep 1000000", timeout=1)
    container = oci.create(bundle)
    oci.call("start", container.id)
    assert container.out.rest() == ""
    assert container.wait() != 0
    assert container.state()["status"] == "stopped"


@pytest.mark.parametrize("verb", ["kill", "delete"])
def test_who_waits_for_a_hook_inside_can_be_ended(oci: Runtime, verb: str) -> None:
    """One without a timeout, which nobody else ends."""
    bundle, log = oci.bundle("echo", "ran"), logged(oci)
    bundle.mount("/log", log, "bind")
    bundle.hook("startContainer", "touch /log/begun; exec sleep 1000000")
    container = oci.create(bundle)
    starting = oci.spawn("start", container.id)
    until((log / "begun").exists)
    if verb == "kill":
        container.kill("KILL")
        assert container.wait() == 137
    assert oci.call("delete", "--force", container.id).status == 0
    assert container.out.rest() == ""
    finish(starting)
    oci.no("state", container.id)


@pytest.mark.parametrize("how", ["exit 3", "exec sleep 1000000"])
@pytest.mark.parametrize("kind", ["poststart", "poststop"])
def test_a_hook_that_comes_after_keeps_nobody(oci: Runtime, kind: str, how: str) -> None:
    bundle = oci.bundle()
    bundle.hook(kind, how, timeout=1)
    id = oci.id()
    bundle.save()
    oci.call("run", "--detach", "--bundle", bundle.folder, id)
    oci.call("delete", "--force", id)
    oci.no("state", id)


@pytest.mark.parametrize("kind", ["poststart", "poststop"])
def test_a_missing_hook_that_comes_after_keeps_nobody(oci: Runtime, kind: str) -> None:
    bundle = oci.bundle()
    bundle.config["hooks"] = {kind: [{"path": "/no/such/hook"}]}
    id = oci.id()
    bundle.save()
    oci.call("run", "--detach", "--bundle", bundle.folder, id)
    oci.call("delete", "--force", id)
    oci.no("state", id)


@pytest.mark.parametrize("kind", OF_CREATE)
def test_a_hook_that_is_missing_refuses_create(oci: Runtime, kind: str) -> None:
    bundle = oci.bundle("true")
    bundle.config["hooks"] = {kind: [{"path": "/no/such/hook"}]}
    assert "/no/such/hook" in oci.refuses(bundle, status=None)


def test_a_relative_path_is_refused(oci: Runtime) -> None:
    bundle = oci.bundle("true")
    bundle.config["hooks"] = {"prestart": [{"path": "bin/true"}]}
    oci.refuses(bundle, status=None)


def test_a_hook_that_does_not_read_its_stdin(oci: Runtime) -> None:
    bundle = oci.bundle("echo", "ran")
    bundle.config["annotations"] = {"big": "x" * 200_000}
    bundle.config["hooks"] = {"createRuntime": [{"path": "/bin/true"}]}
    assert oci.run(bundle).out == "ran\n"


def test_output_of_a_hook_is_not_the_containers(oci: Runtime) -> None:
    bundle = oci.bundle("echo", "ran")
    bundle.hook("createRuntime", "echo said by the hook")
    assert oci.run(bundle) == (0, "ran\n", "")


def test_no_hook_runs_for_an_exec(oci: Runtime) -> None:
    bundle, log = oci.bundle(), logged(oci)
    bundle.mount("/log", log, "bind")
    for kind in ALL:
        bundle.hook(kind, f"echo {kind} >>{'/log' if kind == 'startContainer' else log}/order")
    container = oci.start(bundle)
    before = (log / "order").read_text()
    assert container.exec("true").status == 0
    assert (log / "order").read_text() == before


def test_poststop_runs_for_a_container_that_never_started(oci: Runtime) -> None:
    bundle, log = oci.bundle(), logged(oci)
    bundle.hook("poststop", f"touch {log}/ran")
    container = oci.create(bundle)
    oci.ok("delete", "--force", container.id)
    assert (log / "ran").exists()


def test_poststop_waits_for_delete(oci: Runtime) -> None:
    bundle, log = oci.bundle("true"), logged(oci)
    bundle.hook("poststop", f"touch {log}/ran")
    container = oci.start(bundle)
    container.wait()
    assert container.state()["status"] == "stopped"
    assert not (log / "ran").exists()
